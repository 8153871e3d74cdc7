"""Clients that behave or misbehave at random. Each verifies every byte that it receives.

A visit is one connection. A random generator, which the caller seeds, chooses the requests and the faults, so a run
can be repeated as far as threads and sockets allow.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.faulty import marked
from tests.functional.support.wire import Client, TruncatedError, encode_chunks, encode_request

TAG = re.compile(rb"<([0-9a-f]{5})>")
CHUNKED = ("Transfer-Encoding", "chunked")
UPLOAD_BYTES = 300_000  # well beyond the memory that the server is told to use for a body
LARGE_BYTES = 3_000_000  # more than the kernel takes at once

# The share of each kind of request, in percent.
KINDS = {"whole": 25, "nap": 5, "stream": 12, "written": 5, "file": 8, "echo": 20, "half-read": 4} | {
    **dict.fromkeys(("fail", "fail-middle", "short"), 4),
    **dict.fromkeys(("fail-started", "fail-close", "long"), 3),
}
RUBBISH = (
    b"\x16\x03\x01\x02\x00\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET  / HTTP/9\r\n\r\n",
    b"\0\xff",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as bytes, and the expected response. `cut`: the body ends too early, and visibly."""

    tag: str
    sent: bytes
    status: int
    body: bytes
    cut: bool = False


class Visitor:
    """One client after the other, at random. `held`: connections that it has left open."""

    def __init__(self, ports: tuple[int, int], pair: Pair, chance: random.Random) -> None:
        """`ports`: the plain port and the TLS port."""
        self._ports = ports
        self._pair = pair
        self._chance = chance
        self.held: list[socket.socket] = []
        self.visits = 0
        self.verified_bytes = 0

    def run(self, until: float) -> None:
        """Make visits until an instant of the monotonic clock."""
        while time.monotonic() < until:
            manner = self._chance.choices(list(MANNERS), list(MANNERS.values()))[0]
            manner(self)
            self.visits += 1

    # How a visit goes

    def behaves(self) -> None:
        """Send a request, read the whole response, and repeat."""
        with self._connect() as client:
            for _ in range(self._chance.randrange(1, 8)):
                asked = self._ask()
                self._send_in_pieces(client, asked.sent)
                if not self._verify(client, asked):
                    return

    def pipelines(self) -> None:
        """Send several requests at once."""
        with self._connect() as client:
            several = [self._ask(small=True) for _ in range(self._chance.randrange(2, 12))]
            # What was asked behind an answer that ends the connection is not answered.
            self._send_in_pieces(client, b"".join(asked.sent for asked in several))
            for asked in several:
                if not self._verify(client, asked):
                    return

    def half_closes(self) -> None:
        """Shut down the sending side, then read the response."""
        with self._connect() as client:
            asked = self._ask()
            client.send(asked.sent)
            socket.socket.shutdown(client.socket, socket.SHUT_WR)  # past TLS, which would forget the session
            self._verify(client, asked)

    def reads_slowly(self) -> None:
        """Read a large response slowly."""
        with self._connect(receive_bytes=8192) as client:
            kind = self._chance.choice(["whole", "stream", "file", "written"])
            tag = self._tag()
            client.send(encode_request("GET", f"/{kind}/{tag}/{LARGE_BYTES}"))
            assert client.read_head().status == 200
            self._pause(0.3)
            client.close()
        with self._connect(receive_bytes=65536) as client:
            asked = self._plain(kind, self._tag(), LARGE_BYTES)
            client.send(asked.sent)
            self._pause(0.3)
            self._verify(client, asked)

    def breaks_off_its_request(self) -> None:
        """Send a part of a request, perhaps behind whole ones."""
        with self._connect() as client:
            before = [self._ask(small=True) for _ in range(self._chance.randrange(3))]
            last = self._ask()
            sent = b"".join(asked.sent for asked in before) + last.sent[: self._chance.randrange(len(last.sent))]
            self._send_in_pieces(client, sent)
            self._part(client, {asked.tag for asked in (*before, last)})

    def breaks_off_its_answer(self) -> None:
        """Read a part of the responses."""
        with self._connect() as client:
            several = [self._ask() for _ in range(self._chance.randrange(1, 4))]
            client.send(b"".join(asked.sent for asked in several))
            self._glance(client, {asked.tag for asked in several})
            self._part(client, {asked.tag for asked in several})

    def talks_rubbish(self) -> None:
        """Send bytes that are not a request, perhaps behind one."""
        with self._connect() as client:
            asked = self._ask(small=True)
            self._send_in_pieces(client, asked.sent + self._chance.choice(RUBBISH))
            if self._verify(client, asked):
                self._part(client, {asked.tag})

    def shakes_no_hands(self) -> None:
        """Begin a TLS handshake without an end, or send plain bytes to the TLS port."""
        with socket.create_connection(("127.0.0.1", self._ports[1]), 10) as sock:
            sock.sendall(self._chance.choice([b"", b"\x16", b"\x16\x03\x01\x00\x05hello", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]))
            self._pause(0.1)
            self._end(sock)

    # Their parts

    def _connect(self, receive_bytes: int = 0) -> Client:
        if self._chance.random() < 0.35:
            return TlsClient(self._ports[1], self._pair, receive_bytes=receive_bytes)
        client = Client(("127.0.0.1", self._ports[0]))
        if receive_bytes:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        return client

    def _tag(self) -> str:
        return f"{self._chance.randrange(16**5):05x}"

    def _ask(self, *, small: bool = False) -> Asked:
        kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
        sizes = [0, 1, 100, 5000] if small else [0, 100, 5000, 70_000, UPLOAD_BYTES]
        return self._plain(kind, self._tag(), self._chance.choice(sizes))

    def _plain(self, kind: str, tag: str, size: int) -> Asked:
        target, body = f"/{kind}/{tag}/{size}", marked(tag, size)
        status = 500 if kind in ("fail", "fail-started") else 200
        # Half of nothing, and of one byte, is nothing: a short one of no bytes is whole, but an iterable that fails is
        # not.
        cut = kind in ("fail-middle", "short") and size > 0
        if kind == "fail-middle" and size < 2:
            status, cut = 500, False
        if kind not in ("echo", "half-read"):
            sent = encode_request("GET", target)
        elif self._chance.random() < 0.5:
            sent = encode_request("POST", target, body=body)
        else:
            step = self._chance.choice([200, 5000, 100_000])
            chunks = encode_chunks(body[at : at + step] for at in range(0, size, step))
            sent = encode_request("POST", target, [CHUNKED]) + chunks
        return Asked(tag, sent, status, b"Internal Server Error\n" if status == 500 else body, cut)

    def _send_in_pieces(self, client: Client, data: bytes) -> None:
        """Send at once, or in random pieces with delays. The server may close the connection before the last one."""
        with contextlib.suppress(ConnectionError):
            while data and self._chance.random() < 0.5:
                at = self._chance.randrange(len(data)) + 1
                client.send(data[:at])
                data = data[at:]
                self._pause(0.02)
            client.send(data)

    def _verify(self, client: Client, asked: Asked) -> bool:
        """Read one response and compare it with the expected one. Returns whether the connection stays open."""
        if asked.cut:
            try:
                response = client.read()
            except TruncatedError as error:
                self._belongs(str(error).encode(), {asked.tag})
                return False
            raise AssertionError(f"{asked.tag}: the answer broke off, and that does not show: {response.status}")
        response = client.read()
        assert response.status == asked.status, f"{asked.tag}: {response}"
        assert response.body == asked.body, f"{asked.tag}: another body: {response.body[:100]!r}"
        self.verified_bytes += len(response.body)
        return response.persistent

    def _glance(self, client: Client, tags: set[str]) -> None:
        """Read some of the response."""
        with contextlib.suppress(OSError):
            self._belongs(client.socket.recv(self._chance.choice([1, 1000, 100_000])), tags)

    def _belongs(self, received: bytes, tags: set[str]) -> None:
        assert {tag.decode() for tag in TAG.findall(received)} <= tags, f"not for {tags}: {received[:200]!r}"

    def _part(self, client: Client, tags: set[str]) -> None:
        """Perhaps read some of the response, then leave in a random way."""
        if self._chance.random() < 0.5:
            self._pause(0.05)
        if self._chance.random() < 0.3:
            client.socket.settimeout(0.05)
            self._glance(client, tags)
        self._end(client.socket)

    def _end(self, sock: socket.socket) -> None:
        """Close, reset, half-close first, or leave silently: the server has to notice."""
        how = self._chance.random()
        with contextlib.suppress(OSError):
            if how < 0.3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how < 0.5:
                socket.socket.shutdown(sock, socket.SHUT_WR)
            elif how < 0.6:
                self.held.append(sock.dup() if type(sock) is socket.socket else socket.socket(fileno=sock.detach()))

    def _pause(self, most: float) -> None:
        """A delay that is a fault by itself; the test does not wait for anything."""
        time.sleep(self._chance.random() * most)


# The share of each manner, in percent.
MANNERS: dict[Callable[[Visitor], None], float] = {
    Visitor.behaves: 40,
    Visitor.pipelines: 12,
    Visitor.half_closes: 8,
    Visitor.reads_slowly: 3,
    Visitor.breaks_off_its_request: 14,
    Visitor.breaks_off_its_answer: 14,
    Visitor.talks_rubbish: 6,
    Visitor.shakes_no_hands: 3,
}
