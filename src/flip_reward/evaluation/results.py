"""`results.json` and `results.csv`: what an evaluation found, as readers of the folder see it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from math import isclose
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flip_reward.data.files import write_atomically
from flip_reward.evaluation.folder import FORMAT, RESULTS, RESULTS_CSV, RewardEntry, read_file
from flip_reward.evaluation.statistics import Estimate


class ResultModel(BaseModel):
    """A part of the results. Fields of another version may be there too."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Accuracy(ResultModel):
    """The share of items that were decided rightly, 0 to 1, under the rules about ties and about unscored items.

    Both matter most to judges, which tie and fail more often than measures on a fine scale. Where no item is scored
    there is no verdict, and every rule has None.
    """

    strict: Estimate | None
    """Ties and unscored items are wrong: no credit without a decision."""
    fractional: Estimate | None
    """A tie among k counts 1/k and an unscored item as chance: a coin decides what the reward does not."""
    unscored_items: int
    """Items with an unscored response, in any run."""
    excluded: Estimate | None
    """As `fractional`, without the unscored items."""
    as_wrong: Estimate | None
    """As `fractional`, with unscored items as wrong."""
    as_chance: Estimate | None
    """`fractional` by another name."""
    length_balanced: Estimate | None = None
    """The mean of the accuracies where the better response is longer and where it is shorter, over all pairs of a
    better and a worse one; ties and unscored items count one half. None where one of the two does not occur."""


class SubsetAccuracy(Accuracy):
    """The accuracy on one subset."""

    name: str


class SubsetSize(ResultModel):
    """A subset and how many items it has."""

    name: str
    items: int


class BenchmarkSummary(ResultModel):
    """A benchmark as it was asked."""

    name: str
    protocol: str
    items: int
    subsets: list[SubsetSize]


class ProtocolFigure(ResultModel):
    """A number that the benchmark's authors report, 0 to 1."""

    name: str
    value: float
    low: float
    high: float
    note: str
    headline: bool = False
    """It is the one that the authors compare models by."""


class Tokens(ResultModel):
    """Tokens that the replies took, those from the cache included."""

    prompt: int
    completion: int


class PositionBiasRate(ResultModel):
    """The share of pairs whose verdict changed with the order, among the pairs judged in both orders."""

    rate: float
    pairs: int


class ExperimentResult(ResultModel):
    """The results of a reward on a benchmark."""

    benchmark: str
    reward: str
    folder: str
    """The run folder, relative to the evaluation's; of the first run when there are several."""
    runs: list[str] = Field(min_length=1)
    """The run folders of all runs. Accuracies are means over them."""
    overall: Accuracy
    subsets: list[SubsetAccuracy]
    protocol_figures: list[ProtocolFigure]
    outcomes: dict[str, int]
    tokens: Tokens
    cost: float | None
    """Of all those tokens; None when no prices were given."""
    rewards_per_second: float
    order_flips: PositionBiasRate | None
    """None for rewards that were never shown two responses in both orders."""

    def find_figure(self, name: str) -> ProtocolFigure | None:
        """Return the figure of a name that the benchmark's authors report, where it could be computed."""
        return next((figure for figure in self.protocol_figures if figure.name == name), None)


def rank(cells: Sequence[ExperimentResult]) -> list[ExperimentResult]:
    """Sort rewards by length-balanced accuracy, or accuracy where there is none; without a verdict they are last."""

    def merit(cell: ExperimentResult) -> tuple[float, ...]:
        found = (cell.overall.length_balanced, cell.overall.fractional)
        return tuple(-1.0 if estimate is None else estimate.value for estimate in found)

    return sorted(cells, key=merit, reverse=True)


def name_headline(cells: Sequence[ExperimentResult]) -> str | None:
    """Name the figure that a benchmark's authors compare by, where it is another number than the accuracy."""
    for cell in cells:
        accuracy = cell.overall.fractional
        for figure in cell.protocol_figures:
            if figure.headline and (accuracy is None or not isclose(accuracy.value, figure.value)):
                return figure.name
    return None


_SUM = re.compile(r" [-+*/] ")

Verdict = Literal["a better", "b better", "not told apart"]


class ComparisonResult(ResultModel):
    """Two rewards on the same items."""

    benchmark: str
    a: str
    b: str
    items: int
    difference: Estimate
    """Accuracy of a minus that of b, by the fractional rule."""
    strict_difference: Estimate
    """The same by the strict rule."""
    length_balanced_difference: Estimate | None = None
    """The same of `length_balanced`; None where that is None."""
    test: str = "McNemar's exact test of the strict decisions"
    """What `p` is of; the default is that of earlier versions."""
    p: float
    """That there is no difference: of the test by itself."""
    holm_p: float
    """The same, corrected for all comparisons of the evaluation."""
    verdict: Verdict
    """Better only where `holm_p` is below .05 and both rules agree on who is."""

    @property
    def title(self) -> str:
        """What `difference` is of: "flip - longest", with a formula in brackets."""
        return " - ".join(f"({name})" if _SUM.search(name) else name for name in (self.a, self.b))

    @model_validator(mode="before")
    @classmethod
    def _read_earlier(cls, fields: object) -> object:
        """Earlier versions knew one test, and named the p after it."""
        if isinstance(fields, dict) and "p" not in fields and "mcnemar_p" in fields:
            return {**fields, "p": fields["mcnemar_p"]}
        return fields


class EvaluationResults(ResultModel):
    """The content of `results.json`."""

    format: int = FORMAT
    benchmarks: list[BenchmarkSummary]
    rewards: list[RewardEntry]
    cells: list[ExperimentResult]
    comparisons: list[ComparisonResult]


def read_results(folder: Path) -> EvaluationResults:
    """Read `results.json`."""
    return read_file(folder / RESULTS, EvaluationResults)


def write_results(folder: Path, results: EvaluationResults) -> None:
    """Write `results.json` and `results.csv` into an evaluation folder."""
    write_result_files(folder, results, _COLUMNS, _rows(results))


def write_result_files(
    folder: Path, results: ResultModel, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write `results.json`, and a table of the same as `results.csv`."""
    write_atomically(folder / RESULTS, results.model_dump_json(indent=2).encode() + b"\n")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(folder / RESULTS_CSV, text.getvalue().encode())


_RULES = ("strict", "fractional", "excluded", "as_wrong", "length_balanced")
_COLUMNS = (
    "benchmark", "reward", "model", "kind", "name", "items", "unscored_items",
    *(f"{rule}{end}" for rule in _RULES for end in ("", "_low", "_high")),
    "value", "value_low", "value_high", "headline",
)  # fmt: skip


def _rows(results: EvaluationResults) -> Iterator[list[object]]:
    models = {reward.label: reward.model for reward in results.rewards}
    for cell in results.cells:
        start = [cell.benchmark, cell.reward, models[cell.reward]]
        yield [*start, "overall", "", *_accuracy(cell.overall), "", "", "", ""]
        for subset in cell.subsets:
            yield [*start, "subset", subset.name, *_accuracy(subset), "", "", "", ""]
        blank = [""] * (len(_RULES) * 3 + 2)
        for figure in cell.protocol_figures:
            yield [*start, "figure", figure.name, *blank, figure.value, figure.low, figure.high, figure.headline]


def _accuracy(accuracy: Accuracy) -> list[object]:
    estimates: list[Estimate | None] = [getattr(accuracy, rule) for rule in _RULES]
    numbers: list[object] = []
    for estimate in estimates:
        numbers += [""] * 3 if estimate is None else [estimate.value, estimate.low, estimate.high]
    items = accuracy.unscored_items if accuracy.fractional is None else accuracy.fractional.n
    return [items, accuracy.unscored_items, *numbers]
