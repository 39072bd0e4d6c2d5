"""Which proxy stands before a server, read from the environment as curl reads it."""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from flip_reward.errors import EngineUnavailableError
from flip_reward.redact import strip_user_info

PROXY_HINT = "a server that is reached without the proxy belongs into NO_PROXY"
PROXY_KEY_HINT = "put the proxy's user and password into its variable: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. Its address holds credentials where it needs them; its name never does."""

    address: str
    name: str
    """What people call it: HOST:PORT."""


def find_proxy(address: str) -> Proxy | None:
    """Find the proxy before a server: HTTP_PROXY or HTTPS_PROXY by the server's scheme, ALL_PROXY, in either case.

    Servers on this machine and those in NO_PROXY have none; where the environment says nothing at all, the settings
    of the system count (macOS, Windows).

    Raises:
        EngineUnavailableError: The variable holds no address, or a kind of proxy that is not supported (SOCKS).
    """
    server = urlsplit(address)
    host, port = _host(server), server.port or _PORTS[server.scheme]
    if host == "localhost" or _is_loopback(host):
        return None
    given = urllib.request.getproxies_environment()
    if given:
        chosen = given.get(server.scheme) or given.get("all")
        if not chosen or is_excluded(host, port, given.get("no", "")):
            return None
    else:
        chosen = urllib.request.getproxies().get(server.scheme)
        if not chosen or urllib.request.proxy_bypass(host):
            return None
    return _read_proxy(chosen)


def answers_itself(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer that came through a proxy is the proxy's own."""
    return status == 407 or any(name in headers for name in ("Proxy-Authenticate", "X-Squid-Error"))


def is_excluded(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names a server: by its name or that of a domain around it, its address, or a network.

    Entries are separated by commas or blanks. A leading dot makes no difference, and `*` alone excludes everything.
    An entry may end with a port, which then has to fit. A network is written as in 10.0.0.0/8 or fd00::/8.

    Example:
        >>> is_excluded("gpu7.example", 80, "localhost, .example"), is_excluded("ample.com", 80, "example.com")
        (True, False)
        >>> is_excluded("10.1.2.3", 8000, "10.0.0.0/8"), is_excluded("10.1.2.3", 8000, "10.1.2.3:9000")
        (True, False)
    """
    entries = no_proxy.lower().replace(",", " ").split()
    if entries == ["*"]:
        return True
    host = host.lower().strip("[]").rstrip(".")
    return any(_names(entry, host, port) for entry in entries)


def _names(entry: str, host: str, port: int) -> bool:
    number = _to_address(host)
    if "/" in entry:
        return number is not None and _contains(entry, number)
    name, wanted_port = _split_port(entry)
    if wanted_port not in ("", str(port)):
        return False
    if number is not None:
        return _to_address(name) == number
    name = name.strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Split an entry into its name and its port; an IPv6 address has a port only behind brackets."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon and ":" not in name else (entry, "")


def _contains(network: str, number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return number in ipaddress.ip_network(network.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False


def _to_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    number = _to_address(host)
    return number is not None and number.is_loopback


def _host(address: SplitResult) -> str:
    return (address.hostname or "").rstrip(".")


def _read_proxy(given: str) -> Proxy:
    text = given.strip()
    address = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is not a number
        parts, host, port = urlsplit(""), None, None
    if not host:
        raise EngineUnavailableError(
            "the proxy of the environment is not an address",
            hint="set HTTPS_PROXY or HTTP_PROXY to one such as http://proxy.example:3128, or NO_PROXY to the server",
        )
    if parts.scheme not in _PORTS:
        raise EngineUnavailableError(
            f"the proxy {strip_user_info(address)} cannot be used: {parts.scheme} is not supported",
            hint="set HTTPS_PROXY or HTTP_PROXY to an http:// proxy, or add the server's host to NO_PROXY",
        )
    name = f"[{host}]" if ":" in host else host
    return Proxy(address, f"{name}:{port or _PORTS[parts.scheme]}")
