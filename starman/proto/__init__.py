"""HTTP/1.1 (RFC 9110, RFC 9112) without I/O: requests are parsed from bytes, and responses are made into bytes.

This package must not import sockets, event loops, threads, clocks or settings: dates and limits are passed in. It
handles bytes only; `starman.wsgi` decodes them as latin-1.
"""
