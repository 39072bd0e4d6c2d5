"""The data inside a report, as `page/evaluation` reads it, made from an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from flip_reward.errors import RunError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.folder import RESULTS, RewardEntry
from flip_reward.evaluation.grading import ItemRewards, Protocol, grade_best
from flip_reward.evaluation.results import (
    Accuracy,
    BenchmarkSummary,
    ComparisonResult,
    EvaluationResults,
    ExperimentResult,
    PositionBiasRate,
    ProtocolFigure,
    SubsetAccuracy,
    SubsetSize,
    Tokens,
    name_headline,
    rank,
)
from flip_reward.evaluation.tabulate import EvaluationData
from flip_reward.report.evaluation.statistics import Bin, RewardHistogram, bin_by_quintile, count_rewards, decide
from flip_reward.report.facts import Facts, describe_software, list_facts
from flip_reward.report.highlight import choose_normalizer
from flip_reward.report.survey import spread
from flip_reward.report.texts import ScoreRow, TextTable, score_row
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.run_folder import RECORDS, read_records_in_input_order

MOST_ITEMS = 6000
"""Of more, some stand for all."""


@dataclass(frozen=True, slots=True)
class ItemPayload:
    """An item as the explorer shows it."""

    id: str
    subset: int
    """Its position in the benchmark."""
    messages: list[tuple[str, int]]
    """The role and the text of each."""
    responses: list[int]
    chosen: str
    """A letter for each candidate: "1" for a chosen one, "0" for a rejected one."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a reward's decisions took, in all its runs; also what the response cache saved."""

    right: float
    """Right decisions, by the strict rule."""
    tokens: Tokens
    cost: float | None
    """In the currency of the prices that were given; None without prices."""
    rewards_per_second: float
    right_per_second: float


@dataclass(frozen=True, slots=True)
class ExperimentPayload:
    """One reward model on one benchmark."""

    reward: int
    """The position of the reward model."""
    runs: int
    """From `distribution` on the first run is shown."""
    overall: Accuracy
    subsets: list[SubsetAccuracy]
    figures: list[ProtocolFigure]
    outcomes: dict[str, int]
    order_flips: PositionBiasRate | None
    """For judges that see pairs in both orders."""
    effort: Effort
    distribution: RewardHistogram | None
    lengths: list[Bin]
    """Credit by the mean length of an item's responses, in characters."""
    length_differences: list[Bin]
    """Credit by how much longer the chosen responses are than the rejected ones."""
    decisions: str
    """A letter for each sample; see `flip_reward.report.evaluation.statistics.Decision`."""
    scores: list[list[ScoreRow | None]]
    """By sample and candidate, null where none was recorded."""


@dataclass(frozen=True, slots=True)
class BenchmarkPayload:
    """A benchmark and its results."""

    name: str
    protocol: str
    chance: float
    """The accuracy of rewards drawn at random, 0 to 1."""
    subsets: list[SubsetSize]
    headline: str | None
    """The figure that the authors compare by, where it is another number than the accuracy."""
    items: int
    samples: list[ItemPayload]
    """All items, or those that stand for them."""
    cells: list[ExperimentPayload]
    """The best reward model first; see `flip_reward.evaluation.results.rank`."""
    comparisons: list[ComparisonResult]


@dataclass(frozen=True, slots=True)
class Payload:
    """Everything in a report but its texts."""

    title: str
    created: str
    """When the evaluation was made, as it says."""
    rewards: list[RewardEntry]
    benchmarks: list[BenchmarkPayload]
    made: list[Facts]
    """How the evaluation was made."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """What a report shows, and its texts apart, since only they are cut."""

    payload: Payload
    texts: TextTable


def make_report_data(folder: Path, data: EvaluationData) -> ReportData:
    """Make the data of a report from what an evaluation folder holds; a RunError says where parts of it disagree."""
    return add_samples(folder, data, make_figures(folder, data))


def make_figures(folder: Path, data: EvaluationData) -> Payload:
    """Make a payload without samples, with the decisions about all items."""
    results = data.results
    return Payload(
        title=", ".join([benchmark.name for benchmark in results.benchmarks]),
        created=data.evaluation.created,
        rewards=results.rewards,
        benchmarks=[_describe_benchmark(benchmark, data) for benchmark in results.benchmarks],
        made=_describe_making(folder, data),
    )


def add_samples(folder: Path, data: EvaluationData, figures: Payload, *, most: int = MOST_ITEMS) -> ReportData:
    """Show all items, or `most` of them: as many of each subset, and of each decision of each reward."""
    texts = TextTable()
    chosen = _choose_items(figures, data, most)
    benchmarks = [
        _show_items(folder, data, benchmark, places, texts)
        for benchmark, places in zip(figures.benchmarks, chosen, strict=True)
    ]
    return ReportData(replace(figures, benchmarks=benchmarks), texts)


def _choose_items(figures: Payload, data: EvaluationData, most: int) -> list[list[int]]:
    """Choose the positions of those to show, for each benchmark."""
    ends = list(accumulate([benchmark.items for benchmark in figures.benchmarks], initial=0))
    if ends[-1] <= most:
        return [list(range(benchmark.items)) for benchmark in figures.benchmarks]
    kinds: dict[tuple[int | str, ...], list[int]] = {}
    for number, benchmark in enumerate(figures.benchmarks):
        for place, item in enumerate(data.items[benchmark.name], start=ends[number]):
            kinds.setdefault((number, item.subset), []).append(place)
        for cell in benchmark.cells:
            for place, decision in enumerate(cell.decisions, start=ends[number]):
                kinds.setdefault((number, cell.reward, decision), []).append(place)
    shown = sorted(spread(kinds.values(), most))
    return [[place - start for place in shown if start <= place < end] for start, end in pairwise(ends)]


def _show_items(
    folder: Path, data: EvaluationData, benchmark: BenchmarkPayload, places: Sequence[int], texts: TextTable
) -> BenchmarkPayload:
    items = data.items[benchmark.name]
    subsets = {subset.name: position for position, subset in enumerate(benchmark.subsets)}
    normalizers = [choose_normalizer(reward.settings) for reward in data.results.rewards]
    samples = [
        ItemPayload(
            id=item.id,
            subset=_find(item.subset, subsets, "subset"),
            messages=[(message.role, texts.add(message.content)) for message in item.group.messages],
            responses=[texts.add(response) for response in item.group.responses],
            chosen="".join(["01"[label] for label in item.chosen]),
        )
        for item in [items[place] for place in places]
    ]
    cells = [
        replace(
            cell,
            decisions="".join([cell.decisions[place] for place in places]),
            scores=_read_scores(folder / result.runs[0], items, places, normalizers[cell.reward], texts),
        )
        for cell, result in zip(benchmark.cells, _list_results(data.results, benchmark.name), strict=True)
    ]
    return replace(benchmark, samples=samples, cells=cells)


def _read_scores(
    run: Path, items: Sequence[BenchmarkItem], places: Sequence[int], normalizer: str, texts: TextTable
) -> list[list[ScoreRow | None]]:
    """Read the scores of some items."""
    found: dict[int, list[ScoreRow | None]] = {place: [None] * len(items[place].group.responses) for place in places}
    for record in read_records_in_input_order(run, found) if (run / RECORDS).exists() else ():
        messages = reversed(items[record.row].group.messages)
        asked = next((message.content for message in messages if message.role == "user"), "")
        found[record.row][record.response_index] = score_row(record, asked, normalizer, texts)
    return list(found.values())


def _list_results(results: EvaluationResults, benchmark: str) -> list[ExperimentResult]:
    """The best reward first."""
    return rank([result for result in results.cells if result.benchmark == benchmark])


def _describe_benchmark(benchmark: BenchmarkSummary, data: EvaluationData) -> BenchmarkPayload:
    items, results = data.items[benchmark.name], data.results
    rewards = {reward.label: position for position, reward in enumerate(results.rewards)}
    lengths, protocol = _ItemLengths.of(items), load_protocol(benchmark.protocol)
    cells = _list_results(results, benchmark.name)
    return BenchmarkPayload(
        name=benchmark.name,
        protocol=benchmark.protocol,
        chance=fmean(map(protocol.chance, items)) if items else 0.0,
        subsets=benchmark.subsets,
        headline=name_headline(cells),
        items=len(items),
        samples=[],
        cells=[
            _describe_experiment(
                result,
                _find(result.reward, rewards, "reward"),
                protocol,
                items,
                lengths,
                data.rewards[result.runs[0]],
            )
            for result in cells
        ],
        comparisons=[comparison for comparison in results.comparisons if comparison.benchmark == benchmark.name],
    )


T = TypeVar("T")


def _find(name: str, known: Mapping[str, T], kind: str) -> T:
    if name not in known:
        raise RunError(f"{RESULTS} has no {kind} {name!r}", hint="run the same evaluation again, which is quick")
    return known[name]


@dataclass(frozen=True, slots=True)
class _ItemLengths:
    """In characters, for each item: the mean of its responses, and by how much the chosen ones are longer."""

    means: list[float]
    differences: list[float]

    @classmethod
    def of(cls, items: Sequence[BenchmarkItem]) -> _ItemLengths:
        means, differences = [], []
        for item in items:
            lengths: dict[bool, list[int]] = {True: [], False: []}
            for response, label in zip(item.group.responses, item.chosen, strict=True):
                lengths[label].append(len(response))
            means.append(fmean(lengths[True] + lengths[False]))
            differences.append(fmean(lengths[True]) - fmean(lengths[False]))
        return cls(means, differences)


def _describe_experiment(
    result: ExperimentResult,
    position: int,
    protocol: Protocol,
    items: Sequence[BenchmarkItem],
    lengths: _ItemLengths,
    given: Sequence[ItemRewards],
) -> ExperimentPayload:
    shares: list[float | None] = []
    earned: list[float | None] = []
    values: dict[bool, list[float]] = {True: [], False: []}
    for item, rewards in zip(items, given, strict=True):
        scored = rewards.scored
        shares.append(None if scored is None else grade_best(item.chosen, scored).fractional)
        earned.append(None if scored is None else protocol.grade(item, scored).fractional)
        for value, label in zip(rewards.values, item.chosen, strict=True):
            if value is not None:
                values[label].append(value)
    prompts = [item.group.messages for item in items]
    return ExperimentPayload(
        reward=position,
        runs=len(result.runs),
        overall=result.overall,
        subsets=result.subsets,
        figures=result.protocol_figures,
        outcomes=result.outcomes,
        order_flips=result.order_flips,
        effort=_measure_effort(result),
        distribution=count_rewards(values[True], values[False]),
        lengths=bin_by_quintile(lengths.means, earned, prompts),
        length_differences=bin_by_quintile(lengths.differences, earned, prompts),
        decisions="".join(map(decide, shares)),
        scores=[],
    )


def _measure_effort(result: ExperimentResult) -> Effort:
    strict = result.overall.strict
    right = 0.0 if strict is None else strict.value * strict.n * len(result.runs)
    responses = sum(result.outcomes.values())
    per_response = right / responses if responses else 0.0
    return Effort(
        right, result.tokens, result.cost, result.rewards_per_second, result.rewards_per_second * per_response
    )


def _describe_making(folder: Path, data: EvaluationData) -> list[Facts]:
    """Gather what a reader needs to judge an evaluation, and to repeat it."""
    options = {f"options › {name}": value for name, value in data.evaluation.options}
    facts = [list_facts("Evaluation", {"created": data.evaluation.created, **options})]
    facts += [
        list_facts(f"Benchmark {entry.name}", {name: value for name, value in entry if name != "name"})
        for entry in data.evaluation.benchmarks
    ]
    facts += [list_facts(reward.label, reward.settings) for reward in data.results.rewards if reward.settings]
    runs = [folder / run for cell in data.results.cells for run in cell.runs]
    sessions = [session for run in runs for session in Manifest.read(run / MANIFEST).sessions]
    return [*facts, describe_software(sessions)]
