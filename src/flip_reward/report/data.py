"""An evaluation folder -> the data of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from flip_reward.core.score import Outcome
from flip_reward.errors import RunError
from flip_reward.report.distribution import describe_rewards
from flip_reward.report.evaluation_files import (
    RESULTS,
    BenchmarkSummary,
    Cell,
    Item,
    Results,
    RewardSummary,
    Turn,
    read_evaluation,
    read_items,
    read_results,
)
from flip_reward.report.highlight import find_shared_tokens
from flip_reward.report.payload import (
    BenchmarkPayload,
    CellPayload,
    Effort,
    Payload,
    Sample,
    ScoreRow,
    round_value,
    score_row,
)
from flip_reward.report.provenance import describe_making
from flip_reward.report.statistics import bin_by_quintile, decide, give_credit
from flip_reward.report.texts import TextTable
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records_in_input_order

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReportData:
    """What a report shows, and its texts apart, since only they are cut."""

    payload: Payload
    texts: TextTable


def read_report_data(folder: Path) -> ReportData:
    """Read an evaluation folder.

    Raises:
        RunError: It is no evaluation folder, or it is damaged or of another version.
    """
    results, evaluation = read_results(folder), read_evaluation(folder)
    texts = TextTable()
    payload = Payload(
        title=", ".join(benchmark.name for benchmark in results.benchmarks),
        created=str(evaluation.get("created", "")),
        rewards=results.rewards,
        benchmarks=[_read_benchmark(folder, benchmark, results, texts) for benchmark in results.benchmarks],
        made=describe_making(
            evaluation, results.rewards, [folder / run for cell in results.cells for run in cell.runs]
        ),
    )
    return ReportData(payload, texts)


def _read_benchmark(
    folder: Path, benchmark: BenchmarkSummary, results: Results, texts: TextTable
) -> BenchmarkPayload:
    items = list(read_items(folder, benchmark.name))
    positions = {subset.name: position for position, subset in enumerate(benchmark.subsets)}
    rewards = {reward.label: (position, reward) for position, reward in enumerate(results.rewards)}
    samples = [_make_sample(item, positions, texts) for item in items]
    return BenchmarkPayload(
        name=benchmark.name,
        protocol=benchmark.protocol,
        chance=fmean(fmean(item.chosen) for item in items) if items else 0.0,
        subsets=benchmark.subsets,
        samples=samples,
        cells=[
            _read_cell(folder, cell, *_find(cell.reward, rewards, "reward"), items, texts)
            for cell in results.cells
            if cell.benchmark == benchmark.name
        ],
        comparisons=[comparison for comparison in results.comparisons if comparison.benchmark == benchmark.name],
    )


def _find(name: str, known: Mapping[str, T], kind: str) -> T:
    if name not in known:
        raise RunError(f"{RESULTS} has no {kind} {name!r}", hint="evaluate again: the same command, and it is quick")
    return known[name]


def _make_sample(item: Item, subsets: Mapping[str, int], texts: TextTable) -> Sample:
    return Sample(
        id=item.id,
        subset=_find(item.subset, subsets, "subset"),
        messages=[(turn.role, texts.add(turn.content)) for turn in item.messages],
        responses=[texts.add(response) for response in item.responses],
        chosen="".join("01"[label] for label in item.chosen),
    )


def _read_cell(
    folder: Path, cell: Cell, position: int, reward: RewardSummary, items: Sequence[Item], texts: TextTable
) -> CellPayload:
    normalizer = _normalizer(reward)
    records: dict[str, dict[int, Record]] = {}
    for record in read_records_in_input_order(folder / cell.runs[0]):
        records.setdefault(record.group_id, {})[record.response_index] = record
    shares: list[float | None] = []
    rewards: dict[bool, list[float]] = {True: [], False: []}
    scores: list[list[ScoreRow | None]] = []
    for item in items:
        found = [records.get(item.id, {}).get(index) for index in range(len(item.responses))]
        values = [record.score.value if record else None for record in found]
        shares.append(give_credit(values, item.chosen))
        for value, label in zip(values, item.chosen, strict=True):
            if value is not None:
                rewards[label].append(value)
        last_message = _last_user_message(item.messages)
        scores.append(
            [None if record is None else _make_score_row(record, last_message, normalizer, texts) for record in found]
        )
    return CellPayload(
        reward=position,
        runs=len(cell.runs),
        overall=cell.overall,
        subsets=cell.subsets,
        figures=cell.protocol_figures,
        outcomes=cell.outcomes,
        order_flips=cell.order_flips,
        effort=_measure_effort(cell),
        distribution=describe_rewards(rewards[True], rewards[False]),
        lengths=bin_by_quintile([_mean_length(item.responses) for item in items], shares),
        length_differences=bin_by_quintile([_length_difference(item) for item in items], shares),
        decisions="".join(map(decide, shares)),
        scores=scores,
    )


def _measure_effort(cell: Cell) -> Effort:
    strict = cell.overall.strict
    right = strict.value * strict.n * len(cell.runs)
    responses = sum(cell.outcomes.values())
    per_response = right / responses if responses else 0.0
    return Effort(right, cell.tokens, cell.cost, cell.rewards_per_second, cell.rewards_per_second * per_response)


def _make_score_row(record: Record, last_message: str, normalizer: str, texts: TextTable) -> ScoreRow:
    score = record.score

    def add(text: str | None) -> int | None:
        return None if text is None else texts.add(text)

    marks = None
    if score.inferred_instruction is not None:
        marks = find_shared_tokens(score.inferred_instruction, record.instruction, normalizer)
    inferences = [
        (
            round_value(sample.value),
            None if sample.inferred_instruction is None else texts.add(sample.inferred_instruction, spare=True),
            sample.outcome.value,
        )
        for sample in score.samples
    ]
    explained = score.outcome is Outcome.SCORED and (score.inferred_instruction or score.reasoning)
    return score_row(
        value=score.value,
        outcome=score.outcome.value,
        precision=score.precision,
        recall=score.recall,
        inferred=add(score.inferred_instruction),
        inferred_marks=None if marks is None else marks.inferred,
        original_marks=None if marks is None else marks.original,
        instruction=None if marks is None or record.instruction == last_message else add(record.instruction),
        reasoning=add(score.reasoning),
        reply=None if explained else add(score.raw_reply),
        detail=add(score.detail),
        spread=score.spread,
        inferences=inferences or None,
    )


def _normalizer(reward: RewardSummary) -> str:
    """The normaliser is part of the similarity's name unless it is "english"."""
    return str(reward.settings.get("similarity") or "").partition(":")[2] or "english"


def _last_user_message(messages: Sequence[Turn]) -> str:
    return next((turn.content for turn in reversed(messages) if turn.role == "user"), "")


def _mean_length(responses: Sequence[str]) -> float:
    return fmean(map(len, responses)) if responses else 0.0


def _length_difference(item: Item) -> float:
    chosen, rejected = (
        [response for response, is_chosen in zip(item.responses, item.chosen, strict=True) if is_chosen == label]
        for label in (True, False)
    )
    return _mean_length(chosen) - _mean_length(rejected)
