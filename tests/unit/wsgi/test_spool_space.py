"""starman.wsgi.spool_space: temporary files take no more than their space, and give it back however they end."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from starman.wsgi import body as body_module
from starman.wsgi.body import RequestBody
from starman.wsgi.body_memory import BodyMemory
from starman.wsgi.spool_space import SpoolLease, SpoolSpace


def test_files_share_the_space_and_a_refusal_takes_nothing() -> None:
    space = SpoolSpace(100)
    first, second = SpoolLease(space), SpoolLease(space)
    first.reserve_bytes(60)
    assert not space.has(41)
    with pytest.raises(OSError, match=r"would take 101 bytes \(spool_limit\)") as caught:
        second.reserve_bytes(41)
    assert caught.value.errno == errno.ENOSPC
    second.reserve_bytes(40)
    assert space.used == 100
    first.release()
    assert (space.used, space.has(60)) == (40, True)
    second.release()
    assert space.used == 0


def test_a_file_takes_its_space_until_its_last_descriptor_is_closed() -> None:
    space = SpoolSpace(100)
    lease = SpoolLease(space)
    lease.reserve_bytes(10)
    lease.hold()
    lease.release()
    assert space.used == 10
    lease.release()
    assert space.used == 0


def test_0_is_no_limit() -> None:
    space = SpoolSpace(0)
    assert space.has(1 << 60)
    SpoolLease(space).reserve_bytes(1 << 60)


def test_auto_takes_as_much_as_it_leaves_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers on one disk of 3,000 bytes: each takes a third."""
    disk = [3000]
    asked: list[object] = []

    def statvfs(path: object) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(f_bavail=disk[0] // 10, f_frsize=10, f_blocks=300)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "statvfs", statvfs)
    workers = [SpoolSpace(None), SpoolSpace(None)]
    leases = [SpoolLease(space) for space in workers]
    full = 0
    while full < 2:
        full = 0
        for lease in leases:
            try:
                lease.reserve_bytes(10)
                disk[0] -= 10
            except OSError:
                full += 1
    assert [space.used for space in workers] == [1000, 1000]
    assert set(asked) == {str(tmp_path)}


@pytest.mark.parametrize("blocks", [0, None])
def test_auto_is_no_limit_where_the_free_space_is_unknown(blocks: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: object) -> SimpleNamespace:
        if blocks is None:
            raise OSError(errno.ENOSYS, "not here")
        return SimpleNamespace(f_bavail=0, f_frsize=1, f_blocks=blocks)

    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert SpoolSpace(None).has(1 << 40)


def test_before_the_first_file_the_loop_does_not_look_for_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python tries directories by writing to them."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert SpoolSpace(None).has(1)
    assert tempfile.tempdir is None


def test_threads_take_and_release_at_the_same_time() -> None:
    space = SpoolSpace(1 << 40)

    def work() -> None:
        for _ in range(2000):
            lease = SpoolLease(space)
            lease.reserve_bytes(3)
            lease.hold()
            lease.release()
            lease.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert space.used == 0


@pytest.mark.parametrize("end", ["close", "discard"])
def test_a_body_gives_its_space_back(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "close_in_background", lambda close, *arguments: close(*arguments))
    space = SpoolSpace(1000)
    body = RequestBody(BodyMemory(0, 1 << 20), None, space)
    body.write(b"x" * 600)
    body.spool()
    assert space.used == 600
    body.write(b"x" * 300)
    assert body.reader().read() == b"x" * 900
    assert space.used == 900
    getattr(body, end)()
    getattr(body, end)()
    assert space.used == 0


def test_a_body_that_has_no_file_gives_its_space_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    space = SpoolSpace(1000)
    body = RequestBody(BodyMemory(0, 1 << 20), None, space)
    body.write(b"x" * 600)
    with pytest.raises(FileNotFoundError):
        body.spool()
    body.close()
    assert space.used == 0
