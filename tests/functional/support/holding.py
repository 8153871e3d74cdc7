"""An application that holds requests until there is a file. Plain PEP 3333."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"].startswith("/wait"):
        # Its name says which of them has a thread.
        with open(os.environ["TEST_OPENED"] + environ["PATH_INFO"].replace("/", "-"), "x"):
            pass
        hold()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def hold() -> None:
    while not os.path.exists(os.environ["TEST_OPENED"]):
        time.sleep(0.01)
