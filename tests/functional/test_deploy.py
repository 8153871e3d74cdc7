"""The files of examples/deploy are valid for the tools that they are written for."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.functional.support.certificates import Pair
from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY
from tests.functional.support.tools import run_tool

DEPLOY = REPOSITORY / "examples" / "deploy"


def checked(arguments: list[str], directory: Path) -> None:
    """`starman-uv --check` accepts these arguments."""
    (directory / "shop").mkdir()
    (directory / "shop" / "wsgi.py").write_text("def application(environ, start_response): ...\n")
    # The directory of the socket is the service's: --check binds there.
    arguments = [argument.replace("/run/starman/", f"{directory}/") for argument in arguments]
    done = starman("--check", *arguments, cwd=directory)
    assert done.returncode == 0, done.stderr


def test_nginx(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(f"{user} pid {tmp_path}/pid; events {{}} http {{ access_log off; include {DEPLOY}/nginx.conf; }}")
    run_tool("nginx", "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(path))


@pytest.mark.parametrize("name", ["haproxy.cfg", "haproxy-tls-passthrough.cfg"])
def test_haproxy(name: str) -> None:
    run_tool("haproxy", "-c", "-f", str(DEPLOY / name))


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg", "haproxy-tls-passthrough.cfg", "Caddyfile"])
def test_the_commands_in_comments(name: str, tmp_path: Path) -> None:
    lines = re.findall(r"^#     starman-uv (.+)$", (DEPLOY / name).read_text(), re.MULTILINE)
    assert len(lines) == 1
    if "shop.pem" in lines[0]:
        pair = Pair(tmp_path, "shop")
        (tmp_path / "shop.pem").write_text(pair.certificate.read_text() + pair.key.read_text())
    checked(shlex.split(lines[0]), tmp_path)


def test_kubernetes(tmp_path: Path) -> None:
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"] == service["spec"]["selector"]
    container = pod["spec"]["containers"][0]
    assert container["command"] == ["starman-uv"]
    checked(container["args"], tmp_path)
    port = container["ports"][0]["containerPort"]
    assert f"--listen=:{port}" in container["args"]
    assert service["spec"]["ports"][0]["targetPort"] == port
    probes = [container[name] for name in ("readinessProbe", "startupProbe", "livenessProbe")]
    assert [(probe.get("httpGet") or probe["tcpSocket"])["port"] for probe in probes] == [port] * 3
    # What Kubernetes allows is more than what starman takes.
    graceful = next(int(argument.partition("=")[2]) for argument in container["args"] if argument.startswith("--graceful"))
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > graceful + pause
