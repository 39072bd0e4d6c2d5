"""An evaluation folder -> its results. Of each record only the reward is kept, and what judges said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from flip_reward.core.judgement import Judgement, PositionBias, measure_position_bias, read_judgements
from flip_reward.core.prompts import JudgeKind
from flip_reward.core.score import Usage
from flip_reward.errors import RunError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.folder import (
    BenchmarkEntry,
    Evaluation,
    ExperimentEntry,
    RewardEntry,
    read_evaluation,
    read_items,
)
from flip_reward.evaluation.grading import Grades, ItemRewards, Protocol
from flip_reward.evaluation.layout import ItemLayout
from flip_reward.evaluation.paired import RewardGrades, compare_pairs
from flip_reward.evaluation.results import (
    Accuracy,
    BenchmarkSummary,
    EvaluationResults,
    ExperimentResult,
    PositionBiasRate,
    ProtocolFigure,
    SubsetAccuracy,
    SubsetSize,
    Tokens,
    read_results,
)
from flip_reward.rewards.options import ResponseOptions
from flip_reward.scoring.run_folder import RECORDS, read_records_in_input_order, read_summary
from flip_reward.scoring.summary import Prices

Items: TypeAlias = Mapping[str, Sequence[BenchmarkItem]]
"""The items of each benchmark, by its name."""

_COMPARING_JUDGES = (JudgeKind.PAIRWISE.value, JudgeKind.LISTWISE.value, JudgeKind.LOGIT_PAIRWISE.value)


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """All that a report shows of an evaluation folder."""

    evaluation: Evaluation
    items: Items
    """By benchmark."""
    results: EvaluationResults
    rewards: Mapping[str, Sequence[ItemRewards]]
    """What the first run of each experiment gave each item, by the name of its folder."""


def read_data(folder: Path) -> EvaluationData:
    """Read an evaluation folder with the results that stand in it."""
    evaluation, results = read_evaluation(folder), read_results(folder)
    items = {benchmark.name: read_items(folder, benchmark.name) for benchmark in results.benchmarks}
    cells = [cell for cell in results.cells if cell.benchmark in items]
    rewards = {cell.runs[0]: read_run(folder / cell.runs[0], items[cell.benchmark]).rewards for cell in cells}
    return EvaluationData(evaluation, items, results, rewards)


def tabulate(folder: Path) -> EvaluationData:
    """Compute the results of an evaluation folder. Experiments that are not scored on all items are left out."""
    evaluation = read_evaluation(folder)
    items = {benchmark.name: read_items(folder, benchmark.name) for benchmark in evaluation.benchmarks}
    experiments = list(grade_experiments(folder, evaluation, items))
    prices = evaluation.options.prices
    pairs = combinations([experiment.named_grades for experiment in experiments], 2)
    results = EvaluationResults(
        benchmarks=[_summarise_benchmark(entry, items[entry.name]) for entry in evaluation.benchmarks],
        rewards=evaluation.rewards,
        cells=[_summarise(experiment, prices) for experiment in experiments],
        comparisons=compare_pairs([(a, b) for a, b in pairs if a.benchmark == b.benchmark]),
    )
    rewards = {experiment.entry.runs[0]: experiment.grades.runs[0] for experiment in experiments}
    return EvaluationData(evaluation, items, results, rewards)


@dataclass(frozen=True, slots=True)
class GradedExperiment:
    """An experiment that is scored on all items."""

    entry: ExperimentEntry
    reward: RewardEntry
    grades: Grades
    outcomes: Counter[str]
    """How many responses had each outcome, in all runs."""
    usage: Usage
    """In all runs."""
    rewards_per_second: float
    """The mean of the runs."""

    @property
    def named_grades(self) -> RewardGrades:
        """The grades with the names of the benchmark and of the reward."""
        return RewardGrades(self.entry.benchmark, self.reward.label, self.grades)


def grade_experiments(folder: Path, evaluation: Evaluation, items: Items) -> Iterator[GradedExperiment]:
    """Grade the experiments that are scored on all items, benchmark by benchmark."""
    rewards = {entry.label: entry for entry in evaluation.rewards}
    for benchmark in evaluation.benchmarks:
        protocol = load_protocol(benchmark.protocol)
        layouts: dict[ResponseOptions, ItemLayout] = {}
        for entry in evaluation.cells:
            if entry.benchmark == benchmark.name:
                reward = rewards[entry.reward]
                options = ResponseOptions.read(reward.settings)
                if options not in layouts:
                    layouts[options] = ItemLayout.of(items[benchmark.name], options.visible_answer)
                graded = _grade(folder, entry, reward, protocol, items[benchmark.name], layouts[options])
                if graded is not None:
                    yield graded


def _grade(
    folder: Path,
    entry: ExperimentEntry,
    reward: RewardEntry,
    protocol: Protocol,
    items: Sequence[BenchmarkItem],
    layout: ItemLayout,
) -> GradedExperiment | None:
    outcomes: Counter[str] = Counter()
    usage = Usage()
    runs = []
    for run in entry.runs:
        read = read_run(folder / run, items, judged=reward.reward in _COMPARING_JUDGES)
        if read.outcomes.total() < sum(len(item.group.responses) for item in items):
            return None
        outcomes += read.outcomes
        usage += read.usage
        runs.append(read.rewards)
    speeds = [summary.rewards_per_second for run in entry.runs if (summary := read_summary(folder / run))]
    speed = sum(speeds) / len(speeds) if speeds else 0.0
    return GradedExperiment(entry, reward, Grades(protocol, items, runs, layout), outcomes, usage, speed)


@dataclass(frozen=True, slots=True)
class RunRewards:
    """What a run gave, as far as it is done."""

    rewards: list[ItemRewards]
    """One for each item."""
    outcomes: Counter[str]
    usage: Usage


def read_run(folder: Path, items: Sequence[BenchmarkItem], *, judged: bool = False) -> RunRewards:
    """Read what a run gave, with the verdicts where a judge compared responses.

    A RunError says where its records are of other items.
    """
    values: list[list[float | None]] = [[None] * len(item.group.responses) for item in items]
    judgements: list[tuple[Judgement, ...]] = [()] * len(items)
    outcomes: Counter[str] = Counter()
    usage = Usage()
    for record in read_records_in_input_order(folder) if (folder / RECORDS).exists() else ():
        row, index, score = record.row, record.response_index, record.score
        if row >= len(items) or record.group_id != items[row].id or index >= len(values[row]):
            raise RunError(f"{folder} has records of items that are not in the evaluation")
        values[row][index] = score.value
        outcomes[score.outcome.value] += 1
        usage += score.cost.usage
        if judged:
            judgements[row] += read_judgements(score.raw_reply)
    rewards = [ItemRewards(tuple(one), said, compared=judged) for one, said in zip(values, judgements, strict=True)]
    return RunRewards(rewards, outcomes, usage)


def _summarise_benchmark(entry: BenchmarkEntry, items: Sequence[BenchmarkItem]) -> BenchmarkSummary:
    sizes = Counter([item.subset for item in items])
    subsets = [SubsetSize(name=name, items=size) for name, size in sizes.items()]
    return BenchmarkSummary(name=entry.name, protocol=entry.protocol, items=entry.items, subsets=subsets)


def _summarise(experiment: GradedExperiment, prices: Prices | None) -> ExperimentResult:
    entry, grades, usage = experiment.entry, experiment.grades, experiment.usage
    subsets = dict.fromkeys(grades.subsets)
    return ExperimentResult(
        benchmark=entry.benchmark,
        reward=entry.reward,
        folder=entry.runs[0],
        runs=entry.runs,
        overall=_measure_accuracy(grades, set(subsets)),
        subsets=[SubsetAccuracy(name=name, **dict(_measure_accuracy(grades, {name}))) for name in subsets],
        protocol_figures=[
            ProtocolFigure(
                name=figure.name,
                value=figure.estimate.value,
                low=figure.estimate.low,
                high=figure.estimate.high,
                note=figure.note,
                headline=figure.headline,
            )
            for figure in grades.protocol.figures(grades)
            if figure.estimate is not None
        ],
        outcomes=dict(experiment.outcomes.most_common()),
        tokens=Tokens(prompt=usage.prompt_tokens, completion=usage.completion_tokens),
        cost=None if prices is None else prices.cost(usage),
        rewards_per_second=experiment.rewards_per_second,
        order_flips=_measure_position_bias(grades),
    )


def _measure_accuracy(grades: Grades, subsets: set[str]) -> Accuracy:
    strict, fractional = (grades.mean(values, subsets) for values in (grades.strict, grades.fractional))
    excluded = as_wrong = fractional  # they differ only about unscored items
    unscored_items = sum(map(bool, grades.select(grades.unscored, subsets)[0]))
    if unscored_items:
        excluded, as_wrong = (grades.mean(values, subsets) for values in (grades.excluded, grades.as_wrong))
    return Accuracy(
        strict=strict,
        fractional=fractional,
        unscored_items=unscored_items,
        excluded=excluded,
        as_wrong=as_wrong,
        as_chance=fractional,
        length_balanced=grades.length_balanced(subsets),
    )


def _measure_position_bias(grades: Grades) -> PositionBiasRate | None:
    bias = PositionBias()
    for run in grades.runs:
        for rewards in run:
            if rewards.judgements:
                bias += measure_position_bias(rewards.judgements)
    return None if bias.rate is None else PositionBiasRate(rate=bias.rate, pairs=bias.pairs)
