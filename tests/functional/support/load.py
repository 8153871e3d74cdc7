"""Closed-loop clients for tests of restarts: each sends its next request soon after it has a response, and none may
fail."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tests.functional.support.wire import Client, NoResponseError, encode_request

# How soon every client must have had an answer, on a machine that is busy with other things.
_PATIENCE = 60.0
# A worker that drains keeps an idle connection for 0.5 s. A client that gets no CPU for as long finds its connection
# closed, and has to send the request again, on another one (RFC 9110 §9.2.2).
_IDLE_SECONDS = 0.4
# The longest pause before a next request. Without pauses, clients in Python would keep both the server and the tests
# beside this one from the CPU; with pauses of any length, connections are closed and handed over in every state.
_PAUSE = 0.02


def _was_idle(client: Client, error: Exception) -> bool:
    """Whether a request has failed because the connection was idle for too long before."""
    return isinstance(error, NoResponseError | ConnectionError) and client.idle_seconds > _IDLE_SECONDS


class Load:
    """`kept` clients that keep their connection as long as the server allows, and `fresh` ones that open one for each
    request.

    connect: opens a connection; several threads call. targets: what each client asks for in turn. In the `with` block
    they work; at its end they finish. failures: what went wrong, a line each, and when (seconds since the start).
    answers: how often each body was received.
    """

    def __init__(self, connect: Callable[[], Client], *targets: str, kept: int = 3, fresh: int = 3) -> None:
        self.failures: list[str] = []
        self.answers: dict[bytes, int] = {}
        self._connect = connect
        self._targets = targets or ("/",)
        self._started = time.monotonic()
        self._changed = threading.Condition()
        self._turns = [0] * (kept + fresh)
        self._stopping = False
        self._threads = [threading.Thread(target=self._work, args=(number, number < kept)) for number in range(kept + fresh)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_turns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join(_PATIENCE)

    def wait_for_turns(self, count: int = 3) -> None:
        """Return when each client has had `count` more answers, or has failed."""
        with self._changed:
            wanted = [turns + count for turns in self._turns]
            assert self._changed.wait_for(lambda: self._have(wanted), _PATIENCE), (self._turns, wanted, self.failures)

    def _have(self, wanted: list[int]) -> bool:
        return bool(self.failures) or all(turns >= least for turns, least in zip(self._turns, wanted, strict=True))

    def _work(self, number: int, keep: bool) -> None:
        client = None
        for target in itertools.cycle(self._targets):
            if self._stopping:
                break
            try:
                if client is None:
                    client = self._connect()
                client.send(encode_request("GET", target, () if keep else [("Connection", "close")]))
                response = client.read()
                assert response.status == 200, response
            except Exception as error:
                if client is not None and _was_idle(client, error):
                    client.close()
                    client = None
                    continue
                self._note(number, f"{time.monotonic() - self._started:.3f} s: {error!r}", None)
                response = None
            else:
                self._note(number, None, response.body)
            if client is not None and (response is None or not response.persistent):
                client.close()
                client = None
            time.sleep(random.random() * _PAUSE)
        if client is not None:
            client.close()

    def _note(self, number: int, failure: str | None, body: bytes | None) -> None:
        with self._changed:
            if failure is not None:
                self.failures.append(f"client {number}: {failure}")
            if body is not None:
                self._turns[number] += 1
                self.answers[body] = self.answers.get(body, 0) + 1
            self._changed.notify_all()
