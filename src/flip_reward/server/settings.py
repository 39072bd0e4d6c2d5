"""The settings of the server."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.unscored import NONE, RAISE, UnscoredAction, UnscoredPolicy

if TYPE_CHECKING:
    from starlette.routing import Route

MakeRoutes: TypeAlias = "Callable[[RewardModel, ServerSettings], Sequence[Route]]"
"""With several workers it has to be picklable."""


class OnUnscored(StrEnum):
    """`--on-unscored`: what a contract without room for an unscored response answers."""

    ERROR = "error"
    """The request fails, with a status that says whether asking again may help."""
    NULL = "null"
    """The reward is null."""
    VALUE = "value"
    """The reward is a number that the user chose with `--unscored-value`."""


def choose_policy(on_unscored: OnUnscored, value: float | None = None) -> UnscoredPolicy:
    """Make the policy of `--on-unscored` and `--unscored-value`."""
    if on_unscored is not OnUnscored.VALUE:
        if value is not None:
            raise OptionError("--unscored-value is for --on-unscored value")
        return RAISE if on_unscored is OnUnscored.ERROR else NONE
    if value is None:
        raise OptionError("--on-unscored value: which value?", hint="say it with --unscored-value")
    if not math.isfinite(value):
        raise OptionError(f"--unscored-value {value}: JSON has no such number")
    return UnscoredPolicy(UnscoredAction.CONSTANT, value)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the server takes on."""

    max_body_bytes: int = 32 * 2**20
    max_candidates: int = 256
    max_text_characters: int = 200_000
    max_pending: int = 8192
    """Responses accepted and not yet answered; requests beyond are told to come again later."""
    body_seconds: float = 30.0
    """How long a client may take to send the headers of a request, and how long its body."""

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
    """Where and how the server answers."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    api_key: str | None = field(default=None, repr=False)
    """None lets everybody in. It is never shown."""
    insecure: bool = False
    """Listen at a public address without a key."""
    unscored: UnscoredPolicy = RAISE
    """What stands for unscored responses in contracts without room for them."""
    trust_turns: bool = False
    """See `flip_reward.core.chat.template.ChatReader.split_chat`."""
    policy_tokenizer: str | None = None
    """Where the marks in trainers' texts are learnt from; see `flip_reward.rewards.options.PolicyOptions`."""
    limits: Limits = Limits()
    workers: int = 1
    drain_seconds: float = 60.0
    """How long requests in flight may take to finish when the server is asked to stop."""
    access_log: bool = False
    pages: MakeRoutes | None = None
    """Makes routes for people, beside those for programs; they may come from rooms that the server does not know."""

    def __post_init__(self) -> None:
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip() == self.api_key != ""):
            raise OptionError("the key of the server is empty, or holds white space or characters beyond ASCII")
        if self.api_key is None and not self.insecure and not is_loopback(self.host):
            raise OptionError(
                f"{self.host} is reachable from other machines, and there is no key",
                hint="put one into FLIP_SERVER_KEY (or --server-key-env NAME), or say --insecure",
            )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
