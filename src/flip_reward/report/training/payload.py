"""The data inside the page of a training, as `page/training` reads it: of one training or of several together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flip_reward.audit.monitor.rollout import Alarm, Rollout
from flip_reward.core.copying import Copying
from flip_reward.report.facts import Facts
from flip_reward.report.highlight import find_shared_tokens
from flip_reward.report.survey import spread
from flip_reward.report.texts import TextTable, round_figure
from flip_reward.report.training.figures import (
    EstimatedPoint,
    Figure,
    Grade,
    Point,
    Scale,
    draw_figures,
    estimate_step,
    name_metric,
)
from flip_reward.report.training.folder import HELD_OUT, OVERLAP, Split

Place = tuple[Split, int]
"""The samples of a step."""

_MOST_ALARMS = 100
_MOST_ALIKE = 5
"""So many samples of a step with the same texts may be what an alarm names."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A response as the page shows it, of any trainer."""

    prompt: str
    response: str
    reward: float | None
    outcome: str = "scored"
    row: int | None = None
    """The place of its prompt, where that is known: responses to the same one stand beside each other."""
    inferred: str | None = None
    copied: float | None = None
    """The share of the instruction that it copies."""
    others: Mapping[str, float | None] = field(default_factory=dict)
    """Rewards that are not trained on, by name."""

    @classmethod
    def of_rollout(cls, rollout: Rollout) -> Sample:
        """Take over what a rollout has."""
        return cls(rollout.prompt, rollout.response, rollout.reward, others=rollout.others)


@dataclass(frozen=True, slots=True)
class WatchedTraining:
    """What is known of a training.

    Attributes:
        name: What it is called among others.
        metrics: Each metric as steps and values.
        sizes: How many samples each step has.
        read: Reads the samples of a step.
        alarms: What was said about its steps, in their order.
        logged: How many samples there were, where only some were kept: figures are not made of those.
    """

    name: str
    metrics: Mapping[str, Sequence[Point]]
    sizes: Mapping[Place, int]
    read: Callable[[Split, int], Sequence[Sample]]
    alarms: Sequence[Alarm] = ()
    logged: int | None = None

    def count_samples(self, split: Split | None) -> int:
        """Return how many samples there were of a split, or of all."""
        if self.logged is not None:
            return self.logged
        return sum([size for (one, _), size in self.sizes.items() if split in (None, one)])

    def list_steps(self, split: Split) -> list[int]:
        """Return the steps that have samples, in order."""
        return sorted(step for one, step in self.sizes if one is split)


@dataclass(frozen=True, slots=True)
class SamplePayload:
    """A response."""

    id: str
    run: int
    split: str
    step: int
    row: int | None
    prompt: int
    """The number of its text, as those below."""
    response: int
    length: int
    """In characters."""
    reward: float | None
    outcome: str
    copied: float | None
    marks: tuple[int, ...]
    """What of the response is copied: starts and ends in turn, in characters."""
    inferred: int | None
    inferred_marks: tuple[int, ...]
    prompt_marks: tuple[int, ...]
    """The tokens of the prompt that the inferred instruction has too."""
    others: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class AlarmPayload:
    """An alarm, with the samples that gained most as their ids."""

    run: int
    step: int
    onset: int
    mechanism: str
    divergence: float
    message: str
    examples: list[str]


@dataclass(frozen=True, slots=True)
class Change:
    """A figure over the samples of two steps; None where no sample has it."""

    title: str
    """The title of its curves."""
    scale: Scale
    before: EstimatedPoint | None
    after: EstimatedPoint | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two steps have to show."""

    split: str
    before: int
    after: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class TrainingPayload:
    """Everything in the page of a training but its texts."""

    title: str
    kicker: str
    created: str
    runs: list[str]
    """The names of trainings that are shown together."""
    figures: list[Figure]
    alarms: list[AlarmPayload]
    alarms_total: int
    comparison: Comparison | None
    samples: list[SamplePayload]
    samples_total: int
    asked: dict[str, str]
    """The filters that the page opens with."""
    made: list[Facts]


@dataclass(frozen=True, slots=True)
class PageHead:
    """What stands around the figures of a page.

    Attributes:
        title: Its heading.
        kicker: The line above it.
        created: When the training began; "" where nobody knows.
        made: How it was made.
    """

    title: str
    kicker: str
    created: str = ""
    made: Sequence[Facts] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """Which samples a reader asked for: those of a split, or of a step, or all."""

    split: Split | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class TrainingRead:
    """Trainings, and what is known of all of their samples."""

    head: PageHead
    runs: Sequence[WatchedTraining]
    shown: Shown
    figures: list[Figure]
    comparison: Comparison | None

    @classmethod
    def of(cls, head: PageHead, runs: Sequence[WatchedTraining], shown: Shown) -> TrainingRead:
        """Read all held-out samples, a step at a time, for their intervals."""
        estimates: dict[str, list[EstimatedPoint]] = {}
        for step in _common_steps(runs, Split.HELD_OUT):
            for metric, point in _measure(runs, Split.HELD_OUT, step).items():
                estimates.setdefault(metric, []).append(point)
        figures = draw_figures([run.metrics for run in runs], estimates)
        return cls(head, runs, shown, figures, _compare(runs, shown))


def make_training_data(read: TrainingRead, *, most: int) -> tuple[TrainingPayload, TextTable]:
    """Make the data of a page with about `most` samples at most."""
    texts = TextTable()
    samples: list[SamplePayload] = []
    alarms: list[AlarmPayload] = []
    for number, run in enumerate(read.runs):
        gallery = _Gallery(number, run, texts, several=len(read.runs) > 1)
        samples += gallery.show(choose_samples(run.sizes, read.shown, most // len(read.runs)))
        shown = [gallery.show_alarm(alarm) for alarm in run.alarms[:_MOST_ALARMS]]
        alarms += shown
        samples += gallery.strays
    return TrainingPayload(
        title=read.head.title,
        kicker=read.head.kicker,
        created=read.head.created,
        runs=[run.name for run in read.runs],
        figures=read.figures,
        alarms=sorted(alarms, key=lambda alarm: alarm.step),
        alarms_total=sum([len(run.alarms) for run in read.runs]),
        comparison=read.comparison,
        samples=samples,
        samples_total=sum([run.count_samples(read.shown.split) for run in read.runs]),
        asked=_ask(read.shown),
        made=list(read.head.made),
    ), texts


def _ask(shown: Shown) -> dict[str, str]:
    step = {} if shown.step is None else {"from": str(shown.step), "to": str(shown.step)}
    return step | ({"split": shown.split.value} if shown.split else {})


def choose_samples(sizes: Mapping[Place, int], shown: Shown, most: int) -> dict[Place, list[int]]:
    """Choose which samples stand for all: half of them from the first and last steps, the rest evenly from others.

    Returns the places among the samples of each step. A step that was asked for counts as one of the first.

    Example:
        >>> sizes = {(Split.TRAIN, step): 100 for step in range(1, 5)}
        >>> {step: len(places) for (_, step), places in choose_samples(sizes, Shown(), 80).items()}
        {1: 20, 4: 20, 2: 20, 3: 20}
        >>> {step: len(places) for (_, step), places in choose_samples(sizes, Shown(step=2), 60).items()}
        {1: 10, 2: 10, 4: 10, 3: 30}
    """
    wanted = {place: size for place, size in sorted(sizes.items()) if size and shown.split in (None, place[0])}
    if sum(wanted.values()) <= most:
        return {place: list(range(size)) for place, size in wanted.items()}
    steps = {split: [step for one, step in wanted if one is split] for split, _ in wanted}
    ends = [place for place in wanted if place[1] in (steps[place[0]][0], steps[place[0]][-1], shown.step)]
    others = [[place for place in wanted if place[0] is split and place not in ends] for split in steps]
    parts = [ends, *sorted(others, key=lambda part: sum([wanted[place] for place in part]))]
    chosen: dict[Place, list[int]] = {}
    for left, places in zip(range(len(parts), 0, -1), parts, strict=True):
        budget = most // 2 if places is ends else (most - sum(map(len, chosen.values()))) // left
        for number in sorted(spread([range(len(places))], budget)):
            size = wanted[places[number]]
            # As many of each step, so that a step's prompts are those of the next one.
            chosen[places[number]] = sorted(spread([range(size)], budget // len(places))) or [number % size]
    return chosen


class _Gallery:
    """Shows the samples of a training, and finds those that its alarms name."""

    def __init__(self, number: int, run: WatchedTraining, texts: TextTable, *, several: bool) -> None:
        self._number, self._run, self._texts = number, run, texts
        self._prefix = f"{number + 1}-" if several else ""
        named = [_key(one) for alarm in run.alarms[:_MOST_ALARMS] for one in alarm.examples]
        self._ids: dict[tuple[int, str, str], list[str]] = {key: [] for key in named}
        self.strays: list[SamplePayload] = []
        """Those that alarms name and no step has."""

    def show(self, chosen: Mapping[Place, Sequence[int]]) -> Iterator[SamplePayload]:
        """Show those that were chosen, and those that alarms name."""
        named = {(split, step) for step, _, _ in self._ids for split in Split} & self._run.sizes.keys()
        for split, step in sorted({*chosen, *named}, key=lambda place: (place[1], place[0] is Split.HELD_OUT)):
            kept = frozenset(chosen.get((split, step), ()))
            for place, sample in enumerate(self._run.read(split, step)):
                name = f"{self._prefix}{split}-{step}-{place + 1}"
                ids = self._ids.get((step, sample.prompt, sample.response))
                if ids is not None and len(ids) < _MOST_ALIKE:
                    ids.append(name)
                elif place not in kept:
                    continue
                yield self._describe(name, split, step, sample)

    def show_alarm(self, alarm: Alarm) -> AlarmPayload:
        """Show an alarm; after all samples."""
        seen: Counter[tuple[int, str, str]] = Counter()
        examples = []
        for one in alarm.examples:
            ids = self._ids[_key(one)] or [self._add_stray(one)]
            examples.append(ids[seen[_key(one)] % len(ids)])
            seen[_key(one)] += 1
        return AlarmPayload(
            run=self._number,
            step=alarm.step,
            onset=alarm.onset,
            mechanism=name_metric(f"audit/{alarm.mechanism}").title,
            divergence=alarm.divergence,
            message=alarm.message,
            examples=examples,
        )

    def _add_stray(self, example: Rollout) -> str:
        name = f"{self._prefix}alarm-{example.step}-{len(self.strays) + 1}"
        self._ids[_key(example)].append(name)
        self.strays.append(self._describe(name, Split.TRAIN, example.step, Sample.of_rollout(example)))
        return name

    def _describe(self, name: str, split: Split, step: int, sample: Sample) -> SamplePayload:
        copying = Copying.of(sample.prompt)
        copied = copying.measure_share(sample.response) if sample.copied is None else sample.copied
        inferred = sample.inferred
        shared = None if inferred is None else find_shared_tokens(inferred, sample.prompt)
        return SamplePayload(
            id=name,
            run=self._number,
            split=split.value,
            step=step,
            row=sample.row,
            prompt=self._texts.add(sample.prompt),
            response=self._texts.add(sample.response),
            length=len(sample.response),
            reward=round_figure(sample.reward),
            outcome=sample.outcome,
            copied=round_figure(copied),
            marks=copying.place(sample.response),
            inferred=None if inferred is None else self._texts.add(inferred),
            inferred_marks=shared.inferred if shared else (),
            prompt_marks=shared.original if shared else (),
            others={other: round_figure(value) for other, value in sample.others.items()},
        )


def _key(example: Rollout) -> tuple[int, str, str]:
    return example.step, example.prompt, example.response


def _compare(runs: Sequence[WatchedTraining], shown: Shown) -> Comparison | None:
    """Compare the first step with the last, or with the one that was asked for; None where that cannot be done."""
    if any(run.logged is not None for run in runs):
        return None
    split = shown.split or (Split.HELD_OUT if _common_steps(runs, Split.HELD_OUT) else Split.TRAIN)
    steps = _common_steps(runs, split)
    after = shown.step if shown.step in steps else steps[-1] if steps else None
    if after is None or after == steps[0]:
        return None
    first, last = (_measure(runs, split, step) for step in (steps[0], after))
    names = {metric: name_metric(metric) for metric in {**first, **last}}
    changes = [Change(name.title, name.scale, first.get(one), last.get(one)) for one, name in names.items()]
    return Comparison(split.value, steps[0], after, changes)


def _common_steps(runs: Sequence[WatchedTraining], split: Split) -> list[int]:
    """The steps of which all trainings that have samples of a kind have some."""
    steps = [{*run.list_steps(split)} for run in runs]
    return sorted(set.intersection(*found)) if (found := [one for one in steps if one]) else []


def _measure(runs: Sequence[WatchedTraining], split: Split, step: int) -> dict[str, EstimatedPoint]:
    return estimate_step(step, [_grade(run.read(split, step)) for run in runs if (split, step) in run.sizes])


def _grade(samples: Sequence[Sample]) -> Iterator[Grade]:
    for place, sample in enumerate(samples):
        row = place if sample.row is None else sample.row
        yield Grade("eval_reward", row, sample.reward)
        for name, value in sample.others.items():
            yield Grade(f"eval_{HELD_OUT}/{name}", row, value)
        yield Grade(f"eval_{OVERLAP}", row, sample.copied)
