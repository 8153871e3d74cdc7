"""TLS listeners, with clients of several makes: they work as plain ones do, and a bad handshake disturbs no other
client."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.functional.conftest import Events
from tests.functional.support.applications import digest, pattern
from tests.functional.support.certificates import Pair, TlsClient, trusting
from tests.functional.support.commands import starman
from tests.functional.support.harness import Server, environment, wait_until
from tests.functional.support.tools import curl, run_tool
from tests.functional.support.wire import Client, TruncatedError, encode_chunks, encode_request

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module")
def server(server_env: dict[str, str], pair: Pair) -> Iterator[Server]:
    """One worker with one thread, so that a request that holds it is noticed; a TLS listener and a plain one."""
    arguments = ["--workers", "1", "--threads", "1", "--ssl-handshake-timeout", "1.5", *pair.arguments]
    listen = ["127.0.0.1:0:ssl", "127.0.0.1:0"]
    with Server("tests.functional.support.applications:app", *arguments, listen=listen, env=server_env) as running:
        yield running


@pytest.fixture
def client(server: Server, pair: Pair) -> Iterator[TlsClient]:
    with TlsClient(server.port, pair) as connected:
        yield connected


# What an application and a client see


def test_the_ready_line_and_the_environ(server: Server, client: TlsClient) -> None:
    assert server.listeners == f"https://127.0.0.1:{server.ports[0]}, http://127.0.0.1:{server.ports[1]}"
    environ = json.loads(client.get("/environ").body)
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["SERVER_PORT"] == str(server.port)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    with Client(("127.0.0.1", server.ports[1])) as plain:
        assert json.loads(plain.get("/environ").body)["wsgi.url_scheme"] == "http"


def test_the_raw_socket_is_not_offered(client: TlsClient) -> None:
    response = client.get("/environ", ("Connection", "Upgrade"), ("Upgrade", "websocket"))
    assert "gunicorn.socket" not in json.loads(response.body)


def test_keep_alive_and_close(client: TlsClient) -> None:
    for _ in range(30):
        response = client.get("/hello")
        assert (response.body, response.persistent) == (b"hello\n", True)
    assert client.get("/hello", ("Connection", "close")).get("Connection") == "close"
    assert client.at_end()


def test_pipelining(client: TlsClient) -> None:
    client.send(b"".join(encode_request("GET", f"/size/{number * 1000}") for number in range(50)))
    assert [len(response.body) for response in client.read_many(["GET"] * 50)] == [number * 1000 for number in range(50)]


def test_bodies_both_ways(client: TlsClient) -> None:
    upload = pattern(5 * MEBIBYTE)  # more than body_buffer: by way of a spool file
    assert client.request("POST", "/digest", body=upload).body == digest(upload)
    client.send(
        encode_request("POST", "/digest", [("Transfer-Encoding", "chunked")]) + encode_chunks([upload[:70_000], upload[70_000:]])
    )
    assert client.read().body == digest(upload)
    assert client.get(f"/size/{20 * MEBIBYTE}").body == pattern(20 * MEBIBYTE)
    streamed = client.get(f"/stream/{3 * MEBIBYTE}?step=70001")
    assert (streamed.framing, streamed.body) == ("chunked", pattern(3 * MEBIBYTE))
    assert client.get("/write").body == b"one two three"


def test_bytes_that_arrive_one_by_one(client: TlsClient) -> None:
    for byte in encode_request("POST", "/echo", body=b"slowly"):
        client.send(bytes([byte]))
    assert client.read().body == b"slowly"


def test_head_and_expect(client: TlsClient) -> None:
    response = client.request("HEAD", "/hello")
    assert (response.get("Content-Length"), response.body) == ("6", b"")
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert client.read_head().status == 100
    client.send(b"body")
    assert client.read().body == b"body"


def test_files(client: TlsClient, events: Events) -> None:
    assert client.get("/file").body == pattern(300_000)
    assert client.get("/file?offset=1000&length=20000").body == pattern(300_000)[1000:21_000]
    assert client.get("/file-like").body == pattern(50_000)
    assert client.request("HEAD", "/file").body == b""
    assert client.get("/hello").body == b"hello\n"
    events.wait_for("close file")


def test_a_refusal_arrives(client: TlsClient) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100_000)
    response = client.read()
    assert (response.status, response.get("Connection")) == (400, "close")
    assert client.at_end()


def test_close_notify_of_the_client_is_a_half_close(server: Server, pair: Pair) -> None:
    """RFC 8446 §6.1: what it has asked for is still answered, then closed by a close_notify of ours."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = trusting(pair).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65_536))
        session.write(encode_request("GET", "/size/100000"))
        with contextlib.suppress(ssl.SSLWantReadError):
            session.unwrap()
        sock.sendall(outgoing.read())
        received = b""
        while block := sock.recv(65_536):
            incoming.write(block)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                while piece := session.read(65_536):
                    received += piece
        assert received.endswith(pattern(100_000))


# Clients of other makes


def test_curl(server: Server, pair: Pair, tmp_path: Path) -> None:
    url = f"https://localhost:{server.port}"
    trusted = ["--cacert", str(pair.certificate), "--resolve", f"localhost:{server.port}:127.0.0.1"]
    assert curl(*trusted, f"{url}/size/{20 * MEBIBYTE}").stdout == pattern(20 * MEBIBYTE)
    assert curl("--insecure", *trusted[2:], f"{url}/hello").stdout == b"hello\n"
    body = tmp_path / "body"
    body.write_bytes(pattern(5 * MEBIBYTE))
    assert curl(*trusted, "--data-binary", f"@{body}", f"{url}/digest").stdout == digest(body.read_bytes())
    assert curl(*trusted, "-w", "%{num_connects}", *[f"{url}/hello"] * 3).stdout == b"hello\n1hello\n0hello\n0"


def test_requests(server: Server, pair: Pair) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(pair.certificate)
        for _ in range(3):
            assert session.get(f"https://127.0.0.1:{server.port}/hello", timeout=10).text == "hello\n"
        posted = session.post(f"https://127.0.0.1:{server.port}/digest", data=pattern(MEBIBYTE), timeout=10)
        assert posted.content == digest(pattern(MEBIBYTE))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("http/1.1", "ALPN protocol: http/1.1"), ("h2,http/1.1", "ALPN protocol: http/1.1"), ("h2", "No ALPN")],
)
def test_openssl_and_alpn(server: Server, offered: str, chosen: str) -> None:
    request = encode_request("GET", "/hello", [("Connection", "close")])
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-alpn", offered, "-ign_eof"]
    done = subprocess.run(command, input=request, capture_output=True, timeout=20, check=False)
    assert chosen.encode() in done.stdout
    assert b"\r\n\r\nhello\n" in done.stdout


def versions(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client's context of one version, which trusts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


def test_tls_1_2_and_its_ciphers(server: Server, pair: Pair) -> None:
    with TlsClient(server.port, pair, context=versions(ssl.TLSVersion.TLSv1_2)) as client:
        assert client.socket.version() == "TLSv1.2"
        cipher = client.socket.cipher()
        assert cipher is not None
        assert cipher[0].startswith("ECDHE")
        assert client.get("/hello").body == b"hello\n"
    weak = versions(ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        TlsClient(server.port, pair, context=weak)


def test_tls_1_1_is_refused_by_an_alert_and_a_quiet_line(server: Server) -> None:
    options = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
    assert b"alert protocol version" in done.stderr
    server.wait_for(r"TLS handshake with 127\.0\.0\.1 failed: unsupported protocol")
    assert "Traceback" not in server.log


# Clients that are slow, or break off


def test_a_slow_reader_holds_no_thread(server: Server, pair: Pair) -> None:
    with TlsClient(server.port, pair, receive_bytes=65536) as slow, TlsClient(server.port, pair) as other:
        slow.send(encode_request("GET", f"/size/{20 * MEBIBYTE}"))
        assert slow.read_head().status == 200
        for _ in range(20):
            assert other.get("/hello").body == b"hello\n"
        slow.send(encode_request("GET", "/hello"))
        assert slow._read_exactly(20 * MEBIBYTE) == pattern(20 * MEBIBYTE)
        assert slow.read().body == b"hello\n"


FILE_APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/file":
        return environ["wsgi.file_wrapper"](open("file", "rb"))
    return [b"hello"]
"""


def test_a_slow_reader_of_a_file_holds_no_thread_and_gets_it_before_the_close(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pattern(20 * MEBIBYTE))
    (tmp_path / "app.py").write_text(FILE_APPLICATION)
    arguments = ["--workers", "1", "--threads", "1", *pair.arguments]
    with (
        Server("app:app", *arguments, listen="127.0.0.1:0:ssl", cwd=tmp_path) as server,
        TlsClient(server.port, pair, receive_bytes=65536) as slow,
        TlsClient(server.port, pair) as other,
    ):
        slow.send(encode_request("GET", "/file", [("Connection", "close")]))
        assert slow.read_head().get("Content-Length") == str(20 * MEBIBYTE)
        assert other.get("/hello").body == b"hello"
        # Longer than a connection that has sent its last byte is waited for: the last byte is not sent yet.
        threading.Event().wait(3)
        assert slow.read_to_end() == pattern(20 * MEBIBYTE)


def test_a_client_that_reads_nothing_is_cut(server_env: dict[str, str], pair: Pair, events: Events) -> None:
    arguments = ["--workers", "1", "--threads", "1", "--write-timeout", "1", *pair.arguments]
    with (
        Server("tests.functional.support.applications:app", *arguments, listen="127.0.0.1:0:ssl", env=server_env) as server,
        TlsClient(server.port, pair, receive_bytes=65536) as stalled,
        TlsClient(server.port, pair) as other,
    ):
        stalled.send(encode_request("GET", "/endless?name=stalled"))
        events.wait_for("close stalled")
        assert other.get("/hello").body == b"hello\n"
        with pytest.raises((ConnectionResetError, TruncatedError, ssl.SSLError)):
            stalled.read()


def test_a_reset_in_the_middle_of_a_response_ends_it(server: Server, pair: Pair, events: Events) -> None:
    with TlsClient(server.port, pair) as client:
        client.send(encode_request("GET", "/endless?name=reset"))
        client.read_head()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    events.wait_for("close reset")
    with TlsClient(server.port, pair) as other:
        assert other.get("/hello").body == b"hello\n"
    assert "Traceback" not in server.log


def hello_of_a_client() -> bytes:
    """A whole ClientHello."""
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("said", [0, 1, 100])
def test_a_stalled_handshake_is_cut_in_time_and_disturbs_no_other(server: Server, pair: Pair, said: int) -> None:
    part = hello_of_a_client()[:said]
    began = time.monotonic()
    stalled = [socket.create_connection(("127.0.0.1", server.port), 20) for _ in range(20)]
    for sock in stalled:
        sock.sendall(part)
    served = 0
    while not select.select(stalled, [], [], 0)[0]:
        with TlsClient(server.port, pair) as other:
            assert other.get("/hello").body == b"hello\n"
        served += 1
    assert served > 1, "others need not wait until the stalled ones are cut"
    for sock in stalled:
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        sock.close()
    assert 1 < time.monotonic() - began < 30  # 1.5 s, on a machine that does nothing else
    if said:
        server.wait_for(r"TLS handshake with 127\.0\.0\.1 failed: it took too long")


def test_a_client_that_trusts_no_certificate_costs_a_quiet_line(server: Server, pair: Pair) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsClient(server.port, pair, context=ssl.create_default_context())
    server.wait_for(r"\[INFO\] TLS (handshake )?with 127\.0\.0\.1 (failed|broke): .*unknown ca")
    assert "Traceback" not in server.log


def test_rubbish_after_the_handshake(server: Server, pair: Pair) -> None:
    with TlsClient(server.port, pair) as client:
        assert client.get("/hello").body == b"hello\n"
        with socket.socket(fileno=client.socket.detach()) as raw:
            raw.settimeout(10)
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(65_536):
                    pass
    server.wait_for(r"TLS with 127\.0\.0\.1 broke: ")
    assert "Traceback" not in server.log


# The wrong protocol


def test_plain_http_gets_a_plain_400_that_says_so(server: Server) -> None:
    with server.client() as client:
        response = client.request("POST", "/hello", body=pattern(200_000))
        assert (response.status, response.get("Connection")) == (400, "close")
        assert b"TLS" in response.body
        assert client.at_end()
    server.wait_for(r"refused 127\.0\.0\.1: 400 .*TLS")


def test_tls_on_the_plain_port_gets_a_400(server: Server) -> None:
    with Client(("127.0.0.1", server.ports[1])) as client:
        client.send(hello_of_a_client())
        assert client.read().status == 400


# Listeners and lifetimes


def test_enable_ssl_makes_it_the_default_of_tcp(pair: Pair, tmp_path: Path) -> None:
    listen = ["127.0.0.1:0", str(tmp_path / "app.sock")]
    arguments = ["--enable-ssl", "--workers", "1", *pair.arguments]
    with Server("tests.functional.support.applications:app", *arguments, listen=listen) as server:
        with TlsClient(server.port, pair) as client:
            assert client.get("/hello").body == b"hello\n"
        with Client(str(tmp_path / "app.sock")) as plain:
            assert plain.get("/hello").body == b"hello\n"


def test_certificate_and_key_in_one_file_and_ipv6(pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    with Server(
        "tests.functional.support.applications:app", "--workers", "1", "--ssl-cert", str(both), listen="[::1]:0:ssl"
    ) as server:
        assert server.listeners.startswith("https://[::1]:")
        assert curl("--insecure", f"https://[::1]:{server.port}/hello").stdout == b"hello\n"


def test_a_drain_finishes_responses_and_handshakes(server_env: dict[str, str], pair: Pair) -> None:
    arguments = ["--workers", "1", "--threads", "2", "--ssl-handshake-timeout", "2", *pair.arguments]
    with (
        Server("tests.functional.support.applications:app", *arguments, listen="127.0.0.1:0:ssl", env=server_env) as server,
        TlsClient(server.port, pair) as client,
        TlsClient(server.port, pair) as idle,
        socket.create_connection(("127.0.0.1", server.port), 10) as late,
    ):
        assert idle.get("/hello").status == 200
        client.send(encode_request("GET", f"/stream/{20 * MEBIBYTE}?step=100000"))
        assert client.read_head().status == 200
        late.sendall(hello_of_a_client()[:50])
        server.signal(signal.SIGQUIT)
        assert idle.at_end()
        late.sendall(hello_of_a_client()[50:])  # another one: whatever comes of it, it must not delay the end
        assert client.read_to_end().endswith(b"\r\n0\r\n\r\n")
        assert server.wait(15) == 0


def test_a_silent_client_does_not_delay_the_end(pair: Pair) -> None:
    with (
        Server(
            *("tests.functional.support.applications:app", "--workers", "1", "--ssl-handshake-timeout", "60", *pair.arguments),
            listen="127.0.0.1:0:ssl",
        ) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as silent,
    ):
        with TlsClient(server.port, pair) as client:
            assert client.get("/hello").status == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 20, "ssl_handshake_timeout and graceful_timeout are longer"
        assert silent.recv(1) == b""


@pytest.mark.parametrize("preload", [[], ["--preload-app"]])
def test_hup_takes_a_renewed_certificate(tmp_path: Path, preload: list[str]) -> None:
    old = Pair(tmp_path, "localhost")
    arguments = ["--workers", "2", *preload, *old.arguments]
    with Server("tests.functional.support.applications:app", *arguments, listen="127.0.0.1:0:ssl") as server:
        with TlsClient(server.port, old) as client:
            assert client.get("/hello").body == b"hello\n"
        before = set(server.worker_pids())
        trusts_old = trusting(old)
        new = Pair(tmp_path, "localhost")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 20)
        assert wait_until(lambda: not before & set(server.worker_pids()))
        for _ in range(4):
            with TlsClient(server.port, new) as client:
                assert client.get("/hello").body == b"hello\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            TlsClient(server.port, new, context=trusts_old)
        # One that cannot be used: the workers that are there stay.
        new.certificate.write_text("rubbish")
        server.signal(signal.SIGHUP)
        server.wait_for("restart given up, the old workers stay: .*--ssl-cert", 20)
        assert curl("--insecure", f"https://127.0.0.1:{server.port}/hello").stdout == b"hello\n"


def test_many_clients_at_once(server_env: dict[str, str], pair: Pair) -> None:
    """Handshakes, kept connections, pipelines and streams beside each other, on two workers."""
    arguments = ["--workers", "2", "--threads", "4", *pair.arguments]

    def talk(port: int, number: int) -> None:
        for _ in range(5):
            with TlsClient(port, pair) as client:
                body = pattern(50_000 * number + 1)
                assert client.request("POST", "/digest", body=body).body == digest(body)
                client.send(encode_request("GET", "/stream/300000?step=9999") * 3)
                assert [response.body for response in client.read_many(["GET"] * 3)] == [pattern(300_000)] * 3

    with (
        Server("tests.functional.support.applications:app", *arguments, listen="127.0.0.1:0:ssl", env=server_env) as server,
        ThreadPoolExecutor(12) as pool,
    ):
        for done in [pool.submit(talk, server.port, number) for number in range(12)]:
            done.result(60)
        assert "ERROR" not in server.log


def test_serve_on_the_loop_of_asyncio(pair: Pair) -> None:
    """Without workers, in a loop of the caller's: the plain one of asyncio, too."""
    script = f"""
import asyncio, sys, starman
async def main():
    from tests.functional.support.applications import app
    await starman.serve(app, listen="127.0.0.1:0:ssl", ssl_cert={str(pair.certificate)!r}, ssl_key={str(pair.key)!r}, threads=1)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            port = int(process.stderr.readline().strip().rpartition(":")[2])
            with TlsClient(port, pair, receive_bytes=65536) as client, TlsClient(port, pair) as other:
                client.send(encode_request("GET", f"/size/{5 * MEBIBYTE}", [("Connection", "close")]))
                upload = pattern(5 * MEBIBYTE)
                assert other.request("POST", "/digest", body=upload).body == digest(upload)
                streamed = other.get("/stream/3000000?step=70000")
                assert streamed.body == pattern(3_000_000)
                other.send(encode_request("GET", "/hello") * 20)
                assert [response.body for response in other.read_many(["GET"] * 20)] == [b"hello\n"] * 20
                assert client.read().body == pattern(5 * MEBIBYTE)
            with Client(("127.0.0.1", port)) as plain:
                assert plain.get("/hello").status == 400
        finally:
            process.send_signal(signal.SIGINT)
            log = process.stderr.read()
    assert "Traceback" not in log, log


# Settings that cannot be


def refused(*arguments: str, cwd: Path) -> str:
    """What the command says when it does not start; with --check it must say the same."""
    said = []
    for first in ([], ["--check"]):
        done = starman(*first, "--workers", "1", *arguments, "app:app", cwd=cwd)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        said.append(done.stderr)
    return said[0] + said[1]


def test_certificates_that_cannot_be_used(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def app(environ, start_response):\n    start_response('200 OK', [])\n    return []\n")
    other = Pair(tmp_path, "other")
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    broken = tmp_path / "broken.pem"
    broken.write_text(pair.certificate.read_text().replace("M", "N"))
    locked = tmp_path / "locked.key"
    run_tool("openssl", "pkey", "-in", str(pair.key), "-aes128", "-passout", "pass:secret", "-out", str(locked))
    listen = ["--listen", "127.0.0.1:0:ssl"]
    certificate, key = str(pair.certificate), str(pair.key)
    cases: list[tuple[list[str], str]] = [
        ([], "--ssl-cert"),
        (["--ssl-cert", "missing.pem"], f"--ssl-cert: cannot read '{tmp_path}/missing.pem': No such file"),
        (["--ssl-cert", str(tmp_path)], "--ssl-cert: cannot read"),
        (["--ssl-cert", str(rubbish)], "--ssl-cert: .* has no certificate"),
        (["--ssl-cert", certificate], "--ssl-cert: .* has no private key: .*--ssl-key"),
        (["--ssl-cert", certificate, "--ssl-key", "missing.key"], f"--ssl-key: cannot read '{tmp_path}/missing.key'"),
        (["--ssl-cert", certificate, "--ssl-key", certificate], "--ssl-key: .* has no private key"),
        (["--ssl-cert", certificate, "--ssl-key", str(other.key)], "--ssl-key: the private key .* does not belong to"),
        (["--ssl-cert", certificate, "--ssl-key", str(locked)], "--ssl-key: .* has a passphrase"),
        (["--ssl-cert", str(broken), "--ssl-key", key], "--ssl-cert, --ssl-key: OpenSSL cannot use"),
    ]
    with ThreadPoolExecutor(2) as pool:
        outcomes = pool.map(lambda case: refused(*listen, *case[0], cwd=tmp_path), cases)
        for (arguments, expected), said in zip(cases, outcomes, strict=True):
            assert len(re.findall(expected, said)) == 2, (arguments, said)


def test_an_unused_certificate_is_warned_of(pair: Pair) -> None:
    with Server("tests.functional.support.applications:app", "--workers", "1", *pair.arguments) as server:
        assert "--ssl-cert, --ssl-key have no effect: no listener uses TLS" in server.log
