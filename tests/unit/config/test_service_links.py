"""starman.config.service_links: which variables Kubernetes has made, and which are settings."""

from __future__ import annotations

import pytest

from starman.config.service_links import notice, service_links
from starman.config.sources import from_environment
from starman.errors import SettingError


def links(
    service: str, port: int = 80, protocol: str = "tcp", address: str = "10.0.171.239", named: str = "HTTP"
) -> dict[str, str]:
    """The variables of one Service, as the documentation of Kubernetes lists them ("Accessing the Service")."""
    prefix = service.upper().replace("-", "_")
    url = f"{protocol}://{address}:{port}" if ":" not in address else f"{protocol}://[{address}]:{port}"
    detailed = f"{prefix}_PORT_{port}_{protocol.upper()}"
    return {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_SERVICE_PORT_{named}": str(port),
        f"{prefix}_PORT": url,
        detailed: url,
        f"{detailed}_PROTO": protocol,
        f"{detailed}_PORT": str(port),
        f"{detailed}_ADDR": address,
    }


SERVICES = [
    links("starman"),
    links("starman-web"),
    links("starman-workers", 8000),
    links("starman", 53, "udp"),
    links("starman", 9, "sctp"),
    links("starman", address="fd00:10:96::1"),
    links("starman", named="HTTP_ALT"),
    links("starman-service-port", 8080),
    links("starman-port-80-tcp"),
]


@pytest.mark.parametrize("environ", SERVICES, ids=lambda environ: next(iter(environ)))
def test_all_variables_of_a_service_are_ignored(environ: dict[str, str]) -> None:
    assert service_links(environ) == sorted(environ)
    assert from_environment({**environ, "STARMAN_WORKERS": "3"}).keys() == {"workers"}


def test_a_port_that_is_a_setting_stays_one() -> None:
    assert from_environment({"STARMAN_PORT": "8000"})["port"].value == "8000"
    assert from_environment({"STARMAN_HOST": "10.0.0.1"})["host"].value == "10.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STARMAN_SERVICE_HOST", "by name"),
        ("STARMAN_SERVICE_PORT", "http"),
        ("STARMAN_WEB_PORT", "8000"),
        ("STARMAN_PORTS", "tcp://10.0.0.1:80"),
        ("STARMAN_PORT_80_TCP_PROTO", "http"),
        ("STARMAN_PORT_80_TCP_PORT", "81"),
        ("STARMAN_PORT_X_TCP", "tcp://10.0.0.1:80"),
        ("STARMAN_WORKER", "2"),
    ],
)
def test_what_only_looks_like_one_is_still_an_error(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: unknown variable"):
        from_environment({name: value})


def test_a_port_that_is_neither_is_an_error_of_the_setting() -> None:
    assert from_environment({"STARMAN_PORT": "http://10.0.0.1:80"})["port"].value == "http://10.0.0.1:80"


def test_they_are_named_in_one_line() -> None:
    assert notice({"STARMAN_PORT": "8000", "PATH": "/bin", "OTHER_SERVICE_HOST": "10.0.0.1"}) is None
    assert notice(links("starman")) == (
        "ignored, because they describe a Kubernetes Service: STARMAN_PORT, STARMAN_PORT_80_TCP, STARMAN_PORT_80_TCP_ADDR and 5 "
        "more (set enableServiceLinks: false to omit them from the pod)"
    )
    assert str(notice({"STARMAN_SERVICE_HOST": "10.0.0.1"})).startswith(
        "ignored, because they describe a Kubernetes Service: STARMAN_SERVICE_HOST (set enable"
    )
