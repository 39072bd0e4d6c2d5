"""What can be chosen about the server."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from enum import StrEnum

from flip_reward.errors import OptionError


class OnUnscored(StrEnum):
    """What a contract that has no room for an unscored response answers. `/v1/rewards` always has room."""

    ERROR = "error"
    """The request fails, with a status that says whether asking again may help."""
    NULL = "null"
    """The reward is null."""
    VALUE = "value"
    """The reward is a number that the user chose."""


@dataclass(frozen=True, slots=True)
class UnscoredPolicy:
    """What stands for an unscored response where a contract wants a number.

    Attributes:
        choice: What is answered.
        value: The number for `OnUnscored.VALUE`. It has to be chosen: no number is harmless for every trainer.

    Raises:
        OptionError: There is a value without a use for it, a use without a value, or the value is no finite number.

    Example:
        >>> UnscoredPolicy(OnUnscored.VALUE, -1.0).value
        -1.0
    """

    choice: OnUnscored = OnUnscored.ERROR
    value: float | None = None

    def __post_init__(self) -> None:
        if self.choice is OnUnscored.VALUE and self.value is None:
            raise OptionError("--on-unscored value: which value?", hint="say it with --unscored-value")
        if self.choice is not OnUnscored.VALUE and self.value is not None:
            raise OptionError("--unscored-value is for --on-unscored value")
        if self.value is not None and not math.isfinite(self.value):
            raise OptionError(f"--unscored-value {self.value}: JSON has no such number")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes on.

    Attributes:
        max_body_bytes: The largest body of a request.
        max_candidates: The most responses to one conversation.
        max_text_characters: The longest single text.
        max_pending: The most responses that are accepted and not yet answered; what comes beyond is told to come
            again later.
        body_seconds: How long a client may take to send the headers of a request, and how long its body.

    Raises:
        OptionError: A limit is below 1, or no group of `max_candidates` could ever be accepted.
    """

    max_body_bytes: int = 32 * 2**20
    max_candidates: int = 256
    max_text_characters: int = 200_000
    max_pending: int = 8192
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        if min(self.max_body_bytes, self.max_candidates, self.max_text_characters, self.max_pending) < 1:
            raise OptionError("the limits of the server must be at least 1")
        if self.max_pending < self.max_candidates:
            raise OptionError(
                f"--max-pending {self.max_pending} is below --max-candidates {self.max_candidates}: a conversation "
                "with that many responses could never be accepted"
            )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how the server answers.

    Attributes:
        host: The address to listen at.
        port: The port to listen at; 0 takes a free one.
        api_key: What clients have to send; None lets everybody in. It is never shown.
        insecure: Listen at a public address without a key.
        unscored: What stands for unscored responses in contracts without room for them.
        trust_turns: See `flip_reward.core.chat_template.split_chat`.
        limits: What the server takes on.
        workers: How many processes answer.
        drain_seconds: How long requests in flight may take to finish when the server is asked to stop.
        access_log: Write one line for every request.

    Raises:
        OptionError: The address is public and there is neither a key nor `insecure`, or a number makes no sense.

    Example:
        >>> try:
        ...     ServerSettings(host="0.0.0.0")
        ... except OptionError as error:
        ...     print(error)
        0.0.0.0 is reachable from other machines, and there is no key
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = field(default=None, repr=False)
    insecure: bool = False
    unscored: UnscoredPolicy = UnscoredPolicy()
    trust_turns: bool = False
    limits: Limits = Limits()
    workers: int = 1
    drain_seconds: float = 60.0
    access_log: bool = False

    def __post_init__(self) -> None:
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip() == self.api_key != ""):
            raise OptionError("the key of the server is empty, or holds white space or characters beyond ASCII")
        if self.api_key is None and not self.insecure and not is_loopback(self.host):
            raise OptionError(
                f"{self.host} is reachable from other machines, and there is no key",
                hint="put one into FLIP_SERVER_KEY (or --server-key-env NAME), or say --insecure",
            )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address.

    Example:
        >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("10.0.0.1"), is_loopback("")
        (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
