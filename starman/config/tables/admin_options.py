"""The table of settings of the admin HTTP and of statsd, which `starman.config.options` includes. The master imports
this module."""

from __future__ import annotations

from starman.config import admin_kinds, kinds
from starman.config.option import option
from starman.config.tables.proxy_options import comma_separated

HOSTS = comma_separated(admin_kinds.read_host, "ASCII names such as starman.example, without a port, or *", "NAMES")


class AdminOptions:
    """Declares the settings with which programs observe the server."""

    __slots__ = ()

    admin_listen: str | None = option(
        None,
        "Operation",
        kinds.LISTEN,
        "Answer /healthz, /readyz, /status and /metrics (Prometheus) on this address, and show a page for browsers. The "
        "address is written as for --listen.",
        fixed=True,
    )
    admin_token: str | None = option(
        None,
        "Operation",
        admin_kinds.TOKEN,
        "Require this token (Authorization: Bearer TOKEN) on admin_listen, except for /healthz, /readyz and the HTML file of "
        "the page, which contains no data. @FILE: read the token from this file.",
        fixed=True,
    )
    admin_hosts: tuple[str, ...] = option(
        (),
        "Operation",
        HOSTS,
        "Without admin_token, also answer requests to admin_listen with these names in Host, not only those with an IP "
        "address or localhost. *: with any name.",
        fixed=True,
    )
    statsd_host: str | None = option(
        None,
        "Operation",
        admin_kinds.STATSD,
        "Send metrics by UDP to this StatsD server, once a second, with the names that gunicorn uses.",
        fixed=True,
    )
    statsd_prefix: str = option(
        "",
        "Operation",
        admin_kinds.STATSD_PREFIX,
        "Put this before the name of each metric that is sent to statsd_host.",
        fixed=True,
    )
    dogstatsd_tags: str = option(
        "",
        "Operation",
        admin_kinds.STATSD_TAGS,
        "Append these tags to each metric that is sent to statsd_host (DogStatsD).",
        fixed=True,
    )
    enable_backlog_metric: bool = option(
        False,
        "Operation",
        kinds.FLAG,
        "Also send gunicorn.backlog to statsd_host: how many connections wait in the kernel to be accepted (Linux). It is a "
        "histogram, which DogStatsD and some other servers take, but not every server of StatsD.",
        fixed=True,
    )
