"""A TLS 1.3 client that requests new keys again and again (RFC 8446 §4.6.3), by libssl itself: Python's ssl cannot.

Without a read, the client never receives what the server answers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import socket

import pytest

_UPDATE_REQUESTED = 1
_TLS_1_3 = 0x0304
_CTRL_SET_MIN_PROTO_VERSION = 123


class KeyUpdater:
    """One connection after its handshake. Skips the test if libssl cannot be loaded, or is older than 1.1.1."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` is connected and blocking. The caller closes it."""
        name = ctypes.util.find_library("ssl")
        if name is None:
            pytest.skip("libssl is not installed")
        self._library = ctypes.CDLL(name)
        for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self._library, function).restype = ctypes.c_void_p
        method = ctypes.c_void_p(self._library.TLS_client_method())
        self._context = ctypes.c_void_p(self._library.SSL_CTX_new(method))
        self._library.SSL_CTX_ctrl(self._context, _CTRL_SET_MIN_PROTO_VERSION, ctypes.c_long(_TLS_1_3), None)
        self._ssl = ctypes.c_void_p(self._library.SSL_new(self._context))
        self._library.SSL_set_fd(self._ssl, sock.fileno())
        assert self._library.SSL_connect(self._ssl) == 1

    def update(self) -> bool:
        """Send new keys, and request the server's. False: the connection is closed."""
        assert self._library.SSL_key_update(self._ssl, _UPDATE_REQUESTED) == 1
        return bool(self._library.SSL_do_handshake(self._ssl) == 1)

    def write(self, data: bytes) -> bool:
        """Send application data. False: the connection is closed."""
        return bool(self._library.SSL_write(self._ssl, data, len(data)) == len(data))

    def read(self) -> bytes:
        """Some of what the server has sent; b"" at the end, or after an error."""
        buffer = ctypes.create_string_buffer(65_536)
        count = self._library.SSL_read(self._ssl, buffer, len(buffer))
        return buffer.raw[: max(count, 0)]

    def free(self) -> None:
        """Free the memory."""
        self._library.SSL_free(self._ssl)
        self._library.SSL_CTX_free(self._context)
