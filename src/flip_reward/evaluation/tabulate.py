"""An evaluation folder -> its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import attrgetter
from pathlib import Path

from flip_reward.core.judgement import PositionBias, measure_position_bias, read_judgements
from flip_reward.core.prompts import JudgeKind
from flip_reward.core.score import Usage
from flip_reward.errors import RunError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.folder import CellEntry, Evaluation, RewardEntry, read_evaluation, read_items
from flip_reward.evaluation.grading import Grades, ItemRewards
from flip_reward.evaluation.paired import Contender, compare_all
from flip_reward.evaluation.results import (
    Accuracy,
    BenchmarkSummary,
    CellResult,
    EvaluationResults,
    OrderFlipRate,
    ProtocolFigure,
    RewardSummary,
    SubsetAccuracy,
    SubsetSize,
    Tokens,
)
from flip_reward.evaluation.statistics import Estimate
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import RECORDS, read_records_in_input_order, read_summary
from flip_reward.scoring.summary import Prices

_SHOWN_SEVERAL = (JudgeKind.PAIRWISE.value, JudgeKind.LISTWISE.value)


@dataclass(frozen=True, slots=True)
class GradedCell:
    """A cell whose runs are all there.

    Attributes:
        entry: Which one.
        reward: Its reward.
        graded: Its grades.
        records: Of all runs.
        rewards_per_second: The mean of its runs.
    """

    entry: CellEntry
    reward: RewardEntry
    graded: Grades
    records: Sequence[Record]
    rewards_per_second: float


def tabulate(folder: Path) -> EvaluationResults:
    """Compute the results of an evaluation folder. A cell that is not scored to its end is left out.

    Raises:
        RunError: It is no evaluation folder, or it is damaged or of another version.
        MissingDependencyError: scipy is not installed.
    """
    evaluation = read_evaluation(folder)
    cells = [cell for benchmark in evaluation.benchmarks for cell in grade_cells(folder, evaluation, benchmark.name)]
    options = evaluation.options
    prices = None
    if options.price_prompt is not None or options.price_completion is not None:
        prices = Prices(options.price_prompt or 0.0, options.price_completion or 0.0)
    contenders = [Contender(cell.entry.benchmark, cell.reward.label, cell.graded) for cell in cells]
    pairs = [(a, b) for a, b in combinations(contenders, 2) if a.benchmark == b.benchmark]
    return EvaluationResults(
        benchmarks=[
            BenchmarkSummary(
                name=entry.name,
                protocol=entry.protocol,
                items=entry.items,
                subsets=read_subset_sizes(folder, entry.name),
            )
            for entry in evaluation.benchmarks
        ],
        rewards=[RewardSummary(**entry.model_dump()) for entry in evaluation.rewards],
        cells=[_summarise(cell, prices) for cell in cells],
        comparisons=compare_all(pairs),
    )


def read_subset_sizes(folder: Path, benchmark: str) -> list[SubsetSize]:
    """Count the items of each subset, in the order in which they occur."""
    counts = Counter(item.subset for item in read_items(folder, benchmark))
    return [SubsetSize(name=name, items=count) for name, count in counts.items()]


def grade_cells(folder: Path, evaluation: Evaluation, benchmark: str) -> list[GradedCell]:
    """Grade the cells of a benchmark that are scored to their end.

    Raises:
        RunError: A file of the folder is damaged.
    """
    items = read_items(folder, benchmark)
    protocol = load_protocol(next(entry.protocol for entry in evaluation.benchmarks if entry.name == benchmark))
    rewards = {entry.label: entry for entry in evaluation.rewards}
    cells = []
    for entry in evaluation.cells:
        if entry.benchmark != benchmark:
            continue
        reward = rewards[entry.reward]
        runs = [_read_run(folder / run, items) for run in entry.runs]
        if any(len(run) < len(items) for run in runs):
            continue
        judged = reward.reward in _SHOWN_SEVERAL
        said = [[_item_rewards(run[position], judged=judged) for position in range(len(items))] for run in runs]
        records = [record for run in runs for group in run.values() for record in group]
        speeds = [summary.rewards_per_second for run in entry.runs if (summary := read_summary(folder / run))]
        speed = sum(speeds) / len(speeds) if speeds else 0.0
        cells.append(GradedCell(entry, reward, Grades(protocol, items, said), records, speed))
    return cells


def _read_run(folder: Path, items: Sequence[BenchmarkItem]) -> dict[int, list[Record]]:
    """Return the records of every item that has all of them, by position."""
    if not (folder / RECORDS).exists():
        return {}
    whole = {}
    for position, group in groupby(read_records_in_input_order(folder), key=attrgetter("row")):
        records = list(group)
        if position >= len(items) or records[0].group_id != items[position].id:
            raise RunError(f"{folder} holds records of other items than the evaluation")
        if len(records) == len(items[position].group.responses):
            whole[position] = records
    return whole


def _item_rewards(records: Sequence[Record], *, judged: bool) -> ItemRewards:
    values = tuple(record.score.value for record in records)
    if not judged:
        return ItemRewards(values)
    return ItemRewards(
        values, tuple(judgement for record in records for judgement in read_judgements(record.score.raw_reply))
    )


def _summarise(cell: GradedCell, prices: Prices | None) -> CellResult:
    graded = cell.graded
    usage = sum((record.score.cost.usage for record in cell.records), Usage())
    return CellResult(
        benchmark=cell.entry.benchmark,
        reward=cell.entry.reward,
        folder=cell.entry.runs[0],
        runs=cell.entry.runs,
        overall=_measure_accuracy(graded, set(graded.subsets)),
        subsets=[
            SubsetAccuracy(name=name, **_measure_accuracy(graded, {name}).model_dump())
            for name in dict.fromkeys(graded.subsets)
        ],
        protocol_figures=[
            ProtocolFigure(
                name=figure.name,
                value=figure.estimate.value,
                low=figure.estimate.low,
                high=figure.estimate.high,
                note=figure.note,
            )
            for figure in graded.protocol.figures(graded)
        ],
        outcomes=dict(Counter(record.score.outcome.value for record in cell.records).most_common()),
        tokens=Tokens(prompt=usage.prompt_tokens, completion=usage.completion_tokens),
        cost=None if prices is None else prices.cost(usage),
        rewards_per_second=cell.rewards_per_second,
        order_flips=_count_flips(graded),
    )


def _measure_accuracy(graded: Grades, subsets: set[str]) -> Accuracy:
    as_chance = graded.mean(graded.fractional, subsets)
    unscored, _ = graded.select(graded.unscored, subsets)
    decided, _ = graded.select(graded.excluded, subsets)
    return Accuracy(
        strict=graded.mean(graded.strict, subsets),
        fractional=as_chance,
        unscored_items=sum(share > 0 for share in unscored),
        excluded=graded.mean(graded.excluded, subsets) if decided else Estimate(as_chance.value, 0.0, 1.0, 0),
        as_wrong=graded.mean(graded.as_wrong, subsets),
        as_chance=as_chance,
    )


def _count_flips(graded: Grades) -> OrderFlipRate | None:
    flips = sum(
        (measure_position_bias(said.judgements) for run in graded.runs for said in run),
        PositionBias(),
    )
    return None if flips.rate is None else OrderFlipRate(rate=flips.rate, pairs=flips.pairs)
