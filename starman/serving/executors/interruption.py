"""Raises an exception in another thread (PyThreadState_SetAsyncExc), and takes it back. Needs ctypes, which is only
imported when it is used."""

from __future__ import annotations

from threading import get_ident

from starman.errors import RequestTimeout


def raise_in_thread(ident: int) -> None:
    """Raise RequestTimeout in the thread `ident`, at the next instruction of Python that it runs. Any other thread."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(RequestTimeout))


def withdraw() -> None:
    """Take back an exception that was to be raised in this thread, and has not been. The thread itself."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(get_ident()), ctypes.py_object())
