"""What a run amounts to: outcomes, quartiles of the reward, tokens, cost and speed.

The distribution of many numbers in little memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome, Score, Usage

MOST_DISTINCT = 1 << 16
"""So many different numbers are kept as they are. F1 over texts of usual length has a few thousand."""


class Quartiles(BaseModel):
    """What a distribution looks like; linear interpolation between ranks."""

    model_config = ConfigDict(frozen=True)

    mean: float
    minimum: float
    first_quartile: float
    median: float
    third_quartile: float
    maximum: float


class Distribution:
    """Counts numbers by value, so that memory does not grow with how many there are.

    Quartiles are exact up to `MOST_DISTINCT` different values. Beyond that, values are counted by their first four
    significant digits. The mean, the minimum and the maximum are of the numbers as they came.

    Example:
        >>> distribution = Distribution()
        >>> for value in (0.0, 0.5, 0.5, 1.0):
        ...     distribution.add(value)
        >>> distribution.quartiles().median
        0.5
    """

    def __init__(self) -> None:
        self._counts: dict[float, int] = {}
        self._total = 0
        self._sum = 0.0
        self._minimum = float("inf")
        self._maximum = float("-inf")
        self._coarse = False

    def add(self, value: float) -> None:
        """Count one number."""
        self._total += 1
        self._sum += value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)
        if self._coarse:
            value = _shorten(value)
        self._counts[value] = self._counts.get(value, 0) + 1
        if len(self._counts) > MOST_DISTINCT and not self._coarse:
            self._coarse = True
            counts, self._counts = self._counts, {}
            for exact, count in counts.items():
                value = _shorten(exact)
                self._counts[value] = self._counts.get(value, 0) + count

    def quartiles(self) -> Quartiles | None:
        """Describe the distribution; None when nothing was counted."""
        if not self._total:
            return None
        ordered = sorted(self._counts.items())
        return Quartiles(
            mean=self._sum / self._total,
            minimum=self._minimum,
            first_quartile=self._quantile(ordered, 0.25),
            median=self._quantile(ordered, 0.5),
            third_quartile=self._quantile(ordered, 0.75),
            maximum=self._maximum,
        )

    def _quantile(self, ordered: list[tuple[float, int]], share: float) -> float:
        position = share * (self._total - 1)
        rank = int(position)
        below = _value_at(ordered, rank)
        above = _value_at(ordered, min(rank + 1, self._total - 1))
        return below + (above - below) * (position - rank)


def _value_at(ordered: list[tuple[float, int]], rank: int) -> float:
    for value, count in ordered:
        if rank < count:
            return value
        rank -= count
    raise IndexError(rank)


def _shorten(value: float) -> float:
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a provider charges, in a currency of the user's choice per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Return what the tokens cost."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1_000_000


class Summary(BaseModel):
    """The closing summary of a run, as `summary.json` holds it."""

    model_config = ConfigDict(frozen=True)

    complete: bool
    """Every row of the input was read and every response settled."""
    interrupted: bool = False
    """The session ended before every row was read."""
    responses: int
    """Responses settled in this and earlier sessions, and those that failed in this one."""
    outcomes: dict[str, int]
    cautions: dict[str, int] = {}
    """Scored responses of which the model could know little, by the reason."""
    rewards: Quartiles | None
    """None when nothing was scored."""
    rejected_rows: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """None when no prices were given."""
    answered_from_cache: int
    """Answers that cost nothing: from the response cache, or shared with an identical request in flight."""
    resumed_responses: int
    """Responses whose record an earlier session wrote."""
    seconds: float
    """Of this session."""
    rewards_per_second: float
    """Of this session: responses recorded, whatever their outcome, for each second."""

    @property
    def unscored(self) -> int:
        """How many responses have no reward."""
        return self.responses - self.outcomes.get(Outcome.SCORED.value, 0)


class Tally:
    """Counts scores as they come, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.cautions: Counter[Caution] = Counter()
        self.usage = Usage()
        self.answered_from_cache = 0
        self._rewards = Distribution()

    @property
    def responses(self) -> int:
        """How many scores were counted."""
        return self.outcomes.total()

    def add(self, score: Score) -> None:
        """Count one score. Tokens of a cached reply were spent earlier and are not counted again."""
        self.outcomes[score.outcome] += 1
        self.cautions.update(score.cautions)
        if score.value is not None:
            self._rewards.add(score.value)
        if score.cost.cached:
            self.answered_from_cache += 1
        else:
            self.usage += score.cost.usage

    def summarise(
        self,
        *,
        complete: bool,
        rejected_rows: int,
        resumed_responses: int,
        seconds: float,
        prices: Prices | None = None,
        interrupted: bool = False,
    ) -> Summary:
        """Close the count. The arguments are the fields of `Summary`."""
        recorded = self.responses - resumed_responses
        return Summary(
            complete=complete,
            interrupted=interrupted,
            responses=self.responses,
            outcomes={outcome.value: count for outcome, count in self.outcomes.most_common()},
            cautions={caution.value: count for caution, count in self.cautions.most_common()},
            rewards=self._rewards.quartiles(),
            rejected_rows=rejected_rows,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            cost=None if prices is None else prices.cost(self.usage),
            answered_from_cache=self.answered_from_cache,
            resumed_responses=resumed_responses,
            seconds=seconds,
            rewards_per_second=recorded / seconds if seconds > 0 else 0.0,
        )
