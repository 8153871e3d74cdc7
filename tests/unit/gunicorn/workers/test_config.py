"""starman.gunicorn.workers.config and look_alikes: what hooks find on `cfg`, the server and a worker."""

from __future__ import annotations

import os
from typing import Any

import pytest

from starman.gunicorn.stand_in_logger import Logger
from starman.gunicorn.workers.config import Config
from starman.gunicorn.workers.look_alikes import Server, Worker
from tests.unit.gunicorn.resolving import resolved

gunicorn_config = pytest.importorskip("gunicorn.config")

GIVEN: dict[str, Any] = {
    "bind": ["127.0.0.1:8000", "unix:/tmp/x", "[::1]:80"],
    "workers": 3,
    "threads": 2,
    "raw_env": ["A=b=c"],
    "certfile": None,
    "proc_name": "shop",
}
DERIVED = ("worker_class_str", "address", "is_ssl", "uid", "gid", "proc_name", "env", "workers", "threads", "timeout")


@pytest.mark.parametrize("given", [{}, GIVEN, {"worker_class": "gevent"}])
def test_what_gunicorn_derives_has_the_same_value(given: dict[str, Any]) -> None:
    real = gunicorn_config.Config()
    for name, value in given.items():
        real.set(name, value)
    ours = Config(resolved(**given))
    assert {name: getattr(ours, name) for name in DERIVED} == {name: getattr(real, name) for name in DERIVED}
    assert {name: setting.get() for name, setting in ours.settings.items() if name in GIVEN} == {
        name: setting.get() for name, setting in real.settings.items() if name in GIVEN
    }
    assert set(ours.settings) == set(real.settings)
    assert ours.settings["workers"].name == "workers"
    assert list(ours.ssl_options) == list(real.ssl_options)


def test_a_setting_may_be_changed_for_later_hooks() -> None:
    cfg = Config(resolved())
    cfg.set("workers", 7)
    assert (cfg.workers, cfg.settings["workers"].value) == (7, 7)
    assert "workers" in str(cfg)
    with pytest.raises(AttributeError, match="No configuration setting for: wrokers"):
        cfg.set("wrokers", 1)


def test_a_missing_attribute_is_named() -> None:
    cfg = Config(resolved())
    server = Server(cfg, Logger(cfg))
    worker = Worker(server, 1, 1)
    with pytest.raises(AttributeError, match="gunicorn has no setting wrokers, and starman"):
        _ = cfg.wrokers
    with pytest.raises(AttributeError, match=r"stand-in for gunicorn's server \(Arbiter\) has no attribute 'SIG_QUEUE'"):
        _ = server.SIG_QUEUE
    with pytest.raises(AttributeError, match="starman's stand-in for gunicorn's worker has no attribute 'PIPE'"):
        _ = worker.PIPE
    assert not hasattr(server, "own")
    server.own = "kept"
    assert server.own == "kept"


def test_the_attributes_of_the_server_and_a_worker() -> None:
    cfg = Config(resolved(workers=3, timeout=40))
    server = Server(cfg, Logger(cfg))
    worker = Worker(server, 4711, 2)
    assert (server.num_workers, server.timeout, server.master_name, server.proc_name) == (3, 40, "Master", "gunicorn")
    assert (server.WORKERS, server.LISTENERS, server.pid) == ({}, [], os.getppid())
    assert (worker.timeout, worker.booted, worker.aborted, worker.alive, worker.sockets) == (20, False, False, True, [])
    assert (worker.cfg, worker.log, worker.age, str(worker)) == (cfg, server.log, 2, "<Worker 4711>")
    worker.tmp.notify()
    worker.notify()
    assert worker.tmp.last_update() > 0
