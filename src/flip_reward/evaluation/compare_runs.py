"""Two runs over the same input compared: how far two rewards give the same numbers, and choose the same responses."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from operator import sub
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.errors import OptionError, RunError
from flip_reward.evaluation.statistics import CONFIDENCE, Estimate, Quantity, estimate_mean
from flip_reward.rewards.options import find_setting
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import Manifest, RunConfiguration
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records_in_input_order

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values

MOST_LISTED = 10
_SCALE = ("reward", "similarity", "value", "calibration")
"""The settings that say what a number of a reward means."""
_FEWEST_RANKED = 4
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ResponsePair:
    """A response that both runs have a record of."""

    id: str
    row: int
    instruction: str
    a: float | None
    """The reward of the first run; None where it is unscored."""
    b: float | None

    @property
    def difference(self) -> float | None:
        """The first reward minus the second; None where one is missing."""
        return None if self.a is None or self.b is None else self.a - self.b


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs over the same input, response by response. Figures are None where too little was scored."""

    a: str
    b: str
    """The rewards, told apart by their folders where they are called the same."""
    rows: int
    """Rows with a response that both scored."""
    responses: int
    """Responses that both scored."""
    only_a: int
    only_b: int
    """Responses of which only that run has a record."""
    same_scale: bool
    """Whether a difference of the two rewards means anything."""
    mean_a: Estimate | None
    mean_b: Estimate | None
    """The mean over rows of the mean over their responses, of those that both scored."""
    difference: Estimate | None
    """Of these means, row by row, so that the difficulty of a row cancels out; None on different scales."""
    rank_correlation: Estimate | None
    """Spearman's, of the rows' means; None also where one of them is the same everywhere."""
    same_best: Estimate | None
    """In which share of the groups both choose the same response; among ties a coin decides."""
    same_best_by_chance: float | None
    """What that share would be for choices at random among what each scored."""
    outcomes: dict[str, int]
    """How many responses had which two outcomes, where they differ: "scored, truncated_reply"."""
    most_different: list[ResponsePair]
    """Those with the largest difference of rewards, or of their ranks where the scales differ."""


def compare_runs(a: Path, b: Path) -> RunComparison:
    """Compare two runs of `score`, `best-of-n` or `rescore` over the same input.

    Takes two passes over the records, and a few numbers a response of memory.

    Raises:
        RunError: They read other inputs, or sampled other responses, or their rows have other instructions.
    """
    if a.resolve() == b.resolve():
        raise OptionError("both are the same folder")
    first, second = (Manifest.read(path / MANIFEST).configuration for path in (a, b))
    _refuse_other_inputs(a, first, b, second)
    same_scale = all(find_setting(first.settings, name) == find_setting(second.settings, name) for name in _SCALE)
    counts = _Counts()
    for one, other in _pair(a, b):
        counts.add(one, other)
    counts.end_group()
    names = [str(one.settings.get("reward", "")) for one in (first, second)]
    if names[0] == names[1]:
        names = [f"{names[0]} ({a})", f"{names[1]} ({b})"]
    rows = len(counts.means_a)
    return RunComparison(
        a=names[0],
        b=names[1],
        rows=rows,
        responses=len(counts.values_a),
        only_a=counts.only_a,
        only_b=counts.only_b,
        same_scale=same_scale,
        mean_a=_estimate(counts.means_a, counts.prompts) if rows else None,
        mean_b=_estimate(counts.means_b, counts.prompts) if rows else None,
        difference=_difference(counts) if rows and same_scale else None,
        rank_correlation=_correlate_ranks(
            _round(counts.means_a, counts.values_a),
            _round(counts.means_b, counts.values_b),
            len(set(counts.prompts)),
        ),
        same_best=(
            _estimate(counts.agreed, counts.agreed_prompts, quantity=Quantity.SHARE) if counts.agreed else None
        ),
        same_best_by_chance=sum(counts.chances) / len(counts.chances) if counts.chances else None,
        outcomes={", ".join(pair): count for pair, count in counts.outcomes.most_common()},
        most_different=_most_different(a, b, counts, same_scale=same_scale),
    )


def read_pairs(a: Path, b: Path) -> Iterator[ResponsePair]:
    """Read the responses of which both runs have a record, in the order of the input."""
    for one, other in _pair(a, b):
        if one is not None and other is not None:
            yield ResponsePair(one.id, one.row, one.instruction, one.score.value, other.score.value)


def _pair(a: Path, b: Path) -> Iterator[tuple[Record | None, Record | None]]:
    """Read both runs side by side, in the order of the input."""
    ours, theirs = read_records_in_input_order(a), read_records_in_input_order(b)
    one, other = next(ours, None), next(theirs, None)
    while one is not None or other is not None:
        place = min(_place(each) for each in (one, other) if each is not None)
        here = one if one is not None and _place(one) == place else None
        there = other if other is not None and _place(other) == place else None
        if here is not None and there is not None and _identity(here) != _identity(there):
            raise RunError(
                f"row {here.row + 1} is not the same in both: {here.id!r}, {_cut(here.instruction)} in {a}; "
                f"{there.id!r}, {_cut(there.instruction)} in {b}",
                hint="compare runs over the same input, with the same --columns and --target",
            )
        yield here, there
        if here is not None:
            one = next(ours, None)
        if there is not None:
            other = next(theirs, None)


def _place(record: Record) -> tuple[int, int]:
    return record.row, record.response_index


def _identity(record: Record) -> tuple[str, int, str]:
    return record.group_id, record.group_size, record.instruction


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _refuse_other_inputs(a: Path, first: RunConfiguration, b: Path, second: RunConfiguration) -> None:
    ours, theirs = ([source.fingerprint for source in one.inputs] for one in (first, second))
    rescored = first.digest in theirs or second.digest in ours
    if not rescored and None not in (*ours, *theirs) and ours != theirs:
        names = [", ".join(source.name for source in one.inputs) for one in (first, second)]
        changed = ", whose content is another" if names[0] == names[1] else ""
        raise RunError(
            f"the runs read other inputs: {a} has {names[0]}, and {b} has {names[1]}{changed}",
            hint="score the same file with both rewards",
        )
    sampled = [
        {name: value for name, value in one.settings.items() if name == "generate" or name.startswith("policy_")}
        for one in (first, second)
    ]
    if sampled[0] != sampled[1]:
        raise RunError(
            f"the responses in {a} and in {b} were sampled from other policies, or in one of them not at all",
            hint="score the responses of one file with both rewards",
        )


@dataclass(slots=True)
class _Counts:
    """What is counted while both runs are read side by side."""

    only_a: int = 0
    only_b: int = 0
    values_a: array[float] = field(default_factory=lambda: array("d"))
    values_b: array[float] = field(default_factory=lambda: array("d"))
    means_a: array[float] = field(default_factory=lambda: array("d"))
    means_b: array[float] = field(default_factory=lambda: array("d"))
    prompts: array[int] = field(default_factory=lambda: array("q"))
    """A hash of each mean's instruction."""
    agreed: array[float] = field(default_factory=lambda: array("d"))
    agreed_prompts: array[int] = field(default_factory=lambda: array("q"))
    chances: array[float] = field(default_factory=lambda: array("d"))
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    _row: int = -1
    _prompt: int = 0
    _group: list[tuple[float | None, float | None]] = field(default_factory=list)

    def add(self, one: Record | None, other: Record | None) -> None:
        """Count the records of a response."""
        if one is None or other is None:
            self.only_a, self.only_b = self.only_a + (other is None), self.only_b + (one is None)
            return
        if one.row != self._row:
            self.end_group()
            self._row, self._prompt = one.row, hash(one.instruction)
        a, b = one.score, other.score
        if a.outcome is not b.outcome:
            self.outcomes[a.outcome.value, b.outcome.value] += 1
        self._group.append((a.value, b.value))

    def end_group(self) -> None:
        """Sum up the responses of a row."""
        both = [(a, b) for a, b in self._group if a is not None and b is not None]
        for a, b in both:
            self.values_a.append(a)
            self.values_b.append(b)
        if both:
            self.means_a.append(math.fsum(a for a, _ in both) / len(both))
            self.means_b.append(math.fsum(b for _, b in both) / len(both))
            self.prompts.append(self._prompt)
        ours, theirs = (_best([pair[run] for pair in self._group]) for run in (0, 1))
        if len(self._group) > 1 and ours and theirs:
            self.agreed.append(len(ours & theirs) / (len(ours) * len(theirs)))
            self.agreed_prompts.append(self._prompt)
            known = [sum(pair[run] is not None for pair in self._group) for run in (0, 1)]
            self.chances.append(len(both) / (known[0] * known[1]))
        self._group = []


def _best(values: list[float | None]) -> set[int]:
    highest = max((value for value in values if value is not None), default=None)
    return {index for index, value in enumerate(values) if value is not None and value == highest}


def _estimate(values: Sequence[float], prompts: Sequence[int], *, quantity: Quantity = Quantity.NUMBER) -> Estimate:
    """Estimate a mean over rows. Those with the same instruction are no independent draws."""
    return estimate_mean(values, [""] * len(values), prompts, quantity=quantity)


def _difference(counts: _Counts) -> Estimate:
    return _estimate(array("d", map(sub, counts.means_a, counts.means_b)), counts.prompts)


def _round(means: array[float], values: array[float]) -> array[float]:
    """Make equal what rounding alone sets apart: means of `z` are all 0."""
    largest = max(map(abs, values), default=0.0) or 1.0
    return array("d", [round(mean / largest, _DIGITS) for mean in means])


def _correlate_ranks(a: array[float], b: array[float], prompts: int) -> Estimate | None:
    """Spearman's correlation, with the interval of Bonett and Wright (2000): Fisher's z, (1 + r²/2) / (n - 3).

    n is the number of prompts. A bootstrap would have to rank every resample again.
    """
    from statistics import NormalDist

    import numpy as np

    if prompts < _FEWEST_RANKED or min(a) == max(a) or min(b) == max(b):
        return None
    r = float(np.clip(np.corrcoef(_rank(a), _rank(b))[0, 1], -1.0, 1.0))
    if abs(r) == 1:
        return Estimate(r, r, r, len(a))
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt((1 + r * r / 2) / (prompts - 3))
    return Estimate(r, math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach), len(a))


def _rank(values: array[float]) -> Values:
    """Rank numbers from 1; equal ones share the mean of their ranks."""
    from scipy.stats import rankdata

    ranks: Values = rankdata(values)
    return ranks


def _most_different(a: Path, b: Path, counts: _Counts, *, same_scale: bool) -> list[ResponsePair]:
    """Find the responses with the largest differences, in a second pass over the records."""
    if not counts.values_a:
        return []
    if same_scale:
        sizes = array("d", map(sub, counts.values_a, counts.values_b))
    else:
        sizes = array("d", _rank(counts.values_a) - _rank(counts.values_b))
    largest = nlargest(MOST_LISTED, range(len(sizes)), key=lambda index: abs(sizes[index]))
    wanted, found = set(largest), {}
    both = (pair for pair in read_pairs(a, b) if pair.difference is not None)
    for index, pair in enumerate(both):
        if index in wanted:
            found[index] = pair
            if len(found) == len(wanted):
                break
    return [found[index] for index in largest if sizes[index] and index in found]
