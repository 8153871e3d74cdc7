"""starman.gunicorn.worker_class: what becomes of the classes of workers."""

from __future__ import annotations

import pytest

from starman.gunicorn import stand_in
from starman.gunicorn.worker_class import worker_class

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
    assert "the class app.workers.Own is not used" in worker_class("app.workers.Own", 2, 1000).warning
