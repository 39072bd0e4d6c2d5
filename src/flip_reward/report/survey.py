"""What a run's page says of all responses, and which rows stand for them where there are too many to show."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flip_reward.report.evaluation.statistics import choose_edges, find_bin
from flip_reward.scoring.records import Record
from flip_reward.scoring.summary import Tally


@dataclass(frozen=True, slots=True)
class Histogram:
    """The rewards of a run."""

    edges: list[float]
    """One more than there are bins. A reward on a bound is in the bin above it, on the last bound in the last bin."""
    counts: list[int]

    def find(self, value: float | None) -> int | None:
        """Return the bin of a reward; None of none."""
        return None if value is None else find_bin(value, self.edges)


@dataclass(slots=True)
class RunSurvey:
    """Counts the records of a run as they come, in the order of the rows; takes 16 bytes of memory a response."""

    tally: Tally = field(default_factory=Tally)
    rows: int = 0
    _last: int = -1
    _scored_rows: array[int] = field(default_factory=lambda: array("q"))
    _values: array[float] = field(default_factory=lambda: array("d"))
    _odd_rows: dict[str, array[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> RunSurvey:
        """Count all of some records."""
        survey = cls()
        for record in records:
            survey.add(record)
        return survey

    def add(self, record: Record) -> None:
        """Count one record."""
        score = record.score
        self.tally.add(score)
        self.rows += record.row != self._last
        self._last = record.row
        if score.value is None:
            self._odd(score.outcome, record.row)
        else:
            self._scored_rows.append(record.row)
            self._values.append(score.value)
        for caution in score.cautions:
            self._odd(caution, record.row)

    def _odd(self, kind: str, row: int) -> None:
        self._odd_rows.setdefault(kind, array("q")).append(row)

    def draw(self) -> Histogram | None:
        """Count the rewards in bins; None where nothing was scored."""
        if not self._values:
            return None
        edges = choose_edges(min(self._values), max(self._values))
        counts = [0] * (len(edges) - 1)
        for value in self._values:
            counts[find_bin(value, edges)] += 1
        return Histogram(edges, counts)

    def choose_rows(self, most: int) -> frozenset[int]:
        """Choose rows to show: as many of each bar, outcome and caution, as far as it has them."""
        drawn = self.draw()
        bars: list[array[int]] = [array("q") for _ in drawn.counts] if drawn else []
        if drawn:
            for row, value in zip(self._scored_rows, self._values, strict=True):
                bars[find_bin(value, drawn.edges)].append(row)
        return spread([*bars, *self._odd_rows.values()], most)


def spread(kinds: Iterable[Sequence[int]], most: int) -> frozenset[int]:
    """Choose numbers of several kinds, in equal parts; small kinds leave what they lack to larger ones.

    Within a kind they lie evenly.

    Example:
        >>> sorted(spread([[7], range(100, 200), []], 5))
        [7, 100, 125, 150, 175]
    """
    chosen: set[int] = set()
    ordered = sorted(filter(len, kinds), key=len)
    for place, kind in enumerate(ordered):
        count = min(len(kind), (most - len(chosen)) // (len(ordered) - place))
        chosen.update(kind[step * len(kind) // count] for step in range(count))
    return frozenset(chosen)
