"""Servers and proxies that speak TLS, or should: what is trusted, and what is said when it is not."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Request
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.errors import CannotConnectError, EngineError, EngineUnavailableError
from tests.http.fault_server import FaultServer, raw_server

HELLO = Request((Message("user", "hello"),))
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate and its key."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Certificate:
        """Make one for a name with the openssl command."""
        made = cls(folder / "certificate.pem", folder / "key.pem")
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"),
            *("-keyout", made.key, "-out", made.certificate, "-addext", f"subjectAltName={name}"),
        )
        return made

    def expire(self) -> None:
        """Let it end yesterday."""
        _openssl(
            *("x509", "-in", self.certificate, "-signkey", self.key, "-days", "-1", "-out", self.certificate),
        )

    @property
    def context(self) -> ssl.SSLContext:
        """What a server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("here"), "IP:127.0.0.1")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*TRUST, "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def tls_server(certificate: Certificate) -> FaultServer:
    return FaultServer(tls=certificate.context)


async def ask(base_url: str) -> str | None:
    engine = HttpEngine(base_url, "test-model", timeout_seconds=20)
    try:
        return (await engine.complete(HELLO)).text
    finally:
        await engine.aclose()


async def fail(base_url: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await ask(base_url)
    return caught.value


@pytest.mark.parametrize("variable", [TRUST[0], *TRUST[2:]])
async def test_a_named_certificate_is_trusted(
    variable: str, here: Certificate, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(variable, str(here.certificate))
    with tls_server(here) as server:
        assert await ask(server.base_url)


async def test_a_named_folder_of_certificates_is_trusted(
    here: Certificate, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.pem").write_bytes(here.certificate.read_bytes())
    _openssl("rehash", tmp_path)
    environment.setenv("SSL_CERT_DIR", str(tmp_path))
    with tls_server(here) as server:
        assert await ask(server.base_url)


@pytest.mark.parametrize("named", ["missing.pem", "empty.pem"])
async def test_a_variable_that_names_no_certificates_is_named(
    named: str, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").touch()
    environment.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / named))
    failure = await fail("https://127.0.0.1:9/v1")
    assert isinstance(failure, EngineUnavailableError)
    assert "REQUESTS_CA_BUNDLE" in str(failure)
    assert named in str(failure)


async def test_a_self_signed_certificate_is_not_trusted_and_the_variable_is_named(here: Certificate) -> None:
    with tls_server(here) as server:
        failure = await fail(server.base_url)
        assert server.base_url in str(failure)
        assert not server.requests
    assert isinstance(failure, EngineUnavailableError)
    assert "self-signed" in str(failure)
    assert "SSL_CERT_FILE" in str(failure.hint)


@pytest.mark.parametrize(
    ("name", "expired", "said"),
    [("DNS:other.example", False, "is for another host"), ("IP:127.0.0.1", True, "has expired")],
)
async def test_a_trusted_certificate_may_still_not_fit(
    name: str, expired: bool, said: str, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    certificate = Certificate.make(tmp_path, name)
    if expired:
        certificate.expire()
    environment.setenv("SSL_CERT_FILE", str(certificate.certificate))
    with tls_server(certificate) as server:
        failure = await fail(server.base_url)
    assert isinstance(failure, EngineUnavailableError)
    assert said in str(failure)


async def test_a_certificate_that_is_not_trusted_is_not_asked_again(here: Certificate) -> None:
    with tls_server(here) as server:
        engine = build_stack(HttpEngine(server.base_url, server.model), retry=RetryPolicy(first_wait_seconds=30))
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.complete(HELLO)
        await engine.aclose()
    assert caught.value.attempts == 1


async def test_https_is_asked_of_a_server_that_speaks_http() -> None:
    with FaultServer() as server:
        failure = await fail(server.base_url.replace("http:", "https:"))
    assert isinstance(failure, EngineUnavailableError)
    assert "speaks http, not https" in str(failure)
    assert "--base-url" in str(failure.hint)


async def test_http_is_asked_of_a_server_that_speaks_https(here: Certificate) -> None:
    with tls_server(here) as server:
        failure = await fail(server.base_url.replace("https:", "http:"))
    assert "https://" in str(failure.hint)


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (b"407 Proxy Authentication Required", EngineUnavailableError, "USER:PASSWORD"),
        (b"403 Forbidden", EngineUnavailableError, "NO_PROXY"),
        (b"502 Bad Gateway", CannotConnectError, "NO_PROXY"),
        (b"503 Service Unavailable", CannotConnectError, "NO_PROXY"),
        (b"504 Gateway Timeout", CannotConnectError, "NO_PROXY"),
    ],
)
async def test_a_proxy_that_does_not_connect_is_blamed_by_name(
    status: bytes, error: type[EngineError], hint: str, environment: pytest.MonkeyPatch
) -> None:
    async with raw_server(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n") as name:
        environment.setenv("HTTPS_PROXY", f"http://me:hunter2@{name}")
        failure = await fail("https://models.example/v1")
    cause = failure.__cause__ if error is CannotConnectError else failure  # the first request finds nobody there
    assert isinstance(cause, error)
    assert f"the proxy {name} in front of https://models.example/v1 answered {status[:3].decode()}" in str(failure)
    assert hint in str(failure.hint)
    assert "hunter2" not in f"{failure} {failure.hint}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"407 Who Are You\r\nProxy-Authenticate: Basic\r\n", "the proxy {name} in front of {address} answered 407"),
        (b"503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n", "the proxy {name} in front of {address} answered 503"),
        (b"403 No\r\nContent-Type: text/html; charset=utf-8\r\n", "{address} behind the proxy {name} answered 403"),
    ],
)
async def test_a_proxy_that_answers_in_the_place_of_a_server_is_blamed_by_name(
    answer: bytes, said: str, environment: pytest.MonkeyPatch
) -> None:
    body = b"<html><h1>Blocked</h1></html>"
    async with raw_server(b"HTTP/1.1 " + answer + b"Content-Length: %d\r\n\r\n" % len(body) + body) as name:
        environment.setenv("http_proxy", name)
        failure = await fail("http://models.example/v1")
    assert said.format(name=name, address="http://models.example/v1") in str(failure)
    assert "_PROXY" in str(failure.hint)


async def test_a_proxy_whose_name_does_not_resolve_is_blamed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", f"http://{'long' * 20}:3128")
    failure = await fail("https://models.example/v1")
    assert "the proxy" in str(failure)
    assert "NO_PROXY" in str(failure.hint)


async def test_a_proxy_that_speaks_http_is_asked_for_https(environment: pytest.MonkeyPatch) -> None:
    with FaultServer() as server:
        environment.setenv("HTTP_PROXY", server.base_url.removesuffix("/v1").replace("http:", "https:"))
        failure = await fail("http://models.example/v1")
    assert "the proxy" in str(failure)
    assert "speaks http, not https" in str(failure)


async def test_a_network_in_no_proxy_is_reached_directly(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    environment.setenv("NO_PROXY", "192.0.2.0/24")
    engine = HttpEngine("http://192.0.2.7:1/v1", "m", timeout_seconds=0.2)
    with pytest.raises(EngineError) as caught:
        await engine.complete(HELLO)
    await engine.aclose()
    assert "proxy" not in str(caught.value)
