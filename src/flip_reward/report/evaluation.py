"""An evaluation folder -> one HTML file that needs nothing else.

An evaluation folder -> the data of its report.

How an evaluation was made, as lists of names and values.

The texts of a report: each once, long ones cut.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import orjson
from pydantic import BaseModel

from flip_reward.core.response import replace_lone_surrogates
from flip_reward.core.score import Outcome
from flip_reward.data.files import write_atomically
from flip_reward.errors import RunError
from flip_reward.report.evaluation_files import (
    REPORT,
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
    Facts,
    Payload,
    Sample,
    ScoreRow,
    round_value,
    score_row,
)
from flip_reward.report.statistics import bin_by_quintile, decide, describe_rewards, give_credit
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import MANIFEST, read_records_in_input_order

_APART = ("format", "benchmarks", "rewards", "cells")


def describe_making(
    evaluation: Mapping[str, object], rewards: Sequence[RewardSummary], runs: Sequence[Path]
) -> list[Facts]:
    """Gather what a reader needs to judge an evaluation, and to repeat it.

    Args:
        evaluation: The content of `evaluation.json`.
        rewards: The reward models and their settings.
        runs: The run folders.

    Raises:
        RunError: A run folder has no readable manifest.
    """
    whole = {name: value for name, value in evaluation.items() if name not in _APART}
    facts = [Facts("Evaluation", list(_flatten(whole)))]
    benchmarks = evaluation.get("benchmarks")
    for benchmark in benchmarks if isinstance(benchmarks, list) else []:
        fields = dict(benchmark)
        facts.append(Facts(f"Benchmark {fields.pop('name', '')}", list(_flatten(fields))))
    facts += [Facts(reward.label, list(_flatten(reward.settings))) for reward in rewards]
    return [*(group for group in facts if group.rows), _describe_software(runs)]


def _describe_software(runs: Sequence[Path]) -> Facts:
    sessions = [session for run in runs for session in Manifest.read(run / MANIFEST).sessions]
    if not sessions:
        return Facts("Software", [])
    first, last = (choose(session.started_at for session in sessions) for choose in (min, max))
    values: list[tuple[str, str]] = [
        ("first session", first),
        ("last session", last),
        ("sessions", str(len(sessions))),
    ]
    seen: dict[str, dict[str, None]] = {}  # dicts as ordered sets
    for session in sessions:
        for name, value in {"Python": session.python, "platform": session.platform, **session.versions}.items():
            seen.setdefault(name, {})[value] = None
    return Facts("Software", values + [(name, ", ".join(found)) for name, found in seen.items()])


def _flatten(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name} › {key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "none"
    else:
        yield name, _spell(value)


def _spell(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


@dataclass(slots=True)
class TextTable:
    """Texts by number, so that what several rewards share is stored once.

    Spare texts are cut at a quarter of the limit of the others, and so go first where there is no room.

    Example:
        >>> table = TextTable()
        >>> table.add("a"), table.add("bcd"), table.add("a")
        (0, 1, 0)
        >>> table.add("efghij", spare=True)
        2
        >>> table.cut(2)
        CutTexts(texts=['a', 'bc', ''], omitted=[(1, 1), (2, 6)])
    """

    _numbers: dict[str, int] = field(default_factory=dict)
    _needed: set[int] = field(default_factory=set)

    def add(self, text: str, *, spare: bool = False) -> int:
        """Return the number of a text. One that is spare here and needed elsewhere is needed."""
        number = self._numbers.setdefault(text, len(self._numbers))
        if not spare:
            self._needed.add(number)
        return number

    def longest(self) -> int:
        """Return the length of the longest text, in characters; 0 without a text."""
        return max(map(len, self._numbers), default=0)

    def cut(self, limit: int) -> CutTexts:
        """Return the texts by number, each with at most `limit` characters, spare ones with at most a quarter."""
        limits = [limit if number in self._needed else limit // 4 for number in range(len(self._numbers))]
        return CutTexts(
            [replace_lone_surrogates(text[:most]) for text, most in zip(self._numbers, limits, strict=True)],
            [
                (number, len(text) - most)
                for (text, number), most in zip(self._numbers.items(), limits, strict=True)
                if len(text) > most
            ],
        )


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Texts as the report holds them.

    Attributes:
        texts: By number.
        omitted: The number of each text that was cut, and how many characters it lost.
    """

    texts: list[str]
    omitted: list[tuple[int, int]]


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


MAX_BYTES = 3_000_000
"""How large a report becomes by default. Texts are cut until it fits."""

_LIBRARIES = ("d3.min.js", "plot.umd.min.js")
_SCRIPTS = tuple(
    f"{name}.js"
    for name in ("dom", "format", "payload", "filters", "charts", "accuracy", "conduct", "sample", "explorer", "main")
)
_TEXT_LIMITS = (80, 120, 160, 240, 360, 500, 700, 1000, 1400, 2000, 3000, 4500, 7000, 12_000, 20_000)


def build_report(folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write `report.html` into an evaluation folder.

    Texts longer than 20,000 characters are cut, and say so where they are shown. Where the file would be larger than
    `max_bytes` all texts are cut at less, down to 80 characters; figures are never left out, nor highlights moved.

    Args:
        folder: What `flip-reward evaluate` wrote.
        max_bytes: How large the file may become.

    Returns:
        The file.

    Raises:
        RunError: It is no evaluation folder, or it is damaged or of another version.
        StorageError: The file cannot be written.
    """
    data = read_report_data(folder)
    frame = _fill_template(data.payload.title, "")
    page = _fill_template(data.payload.title, _fit(data, max_bytes - len(frame)))
    path = folder / REPORT
    write_atomically(path, page)
    return path


def _fit(data: ReportData, max_bytes: int) -> str:
    """Return the data with texts as long as the limit allows."""
    encoded = _encode(data, _TEXT_LIMITS[-1])  # enough for most evaluations
    if len(encoded) <= max_bytes:
        return encoded
    shortest, longest = 0, len(_TEXT_LIMITS) - 1
    encoded = _encode(data, _TEXT_LIMITS[shortest])
    while longest - shortest > 1:
        tried = (shortest + longest) // 2
        attempt = _encode(data, _TEXT_LIMITS[tried])
        if len(attempt) <= max_bytes:
            shortest, encoded = tried, attempt
        else:
            longest = tried
    return encoded


def _encode(data: ReportData, text_limit: int) -> str:
    """Return the data as base64, which no text can break out of, of compressed JSON."""
    cut = data.texts.cut(text_limit)
    content = {"text_limit": text_limit, "texts": cut.texts, "omitted": cut.omitted, "payload": data.payload}
    return base64.b64encode(gzip.compress(orjson.dumps(content, default=_dump_model), mtime=0)).decode()


def _dump_model(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _fill_template(title: str, data: str) -> bytes:
    room = files("flip_reward.report")
    page, assets = room / "page", room / "assets"
    licences = (assets / "LICENSES.txt").read_text(encoding="utf-8")
    libraries = [(assets / name).read_text(encoding="utf-8") for name in _LIBRARIES]
    scripts = [f"/*\n{licences}*/", *libraries, *((page / name).read_text(encoding="utf-8") for name in _SCRIPTS)]
    values = {
        "title": html.escape(title),
        "style": (page / "style.css").read_text(encoding="utf-8"),
        "script_hashes": " ".join(map(_hash, scripts)),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        "data": data,
    }
    template = (page / "template.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{ (\w+) \}\}", partial(_value, values), template).encode()


def _value(values: dict[str, str], place: re.Match[str]) -> str:
    return values[place[1]]


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
