"""`Judgement`: one verdict of a judge that was shown several responses; and the order in which they were shown.

Orders are random, but the same in every run; `measure_position_bias` counts how often the order decided.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import factorial

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said about several responses of a group.

    Attributes:
        shown: The indices of the responses in the group, in the order in which the judge saw them.
        outcome: `Outcome.SCORED` with a verdict, else why there is none.
        chosen: The index in the group of the response that the judge chose; None without a verdict.
        reply: The reply as it came; None when the engine sent none.
    """

    shown: tuple[int, ...]
    outcome: Outcome
    chosen: int | None = None
    reply: str | None = None

    def __post_init__(self) -> None:
        if (self.chosen is not None) != (self.outcome is Outcome.SCORED):
            raise ValueError(f"{self.outcome.value} with the choice {self.chosen}")
        if self.chosen is not None and self.chosen not in self.shown:
            raise ValueError(f"response {self.chosen} is not among {self.shown}")


def write_judgements(judgements: Iterable[Judgement]) -> str:
    """Write judgements as JSON lines, the form in which `Score.raw_reply` holds them.

    Example:
        >>> print(write_judgements([Judgement((1, 0), Outcome.SCORED, 0, "B")]))
        {"shown": [1, 0], "outcome": "scored", "chosen": 0, "reply": "B"}
    """
    return "\n".join(
        json.dumps(
            {
                "shown": judgement.shown,
                "outcome": judgement.outcome.value,
                "chosen": judgement.chosen,
                "reply": judgement.reply,
            },
            ensure_ascii=False,
        )
        for judgement in judgements
    )


def read_judgements(text: str | None) -> tuple[Judgement, ...]:
    """Read judgements back from a score's `raw_reply`; none from None."""
    return tuple(map(_read, text.split("\n"))) if text else ()


def _read(line: str) -> Judgement:
    try:
        fields = json.loads(line)
        return Judgement(tuple(fields["shown"]), Outcome(fields["outcome"]), fields["chosen"], fields["reply"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a judgement: {error}") from error


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How often the order in which two responses were shown decided between them."""

    pairs: int = 0
    """Those with a verdict in both orders."""
    flips: int = 0
    """Those among them whose verdict changed with the order."""

    @property
    def rate(self) -> float | None:
        """The share of pairs whose verdict changed with the order, 0 to 1; None without a pair."""
        return self.flips / self.pairs if self.pairs else None

    def __add__(self, other: PositionBias) -> PositionBias:
        return PositionBias(self.pairs + other.pairs, self.flips + other.flips)


def measure_position_bias(judgements: Iterable[Judgement]) -> PositionBias:
    """Count the pairs of one group that were judged in both orders, and those whose verdict changed."""
    chosen = {
        judgement.shown: judgement.chosen
        for judgement in judgements
        if len(judgement.shown) == 2 and judgement.chosen is not None
    }
    both = [(one, other) for one, other in chosen if one < other and (other, one) in chosen]
    return PositionBias(len(both), sum(chosen[one, other] != chosen[other, one] for one, other in both))


def draw_orders(group: Group, indices: Sequence[int], *, seed: int = 0, count: int = 1) -> list[tuple[int, ...]]:
    """Draw orders of some responses of a group, all different, each as likely as any other.

    They depend on the seed, the group's texts and the indices, and on nothing else: not on the group's id, the
    process, the platform or the version of Python. There are no more than the factorial of the number of indices.
    """
    texts = [[message.role, message.content] for message in group.messages], group.responses
    digest = hashlib.sha256(json.dumps([seed, list(indices), *texts]).encode()).digest()
    count = min(count, factorial(len(indices)))
    orders: dict[tuple[int, ...], None] = {}
    draw = 0
    while len(orders) < count:
        orders[tuple(sorted(indices, key=lambda index: _rank(digest, draw, index)))] = None
        draw += 1
    return list(orders)


def _rank(digest: bytes, draw: int, index: int) -> bytes:
    return hashlib.sha256(digest + f"/{draw}/{index}".encode()).digest()
