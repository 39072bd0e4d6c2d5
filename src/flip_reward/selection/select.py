"""Training data out of scored rows: which rows to keep, or which pairs of a group to prefer one from the other.

Rows are read twice: rewards first, a few numbers a response in memory, then the rows that were chosen.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from heapq import nlargest
from typing import TypeAlias

from flip_reward.core.conversation import Group, Message
from flip_reward.data.grouping import TemporaryDatabase

Values: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """A response as it stands in a row of a scored file."""

    values: Values
    """The row's columns, as they were read."""
    group: Group
    """The row's conversation and responses."""
    index: int
    """Which of these responses it is."""
    reward: float | None
    key: str | int | None = None
    """What the responses of a group share besides the conversation."""
    unscored: str = "not scored"
    """What is said where there is no reward."""
    place: int = 0
    """Which row it stands in, from 0."""

    @property
    def text(self) -> str:
        """The response."""
        return self.group.responses[self.index]

    def digest(self) -> bytes:
        """Name the group in a few bytes. Responses to different conversations are never in one."""
        named = repr((self.key, self.group.messages))
        return hashlib.sha256(named.encode(errors="surrogatepass")).digest()[:16]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A response that was not selected, and why."""

    response: ScoredResponse
    reason: str


@dataclass(frozen=True, slots=True)
class Pair:
    """The best and the worst response of a group."""

    chosen: ScoredResponse
    rejected: ScoredResponse

    def to_row(self) -> dict[str, object]:
        """Lay the pair out as TRL's trainers of preferences read it: text for a single question, else messages."""
        messages = self.chosen.group.messages
        texts = self.chosen.text, self.rejected.text
        rewards = {"reward_chosen": self.chosen.reward, "reward_rejected": self.rejected.reward}
        if len(messages) == 1 and messages[0].role == "user":
            return {"prompt": messages[0].content, "chosen": texts[0], "rejected": texts[1], **rewards}
        answers = [[_lay_out(Message("assistant", text))] for text in texts]
        return {
            "prompt": [_lay_out(one) for one in messages],
            "chosen": answers[0],
            "rejected": answers[1],
            **rewards,
        }


Read: TypeAlias = Callable[[], Iterable[ScoredResponse]]
"""Reads all responses, in order, once more."""


def select_above(read: Read, threshold: float) -> Iterator[ScoredResponse | LeftOut]:
    """Keep the responses with at least this reward."""
    for response in read():
        if response.reward is None:
            yield LeftOut(response, response.unscored)
        elif response.reward < threshold:
            yield LeftOut(response, f"a reward below {threshold:g}")
        else:
            yield response


def select_top(read: Read, share: float) -> Iterator[ScoredResponse | LeftOut]:
    """Keep this share of the scored responses, those with the highest rewards; among equal ones the first.

    The share is rounded up to a whole response.
    """
    rewards = [response.reward for response in read() if response.reward is not None]
    count = math.ceil(round(share * len(rewards), 9))
    lowest = nlargest(count, rewards)[-1] if count else math.inf
    ties = count - sum(reward > lowest for reward in rewards)
    for response in read():
        if response.reward is None:
            yield LeftOut(response, response.unscored)
        elif response.reward > lowest or (response.reward == lowest and ties > 0):
            ties -= response.reward == lowest
            yield response
        else:
            yield LeftOut(response, f"not among the best {100 * share:g}%")


def select_best_of_groups(read: Read) -> Iterator[ScoredResponse | LeftOut]:
    """Keep the response of each group with the highest reward; among equal ones the first."""
    groups = _find_extremes(read())
    for place, response in enumerate(read()):
        if response.reward is None:
            yield LeftOut(response, response.unscored)
        elif groups[response.digest()].best[1] == place:
            yield response
        else:
            yield LeftOut(response, "not the best of its group")


def select_pairs(read: Read, margin: float = 0.0) -> Iterator[Pair | LeftOut]:
    """Pair the best and the worst response of each group, where their rewards differ by more than nothing.

    Args:
        read: Reads the responses.
        margin: Their rewards differ at least by this.
    """
    groups = _find_extremes(read())
    with closing(_Waiting()) as waiting:
        yield from _pair(read(), groups, waiting, margin)


def _pair(
    responses: Iterable[ScoredResponse], groups: Mapping[bytes, _Extremes], waiting: _Waiting, margin: float
) -> Iterator[Pair | LeftOut]:
    for place, response in enumerate(responses):
        if response.reward is None:
            yield LeftOut(response, response.unscored)
            continue
        name = response.digest()
        (best, first), (worst, last) = groups[name].best, groups[name].worst
        if first == last or best == worst:
            only = (
                "the only scored response of its group" if groups[name].scored == 1 else "no difference in its group"
            )
            yield LeftOut(response, only)
        elif best - worst < margin and not math.isclose(best - worst, margin):  # 0.7 - 0.4 < 0.3
            yield LeftOut(response, f"a difference below {margin:g} in its group")
        elif place not in (first, last):
            yield LeftOut(response, "neither the best nor the worst of its group")
        elif (other := waiting.take(name)) is None:
            waiting.keep(name, response)
        else:
            yield Pair(response, other) if place == first else Pair(other, response)


class _Waiting:
    """The first response of each pair until the other one comes, which may be far away: in a temporary file."""

    def __init__(self) -> None:
        self._database = TemporaryDatabase("CREATE TABLE waiting (name BLOB PRIMARY KEY, kept BLOB) WITHOUT ROWID")

    def keep(self, name: bytes, response: ScoredResponse) -> None:
        self._database.execute("INSERT INTO waiting VALUES (?, ?)", (name, pickle.dumps(response)))

    def take(self, name: bytes) -> ScoredResponse | None:
        found = self._database.execute("SELECT kept FROM waiting WHERE name = ?", (name,)).fetchall()
        self._database.execute("DELETE FROM waiting WHERE name = ?", (name,))
        return pickle.loads(found[0][0]) if found else None  # noqa: S301 - kept above

    def close(self) -> None:
        self._database.close()


@dataclass(slots=True)
class _Extremes:
    """The highest and the lowest reward of a group, and at which places they stand."""

    best: tuple[float, int]
    worst: tuple[float, int]
    scored: int = 1


def _find_extremes(responses: Iterable[ScoredResponse]) -> dict[bytes, _Extremes]:
    groups: dict[bytes, _Extremes] = {}
    for place, response in enumerate(responses):
        if response.reward is None:
            continue
        here, name = (response.reward, place), response.digest()
        found = groups.get(name)
        if found is None:
            groups[name] = _Extremes(here, here)
            continue
        found.scored += 1
        if here[0] > found.best[0]:
            found.best = here
        if here[0] <= found.worst[0]:  # the last of equal ones, so that a tie is no pair with itself
            found.worst = here
    return groups


def _lay_out(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
