"""starman.serving.connections.clients: the set of clients, and which of them are due at a tick."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starman.serving.connections.clients import Clients


class FakeClient:
    """A client that does nothing."""

    def check_timeouts(self, now: float) -> None: ...

    def close_if_idle(self, since: float) -> None: ...

    def reset(self) -> None: ...


ALL = [FakeClient() for _ in range(5)]
any_client = st.sampled_from(ALL)
# All clients become idle at the same time after their last response, which a tick notices up to a tick later.
TIMEOUT, TICK = 20, 1


class Days(RuleBasedStateMachine):
    """Clients beside a model that checks each of them anew. Time is in whole seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = Clients()
        self.now = 0
        self.model: dict[FakeClient, int | None] = {}  # until when they are idle

    @rule(client=any_client)
    def comes(self, client: FakeClient) -> None:
        if client not in self.model:
            self.clients.add(client)
            self.model[client] = None

    @rule(client=any_client)
    def goes(self, client: FakeClient) -> None:
        self.clients.discard(client)
        self.model.pop(client, None)

    @rule(client=any_client, late=st.integers(0, TICK))
    def becomes_idle(self, client: FakeClient, late: int) -> None:
        until = self.now + TIMEOUT - late
        self.clients.set_idle(client, until)
        if client in self.model and self.model[client] is None:
            self.model[client] = until

    @rule(client=any_client)
    def becomes_active(self, client: FakeClient) -> None:
        self.clients.set_active(client)
        if client in self.model:
            self.model[client] = None

    @rule(seconds=st.integers(0, TIMEOUT))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def a_tick(self) -> None:
        due = set(self.clients.due(self.now))
        for client, until in self.model.items():
            if until is None or until <= self.now - TICK:
                assert client in due
            elif until > self.now:
                assert client not in due
            if client in due:
                self.model[client] = None
        assert due <= set(self.model)

    @invariant()
    def each_client_is_there_once(self) -> None:
        assert len(self.clients) == len(self.model)
        assert sorted(map(id, self.clients)) == sorted(map(id, self.model))
        assert [client in self.clients for client in ALL] == [client in self.model for client in ALL]


TestDays = Days.TestCase
TestDays.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
