"""starman.observer.page.feed: viewers, their events, and how often the server is sampled."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from starman.observer.master_link import MasterSilentError
from starman.observer.page import feed as module
from starman.observer.page.feed import MOST_VIEWERS, Feed
from tests.unit.observer.page.test_history import status


class Server:
    """What the feed reads: the status document, or an error, and no regions."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.samples = 0

    async def read(self) -> dict[str, Any]:
        self.samples += 1
        if self.error is not None:
            raise self.error
        return status()

    def read_regions(self) -> list[Any]:
        return []


def with_feed(test: Callable[[Feed, Server], Any]) -> None:
    async def run() -> None:
        server = Server()
        feed = Feed(server, server)  # type: ignore[arg-type]
        task = asyncio.create_task(feed.run())
        try:
            async with asyncio.timeout(20):
                await test(feed, server)
        finally:
            task.cancel()

    asyncio.run(run())


def events_of(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, body = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(body.removeprefix("data: "))))
    return found


def test_a_viewer_gets_the_history_and_then_events_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNVIEWED_SECONDS", 3600.0)

    async def test(feed: Feed, server: Server) -> None:
        while not server.samples:
            await asyncio.sleep(0)
        joined = await feed.join()
        assert joined is not None
        number, first = joined
        ((name, history),) = events_of(first)
        assert (name, len(history["points"]), history["marks"][0]["kind"]) == ("history", 1, "start")
        found = await feed.next_event(number)
        assert found is not None
        ((name, event),) = events_of(found[1])
        assert (name, event["status"]["version"], event["marks"]) == ("status", "1.2.3", [])
        assert server.samples == 2

    with_feed(test)


def test_a_viewer_that_has_missed_events_gets_the_history_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VIEWED_SECONDS", 0.001)

    async def test(feed: Feed, server: Server) -> None:
        joined = await feed.join()
        assert joined is not None
        while server.samples < 5:
            await asyncio.sleep(0.01)
        found = await feed.next_event(joined[0])
        assert found is not None
        assert [name for name, _ in events_of(found[1])] == ["history", "status"]
        assert events_of(found[1])[0][1]["points"][-1] == events_of(found[1])[1][1]["point"]

    with_feed(test)


def test_the_number_of_viewers_is_limited() -> None:
    async def test(feed: Feed, server: Server) -> None:
        for _ in range(MOST_VIEWERS):
            assert await feed.join() is not None
        assert await feed.join() is None
        feed.leave()
        assert await feed.join() is not None

    with_feed(test)


def test_a_silent_master_is_an_event_and_not_the_end() -> None:
    async def test(feed: Feed, server: Server) -> None:
        server.error = MasterSilentError("has not answered for 5 s")
        found = await feed.next_event(0)
        assert found is not None
        assert events_of(found[1]) == [("silent", {"text": "the master has not answered for 5 s"})]
        server.error = None
        assert await feed.join() is not None
        found = await feed.next_event(found[0])
        assert found is not None
        assert events_of(found[1])[-1][0] == "status"

    with_feed(test)


def test_closing_ends_the_streams() -> None:
    async def test(feed: Feed, server: Server) -> None:
        waiting = [asyncio.create_task(feed.next_event(10)) for _ in range(3)]
        await asyncio.sleep(0)
        feed.close()
        assert await asyncio.gather(*waiting) == [None, None, None]
        assert await feed.next_event(0) is None

    with_feed(test)


def test_the_time_that_reading_the_status_takes_is_part_of_a_sample() -> None:
    class BusyServer(Server):
        async def read(self) -> dict[str, Any]:
            begun = time.thread_time()
            while time.thread_time() - begun < 0.05:
                pass
            return await super().read()

    async def test() -> None:
        server = BusyServer()
        assert await Feed(server, server)._sample() >= 0.05  # type: ignore[arg-type]

    asyncio.run(test())
