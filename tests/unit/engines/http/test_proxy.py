"""Proxies and their exceptions, as curl reads them from the environment."""

import pytest

from flip_reward.engines.http.proxy import find_proxy, is_excluded
from flip_reward.errors import EngineUnavailableError

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "anything.example"),
        ("models.example", "models.example"),
        ("models.example", "MODELS.Example"),
        ("Models.EXAMPLE", "models.example"),
        ("models.example", "models.example."),
        ("models.example.", "models.example"),
        ("example", "models.example"),
        (".example", "models.example"),
        (".models.example", "models.example"),
        ("a.example,models.example", "models.example"),
        ("a.example models.example", "models.example"),
        (" a.example ,\tmodels.example ", "models.example"),
        (",,models.example,", "models.example"),
        ("models.example:8000", "models.example"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:8000", "10.1.2.3"),
        ("10.0.0.0/8", "10.200.3.4"),
        ("10.1.2.3/8", "10.200.3.4"),
        ("192.168.1.4/30", "192.168.1.7"),
        ("0.0.0.0/0", "8.8.8.8"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("fd00::1", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("[fd00::1]:8000", "[fd00::1]"),
        ("fd00:0:0::0:1", "fd00::1"),
        ("fd00::/8", "fd12:3456::1"),
        ("[fd00::]/8", "fd12:3456::1"),
    ],
)
def test_excluded(no_proxy: str, host: str) -> None:
    assert is_excluded(host, 8000, no_proxy)


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "models.example"),
        ("ample", "models.example"),
        ("models.example", "models.example.org"),
        ("odels.example", "models.example"),
        ("*.example", "models.example"),
        ("*,a.example", "models.example"),
        (".", "models.example"),
        ("models.example:80", "models.example"),
        ("10.0.0.0/8", "11.0.0.1"),
        ("10.0.0.0/8", "10.example"),
        ("10.0.0.0/99", "10.0.0.1"),
        ("10.0.0.0/", "10.0.0.0.example"),
        ("2.3", "10.1.2.3"),
        ("10.0.0.0/8", "fd00::1"),
        ("fd00::/8", "10.0.0.1"),
        ("fd00::1", "fd00::2"),
    ],
)
def test_not_excluded(no_proxy: str, host: str) -> None:
    assert not is_excluded(host, 8000, no_proxy)


def name_of(address: str) -> str | None:
    proxy = find_proxy(address)
    return None if proxy is None else proxy.name


def test_the_variable_of_the_scheme_counts_before_that_for_all(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", "http://all.example:1")
    assert name_of("http://models.example/v1") == name_of("https://models.example/v1") == "all.example:1"
    environment.setenv("HTTPS_PROXY", "https://secure.example")
    environment.setenv("http_proxy", "plain.example:3128")
    assert name_of("https://models.example/v1") == "secure.example:443"
    assert name_of("http://models.example/v1") == "plain.example:3128"
    environment.setenv("NO_PROXY", "models.example:80")
    assert name_of("http://models.example/v1") is None
    assert name_of("https://models.example/v1") == "secure.example:443"


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_servers_on_this_machine_have_none(host: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", "http://proxy.example:3128")
    assert find_proxy(f"http://{host}:8000/v1") is None


def test_credentials_are_sent_and_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", "http://me:p%40ss@[fd00::7]:3128")
    proxy = find_proxy("https://models.example/v1")
    assert proxy is not None
    assert (proxy.address, proxy.name) == ("http://me:p%40ss@[fd00::7]:3128", "[fd00::7]:3128")


@pytest.mark.parametrize("given", ["socks5://me:pass@proxy.example:1080", "http://proxy.example:many", "http://"])
def test_what_is_no_proxy_that_can_be_used(given: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", given)
    with pytest.raises(EngineUnavailableError, match="proxy") as caught:
        find_proxy("https://models.example/v1")
    assert "NO_PROXY" in str(caught.value.hint)
    assert "pass" not in str(caught.value)
