"""starman.gunicorn.mapping.worker_class: what becomes of the classes of workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from starman.gunicorn import stand_in
from starman.gunicorn.mapping.worker_class import worker_class

SYNC = type("SyncWorker", (stand_in.Worker,), {"__module__": "gunicorn.workers.sync"})
GEVENT = type("GeventWorker", (stand_in.Worker,), {"__module__": "gunicorn.workers.ggevent"})


@pytest.mark.parametrize(
    ("value", "threads", "expected"),
    [
        ("sync", 1, (1, True)),
        ("sync", 8, (8, False)),
        ("sync", 0, (1, True)),
        ("gthread", 4, (4, False)),
        ("gthread", 1, (1, False)),
        ("gunicorn.workers.sync.SyncWorker", 1, (1, True)),
        ("egg:gunicorn#gthread", 2, (2, False)),
        (SYNC, 3, (3, False)),
    ],
)
def test_sync_and_gthread_are_threads(value: object, threads: int, expected: tuple[int, bool]) -> None:
    found = worker_class(value, threads, 1000)
    assert (found.threads, found.sync, found.warning, found.refusal) == (*expected, "", "")


@pytest.mark.parametrize(
    "value", ["gevent", "eventlet", "tornado", "gunicorn.workers.ggevent.GeventWorker", "egg:gunicorn#gevent"]
)
def test_greenlets_become_threads_with_a_warning(value: str) -> None:
    found = worker_class(value, 1, 1000)
    assert found.threads == 64
    assert "becomes threads, 64 in each worker" in found.warning
    assert worker_class(value, 1, 20).threads == 20
    assert worker_class(value, 8, 1000).threads == 8


@pytest.mark.parametrize(
    "value", ["uvicorn.workers.UvicornWorker", "asgi", "aiohttp.GunicornWebWorker", "uvicorn_worker.UvicornH11Worker"]
)
def test_asgi_is_refused(value: str) -> None:
    assert "serves ASGI applications" in worker_class(value, 1, 1000).refusal


def test_a_class_of_ones_own_is_run_as_its_base_with_a_warning() -> None:
    own = type("Own", (GEVENT,), {"__module__": "conf"})
    assert worker_class(own, 1, 1000).threads == 64
    assert "the methods of conf.Own are not called" in worker_class(own, 1, 1000).warning
    own = type("Own", (SYNC,), {"__module__": "conf"})
    assert "the methods of conf.Own are not called" in worker_class(own, 2, 1000).warning
    found = worker_class("tests.unit.gunicorn.resolving.Own", 2, 1000)
    assert (found.refusal, found.threads) == ("", 2)
    assert "the class tests.unit.gunicorn.resolving.Own is not used" in found.warning
    assert worker_class("egg:elsewhere#own", 2, 1000).refusal == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gthraed", "there is no class of workers 'gthraed'; did you mean 'gthread'?"),
        ("egg:gunicorn#gevnt", "there is no class of workers 'gevnt'; did you mean 'gevent'?"),
        ("nosuch", "there is no class of workers 'nosuch'; write sync, gthread, gevent, tornado, eventlet, or MODULE.CLASS"),
        ("nosuch.Worker", "the class of workers nosuch.Worker cannot be imported: there is no module nosuch"),
        ("json.nosuch.Worker", "the class of workers json.nosuch.Worker cannot be imported: there is no module json.nosuch"),
        (
            "decimal.nosuch.Worker",
            "the class of workers decimal.nosuch.Worker cannot be imported: there is no module decimal.nosuch",
        ),
    ],
)
def test_a_class_that_does_not_exist_is_refused(name: str, expected: str) -> None:
    """As gunicorn does: to go on with one thread would be silent."""
    assert worker_class(name, 1, 1000).refusal == expected


def test_a_class_is_found_where_the_application_is(tmp_path: Path) -> None:
    """Its module is not executed."""
    (tmp_path / "own_workers").mkdir()
    (tmp_path / "own_workers" / "quick.py").write_text("raise SystemExit\n")
    assert worker_class("own_workers.quick.Worker", 1, 1000, [str(tmp_path)]).refusal == ""
    assert "no module own_workers.slow" in worker_class("own_workers.slow.Worker", 1, 1000, [str(tmp_path)]).refusal
