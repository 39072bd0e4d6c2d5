"""The data inside the page of a run, as `page/run` reads it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import orjson

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome
from flip_reward.errors import RunError
from flip_reward.report.facts import Facts, describe_software, list_facts
from flip_reward.report.highlight import choose_normalizer
from flip_reward.report.meanings import CAUTIONS, OUTCOMES
from flip_reward.report.run.texts import RowTexts, RunTexts, read_run_texts
from flip_reward.report.survey import Histogram, RunSurvey
from flip_reward.report.texts import REPLY_PLACE, ScoreRow, TextTable, score_row
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.records import Record
from flip_reward.scoring.rescore import find_origin
from flip_reward.scoring.run_folder import REJECTED, read_records_in_input_order, read_summary
from flip_reward.scoring.summary import Quartiles, Summary
from flip_reward.selection.results import Choice, read_choices

_MOST_CANDIDATES = 100
_REJECTED_SHOWN = 500
_REASON_SHOWN = 500


@dataclass(frozen=True, slots=True)
class CandidatePayload:
    """A response and its score."""

    index: int
    response: int | None
    """The number of its text; None where that is not there."""
    length: int | None
    """In characters."""
    score: ScoreRow
    bin: int | None
    """The bar of the histogram that it stands in."""
    cautions: list[str]
    reply: int | None
    """The reply as it came, where the score does not have it."""
    cost: tuple[int, int, int, float, bool]
    """Tokens of prompts and completions, attempts, seconds, and whether the reply was cached."""


@dataclass(frozen=True, slots=True)
class GroupPayload:
    """A row and its responses."""

    id: str
    row: int
    where: str
    size: int
    """How many responses the row has."""
    recorded: int
    """How many of them have an outcome so far."""
    instruction: int
    messages: list[tuple[str, int]]
    """The role and the text of each; none where the input is gone."""
    candidates: list[CandidatePayload]
    """Of very many some stand for the others, the lowest and the highest reward among them."""
    chosen: int | None
    """Its place among the candidates; None also where nothing is chosen, as by `flip-reward score`."""
    top: list[int]
    """Those with the highest reward: several where they tie."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often something occurred, and what it means."""

    name: str
    count: int
    meaning: str


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that could not be scored."""

    input: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChoiceCounts:
    """What the choices of a run of best of N amount to."""

    tie_rule: str
    groups: int
    tied: int
    undecided: int


@dataclass(frozen=True, slots=True)
class RunPayload:
    """Everything in the page of a run but its texts."""

    title: str
    kind: str
    reward: str
    engine: str
    created: str
    unfinished: str | None
    """What to do about a run that has not come to its end."""
    missing: str | None
    """Why texts of the inputs are not shown."""
    responses: int
    groups: int
    unit: str
    """What a group is to its reader: a row of the input, or several."""
    quartiles: Quartiles | None
    histogram: Histogram | None
    outcomes: list[Count]
    cautions: list[Count]
    effort: list[tuple[str, str]]
    selected: ChoiceCounts | None
    samples: list[GroupPayload]
    samples_responses: int
    """How many responses the samples have."""
    rejected: list[RejectedRow]
    rejected_rows: int
    made: list[Facts]


@dataclass(frozen=True, slots=True)
class RunRead:
    """A run folder, with the counts of all its records."""

    folder: Path
    origin: Path
    """The folder that knows the inputs: another one for a run that was rescored."""
    manifest: Manifest
    survey: RunSurvey
    summary: Summary | None
    """As the last session left it."""

    @classmethod
    def of(cls, folder: Path) -> RunRead:
        """Read a run folder."""
        manifest = Manifest.read(folder / MANIFEST)
        survey = RunSurvey.of(read_records_in_input_order(folder))
        return cls(folder, find_origin(folder), manifest, survey, read_summary(folder))

    @property
    def grouped(self) -> bool:
        """Whether several rows of the input form a group."""
        return Manifest.read(self.origin / MANIFEST).configuration.grouping is not None

    @property
    def rescored(self) -> bool:
        """Whether another run made the inferences."""
        return self.origin != self.folder


def make_run_data(run: RunRead, *, most: int) -> tuple[RunPayload, TextTable]:
    """Make the data of a run's page, with about `most` responses at most, in rows that stand for all."""
    survey, texts, settings = run.survey, TextTable(), run.manifest.configuration.settings
    counted = survey.tally.summarise(complete=False, rejected_rows=0, resumed_responses=0, seconds=0)
    shown = min(counted.responses, survey.rows * _MOST_CANDIDATES)
    rows = survey.choose_rows(max(1, most * survey.rows // max(shown, 1)))
    found = read_run_texts(run.origin, rows)
    choices, selected = _read_choices(run, rows)
    histogram = survey.draw()
    samples = list(_describe_groups(run, rows, histogram, found, choices, texts))
    rejected, rejected_rows = _read_rejected(run.origin)
    payload = RunPayload(
        title=", ".join([source.name for source in Manifest.read(run.origin / MANIFEST).configuration.inputs]),
        kind="best of N" if selected else "score",
        reward=str(settings.get("reward") or ""),
        engine=str(settings.get("engine") or ""),
        created=run.manifest.sessions[0].started_at if run.manifest.sessions else "",
        unfinished=_describe_end(run, counted),
        missing=found.missing,
        responses=counted.responses,
        groups=survey.rows,
        unit="group" if run.grouped else "row",
        quartiles=counted.rewards,
        histogram=histogram,
        outcomes=[Count(name, count, OUTCOMES[Outcome(name)]) for name, count in counted.outcomes.items()],
        cautions=[Count(name, count, CAUTIONS[Caution(name)]) for name, count in counted.cautions.items()],
        effort=_describe_effort(run, counted),
        selected=selected,
        samples=samples,
        samples_responses=sum([len(sample.candidates) for sample in samples]),
        rejected=rejected,
        rejected_rows=rejected_rows,
        made=_describe_making(run),
    )
    return payload, texts


def _describe_end(run: RunRead, counted: Summary) -> str | None:
    """Say how far a run came that has not come to its end."""
    summary = run.summary
    if summary is not None and summary.complete and summary.responses == counted.responses:
        return None
    failed = counted.outcomes.get(Outcome.ENGINE_FAILURE, 0)
    what = (
        f"{failed:,} of its {counted.responses:,} responses could not be asked about"
        if failed
        else (f"it has {counted.responses:,} responses so far")
    )
    return f"This run is not finished: {what}. The command that began it goes on from there."


def _read_choices(run: RunRead, rows: Collection[int]) -> tuple[dict[int, Choice], ChoiceCounts | None]:
    """Read what was chosen in some rows, and count all; nothing of a rescored run, whose rewards are others."""
    wanted: dict[int, Choice] = {}
    total = tied = undecided = 0
    for choice in () if run.rescored else read_choices(run.folder):
        total, tied, undecided = total + 1, tied + bool(choice.tied), undecided + (choice.chosen is None)
        rule = choice.tie_rule
        if choice.row in rows:
            wanted[choice.row] = choice
    return wanted, ChoiceCounts(rule.value, total, tied, undecided) if total else None


def _describe_groups(
    run: RunRead,
    rows: Collection[int],
    histogram: Histogram | None,
    found: RunTexts,
    choices: Mapping[int, Choice],
    texts: TextTable,
) -> Iterator[GroupPayload]:
    normalizer = choose_normalizer(run.manifest.configuration.settings)
    for row, group in groupby(read_records_in_input_order(run.folder, rows), key=attrgetter("row")):
        known, choice, recorded = found.rows.get(row, RowTexts()), choices.get(row), list(group)
        records = _spread_candidates(recorded, choice.chosen if choice else None)
        places = {record.response_index: place for place, record in enumerate(records)}
        yield GroupPayload(
            id=records[0].group_id,
            row=row,
            where=f"{known.source}, line {known.line}" if known.source else f"row {row + 1}",
            size=records[0].group_size,
            recorded=len(recorded),
            instruction=texts.add(records[0].instruction),
            messages=[(message.role, texts.add(message.content)) for message in known.messages],
            candidates=[
                _describe_candidate(record, known.responses.get(record.response_index), histogram, normalizer, texts)
                for record in records
            ],
            chosen=None if choice is None or choice.chosen is None else places.get(choice.chosen),
            top=_find_highest(records),
        )


def _spread_candidates(records: list[Record], chosen: int | None) -> list[Record]:
    """Choose the responses of a row that are shown: the chosen one, and others evenly over the rewards."""
    last = len(records) - 1
    if last < _MOST_CANDIDATES:
        return records

    def reward(place: int) -> float:
        value = records[place].score.value
        return -math.inf if value is None else value

    places = sorted(range(len(records)), key=reward)
    kept = {places[step * last // (_MOST_CANDIDATES - 1)] for step in range(_MOST_CANDIDATES)}
    return [record for place, record in enumerate(records) if place in kept or record.response_index == chosen]


def _find_highest(records: Sequence[Record]) -> list[int]:
    values = [record.score.value for record in records]
    highest = max((value for value in values if value is not None), default=None)
    return [place for place, value in enumerate(values) if value is not None and value == highest]


def _describe_candidate(
    record: Record, response: str | None, histogram: Histogram | None, normalizer: str, texts: TextTable
) -> CandidatePayload:
    score, cost = record.score, record.score.cost
    row = score_row(record, record.instruction, normalizer, texts)
    shown = len(row) > REPLY_PLACE and row[REPLY_PLACE] is not None
    return CandidatePayload(
        index=record.response_index,
        response=None if response is None else texts.add(response),
        length=None if response is None else len(response),
        score=row,
        bin=histogram.find(score.value) if histogram else None,
        cautions=[caution.value for caution in score.cautions],
        reply=None if shown or score.raw_reply is None else texts.add(score.raw_reply, spare=True),
        cost=(
            cost.usage.prompt_tokens,
            cost.usage.completion_tokens,
            cost.attempts,
            round(cost.latency_seconds, 3),
            cost.cached,
        ),
    )


def _read_rejected(folder: Path) -> tuple[list[RejectedRow], int]:
    """Read the first rejected rows, and count all."""
    found, total = [], 0
    try:
        with (folder / REJECTED).open("rb") as file:
            for total, line in enumerate(file, start=1):
                if total <= _REJECTED_SHOWN:
                    fields = orjson.loads(line)
                    found.append(RejectedRow(fields["input"], fields["line"], str(fields["reason"])[:_REASON_SHOWN]))
    except FileNotFoundError:
        return [], 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / REJECTED} cannot be read", hint="the same command writes it anew") from error
    return found, total


def _describe_effort(run: RunRead, counted: Summary) -> list[tuple[str, str]]:
    facts = [
        ("Prompt tokens", f"{counted.prompt_tokens:,}"),
        ("Completion tokens", f"{counted.completion_tokens:,}"),
        ("Answers from the response cache", f"{counted.answered_from_cache:,}"),
    ]
    summary = run.summary
    if summary is not None and summary.cost is not None:
        facts.append(("Cost, at the prices that were given", f"{summary.cost:,.4f}"))
    if summary is not None and summary.rewards_per_second and not run.rescored:
        speed = f"{summary.rewards_per_second:,.1f} responses/s over {summary.seconds:,.1f} s"
        facts.append(("Speed of the last session", speed))
    return facts


def _describe_making(run: RunRead) -> list[Facts]:
    """Gather what a reader needs to judge a run, and to repeat it."""
    asked = Manifest.read(run.origin / MANIFEST).configuration
    sessions = run.manifest.sessions
    last = sessions[-1].model_dump(exclude=_SOFTWARE) if sessions else {}
    values = {
        "folder": run.folder.resolve().name,
        **{name: _join(value) for name, value in last.items() if value},
        **{f"input {number}": source.name for number, source in enumerate(asked.inputs, start=1)},
        "columns": _join(asked.columns) or None,
    }
    return [
        list_facts("Run", {name: value for name, value in values.items() if value is not None}),
        list_facts("Settings", run.manifest.configuration.settings),
        describe_software(sessions),
    ]


_SOFTWARE = {"started_at", "python", "platform", "versions", "sources"}
"""What is said elsewhere of a session; its sources are places on a machine, and the inputs are named."""


def _join(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join([f"{key}={one}" for key, one in value.items()])
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
