"""Takes the pictures of the admin page for the documentation: `make screenshots`.

A server with four workers gets requests, a restart, and a request that hangs for more than half a minute.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.functional.support.browser import Browser
from tests.functional.support.harness import Server
from tests.functional.support.metrics import admin_url

APPLICATION = """\
import random, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/report/2026":
        read_report()
    elif path == "/checkout":
        time.sleep(random.uniform(0.5, 7))
    else:
        time.sleep(random.expovariate(1 / 0.03))
    status = "503 Service Unavailable" if random.random() < 0.02 else "200 OK"
    start_response(status, [("Content-Length", "4")])
    return [b"shop"]

def read_report():
    wait_for_row()

def wait_for_row():
    time.sleep(45)
"""
_LIVE = "document.getElementById('link').textContent === 'live'"
_CLIENTS = 8


def main(directory: Path) -> None:
    """Write the pictures into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "shop.py").write_text(APPLICATION)
        options = ("--workers", "4", "--threads", "4", "--admin-listen", "127.0.0.1:0")
        with Server("shop:app", *options, cwd=Path(scratch)) as server, Browser(Path(scratch) / "browser") as browser:
            _take(server, browser, directory)


def _take(server: Server, browser: Browser, directory: Path) -> None:
    ended = threading.Event()
    threads = [threading.Thread(target=_load, args=(server, ended)) for _ in range(_CLIENTS)]
    browser.open(admin_url(server), height=1000)
    for thread in threads:
        thread.start()
    time.sleep(10)
    server.signal(signal.SIGHUP)
    time.sleep(10)
    with server.client() as client:
        client.send(b"GET /report/2026 HTTP/1.1\r\nHost: shop\r\n\r\n")
        browser.wait_for("document.querySelector('.cells .cell[data-age=stuck]') !== null", 60)
        for name, width, height, dark in (("light", 1280, 1150, False), ("dark", 1280, 1150, True), ("phone", 375, 1000, False)):
            browser.open(admin_url(server), width=width, height=height, dark=dark)
            browser.wait_for(_LIVE)
            browser.wait_for("document.querySelector('#slow li') !== null")
            (directory / f"{name}.png").write_bytes(browser.screenshot())
        browser.open(admin_url(server), height=700)
        browser.wait_for(_LIVE)
        browser.evaluate("document.querySelector('.cells .cell[data-age=stuck]').click()")
        browser.wait_for("document.querySelector('dialog pre.chosen') !== null")
        (directory / "stack.png").write_bytes(browser.screenshot())
        ended.set()
        for thread in threads:
            thread.join()


def _load(server: Server, ended: threading.Event) -> None:
    while not ended.wait(random.expovariate(1 / 0.1)):
        with server.client() as client:
            client.get("/checkout" if random.random() < 0.01 else "/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
