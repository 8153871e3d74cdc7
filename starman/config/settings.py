"""The values of all settings with which one server runs: checked, frozen, and consistent with each other.

Must not read the command line, the environment or files (`starman.config.sources` does). The master imports this
module.
"""

from __future__ import annotations

from starman.config import access_log_format
from starman.config.addresses import Address, parse_address, tcp_address, unix_address
from starman.config.option import DEFAULT_SOURCE, OPTIONS, GivenValue, Option, nearest
from starman.config.options import DEFAULT_PORT, Options
from starman.config.tables.development_options import RELOAD_SECONDS
from starman.errors import SettingError
from starman.log.syslog_target import is_syslog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DEFAULT_PORT", "DEFAULT_SOURCE", "OPTIONS", "GivenValue", "Option", "Settings", "nearest"]

# The path settings that are used in processes that run the application. The master opens the other paths before that.
PATHS = ("include", "ssl_cert", "ssl_key", "access_log")
# Values of such a setting that are not paths.
_NO_FILES = ("-", "off", "logging")


class Settings(Options):
    """The values of every setting, checked and frozen. Any thread may read them.

    Construction raises SettingError for an unknown name, an invalid value, or two settings that exclude each other.
    """

    __slots__ = ("_sources", "_values")

    _sources: dict[str, str]
    _values: dict[str, object]

    def __init__(self, given: Mapping[str, GivenValue]) -> None:
        """Check the values of `given`. Other settings get their defaults."""
        for name, item in given.items():
            if name not in OPTIONS:
                raise SettingError(f"{item.source}: unknown setting {name!r}{nearest(name, OPTIONS)}")
        if "app" in given and "eval" in given and given["eval"].value is not None:
            raise SettingError(f"{given['app'].source} and {given['eval'].source}: give one application, not two")
        # The attributes are frozen, so __setattr__ is bypassed.
        object.__setattr__(self, "_sources", {name: item.source for name, item in given.items()})
        parsed = {}
        for name, declared in OPTIONS.items():
            item = given.get(name) or GivenValue(declared.default, DEFAULT_SOURCE)
            parsed[name] = declared.parse(item.value, item.source)
        _check_warm_up(parsed, given)
        if parsed["keepalive_timeout"] == 0:
            parsed["disable_keepalive"] = True
        if parsed["reload"]:
            _suit_development(parsed, given)
        object.__setattr__(self, "_values", parsed)
        self._check_consistency()

    def _check_consistency(self) -> None:
        """Raise SettingError for values that contradict each other."""
        # An invalid host is reported here, not when the master binds the listeners.
        admin = () if self.admin_listen is None else (parse_address(self.admin_listen),)
        secured = next((address for address in (*self.addresses(), *admin) if address.secure), None)
        if secured is not None and self.ssl_cert is None:
            raise SettingError(f"TLS on {secured} needs a certificate: give ssl_cert (--ssl-cert FILE)")
        if self.reload and self.daemonize:
            raise SettingError(
                f"{self.source('reload')} and {self.source('daemonize')}: reload is for development in a terminal, and cannot "
                "be combined with daemonize"
            )
        if self.access_log == "logging" and self.log_config is None:
            raise SettingError(f"{self.source('access_log')}: access_log logging needs log_config, which names the handlers")
        if self.log_config is not None and is_syslog(self.error_log):
            raise SettingError(
                f"{self.source('error_log')} and {self.source('log_config')}: give one of them: with log_config, a handler such "
                "as logging.handlers.SysLogHandler sends records to syslog"
            )
        if self.proxy_protocol != "off" and not self.proxy_allow_ips:
            raise SettingError(
                f"{self.source('proxy_protocol')} and {self.source('proxy_allow_ips')}: proxy_protocol needs a trusted proxy: "
                "with proxy_allow_ips none, every connection would be closed"
            )
        streams = "stream_body" if self.stream_body else "stream_body_path" if self.stream_body_path else None
        if streams is not None and not self.threads:
            raise SettingError(
                f"{self.source('threads')} and {self.source(streams)}: {streams} needs threads of at least 1: with threads 0, "
                "an application that waits for a body would block the event loop that receives it"
            )

    @classmethod
    def of(cls, **given: object) -> Settings:
        """Settings with these values and defaults for all others. For tests, and for callers without other sources."""
        return cls({name: GivenValue(value, f"Settings.of({name}=...)") for name, value in given.items()})

    @classmethod
    def from_snapshot(cls, values: Mapping[str, object], sources: Mapping[str, str]) -> Settings:
        """Settings with the contents of a `snapshot`. Raises SettingError for values that contradict each other."""
        settings = cls.__new__(cls)
        object.__setattr__(settings, "_sources", dict(sources))
        object.__setattr__(settings, "_values", dict(values))
        settings._check_consistency()
        return settings

    def with_absolute_paths(self, absolute: Callable[[str], str]) -> Settings:
        """A copy in which the settings of PATHS are absolute, so that they remain valid when the application changes
        the working directory. For processes that load the application; the master shows and passes on the paths as
        they were written."""
        values, sources = self.snapshot()
        for name in PATHS:
            value = values[name]
            if isinstance(value, tuple):
                values[name] = tuple(map(absolute, value))
            elif isinstance(value, str) and value not in _NO_FILES and not is_syslog(value):
                values[name] = absolute(value)
        return Settings.from_snapshot(values, sources)

    def snapshot(self) -> tuple[dict[str, object], dict[str, str]]:
        """Copies of all values (plain data), and of the sources of those that are not defaults."""
        return dict(self._values), dict(self._sources)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Settings are frozen: {name} cannot be set")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={self._values[name]!r}' for name in self._sources)})"

    def value(self, name: str) -> object:
        """The value of the setting `name`. Raises KeyError for any other name."""
        return self._values[name]

    def source(self, name: str) -> str:
        """Where the value of the setting `name` was given; "default" if nowhere."""
        return self._sources.get(name, DEFAULT_SOURCE)

    @property
    def longest_silence(self) -> float:
        """How long (seconds) the event loop of a worker may be silent; 0: as long as it likes. Without threads, the
        application runs in the loop, so the timeout of requests counts too."""
        limits = [self.worker_timeout] if self.threads else [self.worker_timeout, self.request_timeout]
        return min((limit for limit in limits if limit), default=0.0)

    def addresses(self) -> tuple[Address, ...]:
        """The addresses to listen on, without duplicates: those of `listen`, else of `socket`, else of `host` and
        `port`."""
        found = self._addresses()
        return tuple(dict.fromkeys(address.secured() for address in found)) if self.enable_ssl else found

    @property
    def is_observed(self) -> bool:
        """Whether a program observes the server all the time: by the admin HTTP, or by statsd."""
        return self.admin_listen is not None or self.statsd_host is not None

    @property
    def listens_somewhere(self) -> bool:
        """Whether an address to listen on was given. The variable PORT only replaces the default, so it does not
        count: a platform that sets it may have opened other sockets for the server."""
        return any(self.source(name) not in (DEFAULT_SOURCE, "PORT") for name in ("listen", "socket", "host", "port"))

    def _addresses(self) -> tuple[Address, ...]:
        if self.source("listen") == DEFAULT_SOURCE:
            try:
                if self.socket is not None:
                    return (_socket_address(self.socket),)
                if self.host is not None or self.port is not None:
                    return (tcp_address(self.host or "", DEFAULT_PORT if self.port is None else self.port),)
            except SettingError as error:
                name = "host" if self.socket is None else "socket"
                raise SettingError(f"{self.source(name)}: {error}; {name} takes {OPTIONS[name].kind.valid}") from None
        return tuple(dict.fromkeys(parse_address(text) for text in self.listen))

    def warnings(self) -> tuple[str, ...]:
        """A line for the error log for each setting that was given and has no effect."""
        found = list(self._overridden())
        if not any(address.secure for address in self.addresses()):
            unused = [self.source(name) for name in ("ssl_cert", "ssl_key") if self.value(name) is not None]
            unused += [self.source("enable_ssl")] if self.enable_ssl else []
            if unused:
                advice = "TLS needs a TCP listener" if self.enable_ssl else "append :ssl to an address, or add --enable-ssl"
                found.append(f"{_have_no_effect(unused)}: no listener uses TLS; {advice}")
        if self.stream_body and self.stream_body_path:
            found.append(f"{self.source('stream_body_path')} has no effect together with {self.source('stream_body')}")
        if self.access_log == "off":
            names = ("access_log_format", "access_log_skip", "access_log_errors")
            unused = [self.source(name) for name in names if self.source(name) != DEFAULT_SOURCE]
            if unused:
                found.append(f"{_have_no_effect(unused)}: there is no access log; add --access-log")
        elif access_log_format.is_json(self.access_log_format):
            problem = access_log_format.json_problem(self.access_log_format)
            if problem is not None:
                found.append(f"{self.source('access_log_format')} begins with {{ but its lines are not JSON: {problem}")
        found += self._reload_warnings()
        return tuple(found)

    def _reload_warnings(self) -> list[str]:
        given = [self.source(name) for name in ("reload_engine", "reload_extra_files") if self.source(name) != DEFAULT_SOURCE]
        if not self.reload:
            return [f"{_have_no_effect(given)} without reload (--reload)"] if given else []
        limited = self.source("graceful_timeout")
        if self.graceful_timeout < RELOAD_SECONDS or limited == DEFAULT_SOURCE:
            return []
        return [f"{limited} is at most {RELOAD_SECONDS:g} s with reload ({self.source('reload')})"]

    def _overridden(self) -> tuple[str, ...]:
        for winner, losers in (("listen", ("socket", "host", "port")), ("socket", ("host", "port"))):
            ignored = [self.source(name) for name in losers if self.value(name) is not None]
            if self.source(winner) != DEFAULT_SOURCE and ignored:
                return (f"{_have_no_effect(ignored)} together with {self.source(winner)}",)
        return ()


def _suit_development(parsed: dict[str, object], given: Mapping[str, GivenValue]) -> None:
    """With reload: 1 worker unless `workers` is given, and a short graceful_timeout, so that streams do not hold up a
    reload."""
    if "workers" not in given:
        parsed["workers"] = 1
    graceful_timeout = parsed["graceful_timeout"]
    assert isinstance(graceful_timeout, float)
    parsed["graceful_timeout"] = min(graceful_timeout, RELOAD_SECONDS)


def _have_no_effect(sources: list[str]) -> str:
    """ "--port has no effect", "--host, --port have no effect"."""
    return f"{', '.join(sources)} {'has' if len(sources) == 1 else 'have'} no effect"


def _check_warm_up(parsed: Mapping[str, object], given: Mapping[str, GivenValue]) -> None:
    """Raise SettingError for a warm-up path that does not lead to the mounted application."""
    prefix, targets = str(parsed["path"]), parsed["warm_up"]
    assert isinstance(targets, tuple)
    mounted_at = prefix.encode("utf-8", "surrogateescape") + b"/"
    for target in targets:
        if not (_decoded(target.partition("?")[0]) + b"/").startswith(mounted_at):
            raise SettingError(
                f"{given['warm_up'].source}: warm_up {target} is not below {prefix}, where the application is mounted"
            )


def _decoded(path: str) -> bytes:
    """Decode the percent-encoding of a path. Other "%" are left unchanged. Not by urllib, which is too large for the
    master."""
    decoded, *parts = path.encode("ascii").split(b"%")
    for part in parts:
        digits, rest = part[:2], part[2:]
        if len(digits) == 2 and not digits.strip(b"0123456789ABCDEFabcdef"):
            decoded += bytes.fromhex(digits.decode("ascii")) + rest
        else:
            decoded += b"%" + part
    return decoded


def _socket_address(text: str) -> Address:
    """The address of the setting `socket`, in which a name without "/" is a path too."""
    if "/" in text or text.startswith(("unix:", "@")):
        return parse_address(text)
    return unix_address(text, text)
