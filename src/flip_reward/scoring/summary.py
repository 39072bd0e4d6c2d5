"""What a run amounts to: outcomes, quartiles of the reward, tokens, cost and speed."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

from pydantic import BaseModel, ConfigDict

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome, Score, Usage
from flip_reward.scoring.records import CountedRecord, CountedUsage

MOST_DISTINCT = 1 << 16
"""Up to this many different numbers are kept as they are. F1 over texts of usual length has a few thousand."""


class Quartiles(BaseModel):
    """What a distribution looks like; linear interpolation between ranks."""

    model_config = ConfigDict(frozen=True)

    mean: float
    minimum: float
    first_quartile: float
    median: float
    third_quartile: float
    maximum: float


class RewardCounts:
    """Counts numbers by value, so that memory does not grow with how many there are.

    Quartiles are exact up to `MOST_DISTINCT` different values. Beyond that, values are counted by their first four
    significant digits. The mean, the minimum and the maximum are of the numbers as they came.
    """

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._sum = 0.0
        self._minimum, self._maximum = float("inf"), float("-inf")
        self._coarse = False

    def add(self, value: float) -> None:
        """Count one number."""
        self._sum += value
        if value < self._minimum:
            self._minimum = value
        if value > self._maximum:
            self._maximum = value
        self._counts[_shorten(value) if self._coarse else value] += 1
        if len(self._counts) > MOST_DISTINCT and not self._coarse:
            self._coarse = True
            exact, self._counts = self._counts, Counter()
            for each, count in exact.items():
                self._counts[_shorten(each)] += count

    def __len__(self) -> int:
        """How many different numbers are kept."""
        return len(self._counts)

    def quartiles(self) -> Quartiles | None:
        """Describe the distribution; None when nothing was counted."""
        if not self._counts:
            return None
        values = sorted(self._counts)
        ends = list(accumulate(self._counts[value] for value in values))  # how many numbers are at most each value
        total = ends[-1]

        def quantile(share: float) -> float:
            rank, rest = divmod(share * (total - 1), 1)
            below, above = values[bisect(ends, rank)], values[bisect(ends, min(rank + 1, total - 1))]
            return below + (above - below) * rest

        return Quartiles(
            mean=self._sum / total,
            minimum=self._minimum,
            first_quartile=quantile(0.25),
            median=quantile(0.5),
            third_quartile=quantile(0.75),
            maximum=self._maximum,
        )


def _shorten(value: float) -> float:
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a provider charges, in a currency of the user's choice per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    @classmethod
    def of(cls, prompt: float | None, completion: float | None) -> Prices | None:
        """Take the prices that a user gave; None when neither was given.

        Example:
            >>> Prices.of(0.1, None)
            Prices(prompt=0.1, completion=0.0)
        """
        return None if prompt is None and completion is None else cls(prompt or 0.0, completion or 0.0)

    def cost(self, usage: Usage) -> float:
        """Return what the tokens cost."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1_000_000


class Summary(BaseModel):
    """The closing summary of a run, as `summary.json` holds it.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from flip_reward import score_file
        >>> with TemporaryDirectory() as folder:
        ...     rows = Path(folder, "rows.jsonl")
        ...     _ = rows.write_text('{"prompt": "Say hi.", "response": ""}')
        ...     summary = score_file(rows, run_folder=Path(folder, "run"), reward="longest")
        >>> summary.responses, summary.outcomes, summary.rewards
        (1, {'empty_response': 1}, None)
    """

    model_config = ConfigDict(frozen=True)

    complete: bool
    """Every row of the input was read and every response completed."""
    interrupted: bool = False
    """The session ended before every row was read."""
    limit: int | None = None
    """How many rows the session was told to read at most; "every row" above are these."""
    rows: int | None = None
    """Rows whose responses are all completed; None in summaries of earlier versions."""
    responses: int
    """Responses completed in this and earlier sessions, and those that failed in this one."""
    outcomes: dict[str, int]
    details: dict[str, str] = {}
    """For outcomes without a score, the first explanation of one."""
    cautions: dict[str, int] = {}
    """Scored responses of low confidence, by the reason."""
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
    def scored_any(self) -> bool:
        """Whether there is a single reward; a run without one has failed, whatever the reason."""
        return self.rewards is not None

    @property
    def unscored(self) -> int:
        """How many responses have no reward."""
        return self.responses - self.outcomes.get(Outcome.SCORED.value, 0)


class Tally:
    """Counts scores as they come, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.details: dict[Outcome, str] = {}
        self.cautions: Counter[Caution] = Counter()
        self.prompt_tokens = self.completion_tokens = 0
        self.answered_from_cache = 0
        self._rewards = RewardCounts()

    @property
    def responses(self) -> int:
        """How many scores were counted."""
        return self.outcomes.total()

    def add(self, score: Score) -> None:
        """Count one score."""
        self._add(
            score.outcome, score.value, score.detail, score.cautions, score.cost.usage, cached=score.cost.cached
        )

    def add_line(self, line: CountedRecord) -> None:
        """Count the score of a record."""
        self._add(line.outcome, line.reward, line.detail, line.cautions, line.usage, cached=line.cached)

    def _add(
        self,
        outcome: Outcome,
        value: float | None,
        detail: str | None,
        cautions: tuple[Caution, ...],
        usage: Usage | CountedUsage,
        *,
        cached: bool,
    ) -> None:
        self.outcomes[outcome] += 1
        if cautions:
            self.cautions.update(cautions)
        if value is not None:
            self._rewards.add(value)
        elif detail:
            self.details.setdefault(outcome, detail)
        if cached:  # tokens of a cached reply were spent earlier
            self.answered_from_cache += 1
        else:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens

    def summarise(
        self,
        *,
        complete: bool,
        rejected_rows: int,
        resumed_responses: int,
        seconds: float,
        prices: Prices | None = None,
        interrupted: bool = False,
        limit: int | None = None,
        rows: int | None = None,
    ) -> Summary:
        """Close the count. The arguments are the fields of `Summary`."""
        recorded = self.responses - resumed_responses
        usage = Usage(self.prompt_tokens, self.completion_tokens)
        return Summary(
            complete=complete,
            interrupted=interrupted,
            limit=limit,
            rows=rows,
            responses=self.responses,
            outcomes={outcome.value: count for outcome, count in self.outcomes.most_common()},
            details={outcome.value: detail for outcome, detail in self.details.items()},
            cautions={caution.value: count for caution, count in self.cautions.most_common()},
            rewards=self._rewards.quartiles(),
            rejected_rows=rejected_rows,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=None if prices is None else prices.cost(usage),
            answered_from_cache=self.answered_from_cache,
            resumed_responses=resumed_responses,
            seconds=seconds,
            rewards_per_second=recorded / seconds if seconds > 0 else 0.0,
        )
