"""The table of metrics: name, type, labels, unit and meaning of each. docs/metrics.md is generated from it.

Names of requests' metrics and labels are OpenTelemetry's (semantic conventions for HTTP, as Prometheus writes them);
all others begin with `starman_`.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """One metric. name: as in the Prometheus format, a counter with `_total`. kind: counter, gauge or histogram. help:
    one sentence. labels: their names, in order. group: its heading in the documentation."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    group: str

    @property
    def unit(self) -> str:
        """The unit at the end of the name, or ""."""
        base = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if base.endswith(f"_{unit}")), "")


_REQUEST = ("http_request_method", "http_response_status_code", "url_scheme", "network_protocol_version")
_PROCESS = ("role", "worker")

REQUEST_DURATION = Metric(
    "http_server_request_duration_seconds",
    "histogram",
    "Time from a complete request to the end of its response, as the server hands it to the system; 499: the client left.",
    _REQUEST,
    "Requests",
)
ACTIVE_REQUESTS = Metric("http_server_active_requests", "gauge", "Requests that run or wait for a thread.", (), "Requests")
QUEUE_DURATION = Metric(
    "starman_queue_duration_seconds", "histogram", "Time that a complete request has waited for a thread.", (), "Requests"
)
QUEUE_LENGTH = Metric("starman_queue_length", "gauge", "Requests that wait for a thread.", (), "Requests")
QUEUE_LENGTH_MAX = Metric(
    "starman_queue_length_max",
    "gauge",
    "Longest queue of a worker since the last scrape, within two minutes.",
    (),
    "Requests",
)
REQUEST_BYTES = Metric("starman_request_body_bytes_total", "counter", "Bytes of request bodies received.", (), "Requests")
RESPONSE_BYTES = Metric("starman_response_body_bytes_total", "counter", "Bytes of response bodies sent.", (), "Requests")
REFUSALS = Metric(
    "starman_refusals_total",
    "counter",
    "Messages and connections refused before they became requests, and requests refused because the server is busy.",
    ("reason",),
    "Requests",
)

WORKERS = Metric(
    "starman_workers", "gauge", "Workers by state: booting, ready, or draining (finishing their requests).", ("state",), "Workers"
)
WORKERS_WANTED = Metric("starman_workers_wanted", "gauge", "Workers that should run.", (), "Workers")
RESPAWNS = Metric("starman_respawns_total", "counter", "Workers that have ended, by reason.", ("reason",), "Workers")
THREADS = Metric(
    "starman_threads",
    "gauge",
    "Threads for requests: busy, idle, or lost to requests that have timed out.",
    ("state",),
    "Workers",
)
THREADS_LOST = Metric("starman_threads_lost_total", "counter", "Threads lost to requests that have timed out.", (), "Workers")
LOOP_LAG = Metric(
    "starman_loop_lag_max_seconds",
    "gauge",
    "How late a worker's event loop was at most since the last scrape, within two minutes.",
    ("worker",),
    "Workers",
)
LOOP_SILENCE = Metric(
    "starman_loop_silence_seconds", "gauge", "Time since a worker's event loop was last alive.", ("worker",), "Workers"
)
MEMORY_PSS = Metric(
    "starman_process_pss_bytes",
    "gauge",
    "Memory of a process, with its share of what processes share (PSS). Linux only.",
    _PROCESS,
    "Processes",
)
MEMORY_PRIVATE = Metric(
    "starman_process_private_bytes",
    "gauge",
    "Memory of a process that no other process shares. Linux only.",
    _PROCESS,
    "Processes",
)
CPU = Metric("starman_process_cpu_seconds_total", "counter", "CPU time of a process. Linux only.", _PROCESS, "Processes")
AGE = Metric("starman_process_age_seconds", "gauge", "Time since the start of a process.", _PROCESS, "Processes")

CONNECTIONS = Metric(
    "starman_connections",
    "gauge",
    "Open connections: active, or idle (without a request for at least a second).",
    ("state",),
    "Connections",
)
ACCEPTED = Metric("starman_connections_accepted_total", "counter", "Connections accepted.", (), "Connections")
BACKLOG = Metric(
    "starman_listen_backlog",
    "gauge",
    "Connections that wait in the kernel to be accepted. Linux only.",
    ("listener",),
    "Connections",
)
BACKLOG_LIMIT = Metric(
    "starman_listen_backlog_limit",
    "gauge",
    "Most connections that may wait in the kernel. Linux only.",
    ("listener",),
    "Connections",
)
SPOOLED = Metric("starman_spooled_bytes", "gauge", "Bytes of request and response bodies in temporary files.", (), "Connections")

INFO = Metric("starman_build_info", "gauge", "Always 1; the labels are the versions.", ("version", "python"), "Server")
READY = Metric("starman_ready", "gauge", "1 if the server is ready for requests, as /readyz says; else 0.", (), "Server")

LOG_LINES = Metric("starman_log_lines_total", "counter", "Lines of the error log, by level.", ("level",), "Server")

METRICS = (
    *(REQUEST_DURATION, ACTIVE_REQUESTS, QUEUE_DURATION, QUEUE_LENGTH, QUEUE_LENGTH_MAX, REQUEST_BYTES, RESPONSE_BYTES),
    *(REFUSALS, WORKERS, WORKERS_WANTED, RESPAWNS, THREADS, THREADS_LOST, LOOP_LAG, LOOP_SILENCE),
    *(MEMORY_PSS, MEMORY_PRIVATE, CPU, AGE, CONNECTIONS, ACCEPTED, BACKLOG, BACKLOG_LIMIT, SPOOLED, INFO, READY),
    LOG_LINES,
)

# The values of the label `reason` of refusals: by the status code of the answer, and by the name of a counter.
REASON_OF_STATUS = {
    400: "malformed",
    408: "timeout",
    413: "body_too_large",
    414: "target_too_long",
    417: "expectation_failed",
    431: "fields_too_large",
    500: "internal_error",
    501: "not_implemented",
    503: "no_room",
    505: "version_not_supported",
}
REASON_OF_COUNTER = {
    "queue_timeouts": "queue_timeout",
    "full_queues": "queue_full",
    "tls_failures": "tls_handshake",
    "proxy_failures": "proxy_protocol",
}
