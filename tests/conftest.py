"""What all tests share: the option `--forbid-skip`, signals as a terminal gives them, no process that outlives its
test, and no deadline for examples of hypothesis: noise would break it.

It turns every skip into a failure: on a machine that is meant to have all tools, a skip is a hole.
It is an option and not a STARMAN_* variable, because starman refuses variables of that name that it does not know.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

from tests import leftovers

hypothesis.settings.register_profile("starman", deadline=None)
hypothesis.settings.load_profile("starman")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forbid-skip", action="store_true", help="a skipped test, or a skipped module, is a failure")


MARK = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MARK] = leftovers.mark()
    leftovers.watch(config.stash[MARK])
    # A shell has its background jobs ignore INT and QUIT, and nohup HUP; what a test starts would inherit that, and
    # never end.
    for signum, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Fail a test if its processes outlive it, and kill them. Those of fixtures may live as long as their module or
    run."""
    if nextitem is None:
        started_by = ""
    elif nextitem.path != item.path:
        started_by = f"{item.nodeid.partition('::')[0]}::"
    else:
        started_by = f"{item.nodeid} (call)"
    try:
        yield
    finally:
        left = leftovers.end(item.config.stash[MARK], started_by)
    if left:
        pytest.fail("processes left behind: " + "; ".join(map(str, left)), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--forbid-skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --forbid-skip forbids: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, pytest.CollectReport]:
    report: pytest.CollectReport = yield
    if report.skipped and collector.config.getoption("--forbid-skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --forbid-skip forbids: {report.longrepr}"
    return report
