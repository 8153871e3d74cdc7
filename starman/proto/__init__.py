"""HTTP/1.1 (RFC 9110, RFC 9112) without I/O: bytes in, messages out, and back.

Nothing here knows of sockets, loops, threads, clocks or settings: instants, dates and limits are passed in. Everything speaks
bytes; latin-1 begins at the WSGI door.
"""
