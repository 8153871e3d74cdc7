"""The log process: passes the records of all processes to Python's `logging`, as `--log-config` says.

It is the only process of the server in which the handlers run. So a handler that blocks or fails delays no request, a
file has one writer, and threads of handlers do not meet a fork. Imports logging, so the master must not import this
module.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import os
import socket
import sys

from starman.errors import SettingError
from starman.log import log_socket
from starman.log.formats import FORMATS, WARNING, Record
from starman.log.tracebacks import exception_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# The names of the loggers, the first of them that the configuration has. Those of gunicorn are in many recipes.
ERROR_LOGGERS = ("starman.error", "gunicorn.error")
ACCESS_LOGGERS = ("starman.access", "gunicorn.access")
_PACKET_BYTES = 1 << 20
_TRACEBACK = "Traceback (most recent call last)"


class Loggers:
    """Both loggers, as the configuration made them."""

    __slots__ = ("_config", "_failed", "access", "error", "has_access_logger")

    def __init__(self, config: str | Mapping[str, object]) -> None:
        """`config`: a mapping for dictConfig, or the path of a file. Raises SettingError that says what is wrong."""
        self._config = config
        self._failed = False
        self._configure(config)

    def _configure(self, config: str | Mapping[str, object]) -> None:
        _configure(config)
        # Asked before `_logger` makes the logger.
        self.has_access_logger = bool(_known(ACCESS_LOGGERS))
        self.error, self.access = _logger(ERROR_LOGGERS), _logger(ACCESS_LOGGERS)

    def configure_again(self) -> None:
        """Read the configuration again, which opens files again (USR1). If it is wrong, the previous one stays."""
        try:
            mapping = _read(self._config)
            self._configure(self._config if mapping is None else mapping)
        except SettingError as error:
            complain(f"the logs are not opened again: {error}")

    def handle(self, packet: bytes) -> None:
        """Log what is in a packet. Never raises."""
        try:
            if packet[:1] == log_socket.ACCESS:
                for line in packet[1:].decode("utf-8", "replace").splitlines():
                    self._pass_on(self.access, Record(logging.INFO, line, os.getpid()))
            elif packet[:1] == log_socket.ERRORS:
                self._pass_on(self.error, log_socket.decode(packet))
        except (ValueError, EOFError, TypeError) as error:
            complain(f"a record could not be read: {error}")

    def _pass_on(self, logger: logging.Logger, record: Record) -> None:
        try:
            if logger.isEnabledFor(record.level):
                logger.handle(log_record(logger.name, record))
        except Exception as error:
            if not self._failed:
                self._failed = True
                complain(
                    f"a handler of log_config failed; records that it does not take are written here: {exception_line(error)}"
                )
            _write(record)


def log_record(name: str, record: Record) -> logging.LogRecord:
    """The record of `logging`. A traceback is its `exc_text`, so that a formatter shows it as one."""
    first, _, rest = record.text.partition("\n")
    text = record.text if _TRACEBACK not in rest else first
    made = logging.LogRecord(name, record.level, "starman", 0, text, None, None)
    if text is first and rest:
        made.exc_text = rest
    made.created = record.instant
    made.msecs = int(record.instant % 1 * 1000) + 0.0
    made.process = record.pid
    made.processName = "starman"
    return made


def run(config: str | Mapping[str, object], reading: int, report: int, path: list[str], access: bool) -> None:
    """Pass records on until the master sends END, or until all processes have ended. Call it in a fresh fork.

    reading: the end of the socket that is read. report: where to write a zero byte if the configuration is fine, else
    what is wrong. It stays open while the process lives. path: put before sys.path. access: whether the access log
    comes here.
    """
    sys.path[:0] = [entry for entry in path if entry not in sys.path]
    try:
        loggers = Loggers(config)
    except SettingError as error:
        os.write(report, str(error).encode("utf-8", "backslashreplace")[:4000])
        return
    if loggers.has_access_logger and not access:
        complain("log_config has a logger for the access log, which is not used: set access_log to logging")
    os.write(report, b"\0")
    with socket.socket(fileno=reading) as packets:
        while True:
            try:
                packet = packets.recv(_PACKET_BYTES)
            except ConnectionError:
                break
            if not packet or packet[:1] == log_socket.END:
                break
            if packet[:1] == log_socket.REOPEN:
                loggers.configure_again()
            else:
                loggers.handle(packet)
    with contextlib.suppress(Exception):
        _stop_listeners()
        logging.shutdown()


def _stop_listeners() -> None:
    """Stop the listeners of QueueHandlers, which write what waits in their queues (Python 3.12)."""
    for reference in list(getattr(logging, "_handlerList", ())):
        listener = getattr(reference(), "listener", None)
        if listener is not None:
            listener.stop()


def complain(text: str) -> None:
    """Write a warning to standard error: it must not pass through handlers that may be what it is about."""
    _write(Record(WARNING, text, os.getpid()))


def _write(record: Record) -> None:
    with contextlib.suppress(OSError):
        os.write(2, FORMATS["text"].encode(record)[0])


def _configure(config: str | Mapping[str, object]) -> None:
    """Configure logging. Raises SettingError."""
    where = config if isinstance(config, str) else "the mapping"
    mapping = _read(config)
    try:
        if mapping is None:
            assert isinstance(config, str)
            logging.config.fileConfig(config, disable_existing_loggers=False)
        else:
            known: dict[str, Any] = {"version": 1, "disable_existing_loggers": False, **mapping}
            logging.config.dictConfig(known)
    except Exception as error:
        # dictConfig names the part of the configuration, and its cause what is wrong with it.
        cause = "" if error.__cause__ is None else f" ({exception_line(error.__cause__)})"
        raise SettingError(f"log_config: {where}: {exception_line(error)}{cause}") from None
    _start_listeners()


def check_log_config(config: str | Mapping[str, object]) -> None:
    """Raise SettingError for a configuration that the log process could not use. Files are opened, but never emptied,
    because a running server may write to them. Call it in a process that ends soon."""

    def open_to_append(handler: logging.FileHandler) -> object:
        return open(handler.baseFilename, "a", encoding=handler.encoding)

    logging.FileHandler._open = open_to_append  # type: ignore[method-assign,assignment]
    Loggers(config)


def _start_listeners() -> None:
    """Start the listeners that dictConfig makes for QueueHandlers (Python 3.12), and leaves to the program."""
    for reference in list(getattr(logging, "_handlerList", ())):
        listener = getattr(reference(), "listener", None)
        if listener is not None and getattr(listener, "_thread", True) is None:
            listener.start()


def _known(names: tuple[str, ...]) -> list[str]:
    """Those of these loggers that exist, because the configuration has them."""
    return [name for name in names if isinstance(logging.Logger.manager.loggerDict.get(name), logging.Logger)]


def _logger(names: tuple[str, ...]) -> logging.Logger:
    """The first of these loggers that is configured, or else the first. Without a handler, it gets standard error."""
    known = _known(names)
    logger = logging.getLogger(known[0] if known else names[0])
    logger.disabled = False
    if not known and logger.getEffectiveLevel() > logging.INFO and not logging.getLogger().handlers:
        logger.setLevel(logging.DEBUG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"))
        logger.addHandler(handler)
    return logger


def _read(config: str | Mapping[str, object]) -> Mapping[str, object] | None:
    """The mapping for dictConfig; None for an ini file. Raises SettingError."""
    if not isinstance(config, str):
        return config
    try:
        with open(config, "rb") as file:
            data = file.read()
        if config.endswith(".json"):
            import json

            found = json.loads(data)
        elif config.endswith(".toml"):
            import tomllib

            found = tomllib.loads(data.decode())
        else:
            return None
    except OSError as error:
        raise SettingError(f"log_config: cannot read {config}: {error.strerror}") from None
    except ValueError as error:
        raise SettingError(f"log_config: {config}: {error}") from None
    if not isinstance(found, dict):
        raise SettingError(f"log_config: {config}: it has no table at its top")
    return found
