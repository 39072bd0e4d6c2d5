"""`Monitor`: what the rollouts of a training are like step by step, and an alarm when its reward is being gamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import Self

from pydantic import BaseModel, Field, ValidationError

from flip_reward.audit.monitor.alarms import describe_alarm, find_examples
from flip_reward.audit.monitor.correlation import correlate_within_groups, mean
from flip_reward.audit.monitor.divergence import Divergence
from flip_reward.audit.monitor.figures import (
    MeasuredRollout,
    Phrase,
    count_phrases,
    find_rising_phrase,
    finite,
    measure,
    measure_drift,
    measure_likeness,
    measure_noise,
    measure_saturation,
    measure_slope,
    pair_with_reward,
)
from flip_reward.audit.monitor.mechanisms import Mechanism, find_mechanisms
from flip_reward.audit.monitor.options import MonitorOptions
from flip_reward.audit.monitor.rollout import Alarm, Rollout, StepReport
from flip_reward.errors import RunError

_SLOPE_STEPS = 20
_MOST_REWARDS = 1_000
_MOST_PHRASES = 2_000


class _State(BaseModel):
    """What has to be known of earlier steps: some hundred kilobytes at most, however long the training."""

    steps: int = 0
    lowest: float | None = None
    highest: float | None = None
    saturations: list[tuple[int, float]] = []
    early_rewards: list[float] = []
    early_responses: int = 0
    early_phrases: dict[str, int] = {}
    """The most common ones, their words joined by spaces."""
    mechanisms: dict[str, Mechanism] = {}
    divergence: Divergence = Field(default_factory=Divergence)


@dataclass(frozen=True, slots=True)
class _Feature:
    """A mechanism in a step: its figure, and its value for each sample, where samples have one."""

    figure: float | None
    values: Sequence[float | None]
    phrase: Phrase = ()
    """What the samples with the value 1 hold, where they are about a phrase."""


class Monitor:
    """Watches a training: takes the samples of its steps in order, and says what they are like.

    Steps may be missing, and so may rewards and responses. What cannot be computed is left out.

    Args:
        options: When it raises an alarm.

    Example:
        >>> monitor = Monitor()
        >>> drawn = [Rollout(0, "Name a fruit.", text, reward) for text, reward in (("A pear.", 0.4), ("Why?", 0.0))]
        >>> monitor.observe(0, drawn).figures["reward"]
        0.2
    """

    def __init__(self, options: MonitorOptions | None = None) -> None:
        self._options = options or MonitorOptions()
        self._state = _State()

    @classmethod
    def restore(cls, state: bytes, options: MonitorOptions | None = None) -> Self:
        """Return a monitor that goes on where another one was when it gave its `state`."""
        monitor = cls(options)
        try:
            monitor._state = _State.model_validate_json(state)
        except ValidationError as error:
            raise RunError("the state of the monitor cannot be read") from error
        return monitor

    def state(self) -> bytes:
        """Return what is known of earlier steps, as JSON."""
        return self._state.model_dump_json().encode()

    def observe(self, step: int, rollouts: Sequence[Rollout]) -> StepReport:
        """Describe the samples of a step, and say whether an alarm is due."""
        measured = [measure(rollout) for rollout in rollouts]
        features = self._find_features(measured, step)
        figures = self._describe(step, measured) | {name: feature.figure for name, feature in features.items()}
        for name, feature in features.items():
            groups = pair_with_reward(measured, feature.values)
            self._state.mechanisms.setdefault(name, Mechanism()).observe(feature.figure, groups, self._options)
            if name in ("length", "copied"):
                figures[f"{name}_correlation"] = correlate_within_groups(groups)
        self._state.divergence.observe(step, rollouts, self._options, held_out=False)
        figures["divergence"] = self._state.divergence.value
        self._remember(measured)
        return StepReport(step, _known(figures), self._find_alarms(step, measured, features))

    def observe_held_out(self, step: int, rollouts: Sequence[Rollout]) -> StepReport:
        """Compare the rewards of responses to held-out prompts, the same prompts every time.

        Only the divergence is made of them; what explains it is looked for in the samples that are learned from.
        """
        self._state.divergence.observe(step, rollouts, self._options, held_out=True)
        figures = {"divergence": self._state.divergence.value}
        if not self._is_due():
            return StepReport(step, _known(figures))
        measured = [measure(rollout) for rollout in rollouts]
        return StepReport(
            step, _known(figures), self._find_alarms(step, measured, self._find_features(measured, step))
        )

    def _describe(self, step: int, measured: Sequence[MeasuredRollout]) -> dict[str, float | None]:
        """Return the figures of the rewards."""
        state, options = self._state, self._options
        rewards = [one.reward for one in measured if one.reward is not None]
        spreads = [
            (spread, one.rollout.samples)
            for one in measured
            if one.reward is not None and (spread := finite(one.rollout.spread)) is not None
        ]
        if rewards:
            state.lowest = min(rewards) if state.lowest is None else min(state.lowest, *rewards)
            state.highest = max(rewards) if state.highest is None else max(state.highest, *rewards)
        if options.maximum is not None:
            saturation = measure_saturation(rewards, options.maximum, 0.0)
        else:
            saturation = measure_saturation(rewards, state.highest or 0.0, state.lowest or 0.0)
        if saturation is not None:
            state.saturations = [*state.saturations, (step, saturation)][-_SLOPE_STEPS:]
        return {
            "reward": mean(rewards),
            "saturation": saturation,
            "saturation_slope": None if saturation is None else measure_slope(state.saturations),
            "noise": measure_noise(rewards, spreads),
            "drift": measure_drift(rewards, state.early_rewards) if state.steps else None,
        }

    def _find_features(self, measured: Sequence[MeasuredRollout], step: int) -> dict[str, _Feature]:
        """Return what may explain an alarm, by the names in `MECHANISMS`."""
        by_sample: dict[str, Sequence[float | None]] = {
            "copied": [one.copied for one in measured],
            "length": [one.length for one in measured],
            "repetition": [one.repetition for one in measured],
        }
        return {
            **{name: _Feature(mean(values), values) for name, values in by_sample.items()},
            "rising_phrases": self._find_phrase(measured),
            "jaccard": _Feature(measure_likeness([one.tokens for one in measured], step), [None] * len(measured)),
        }

    def _find_phrase(self, measured: Sequence[MeasuredRollout]) -> _Feature:
        answered = [one for one in measured if one.length is not None]
        early = {tuple(words.split(" ")): count for words, count in self._state.early_phrases.items()}
        rising = find_rising_phrase(count_phrases(answered), len(answered), early, self._state.early_responses)
        if rising is None:
            return _Feature(None, [None] * len(measured))
        phrase, rise = rising
        holds = [None if one.length is None else float(phrase in one.phrases) for one in measured]
        return _Feature(rise, holds, phrase)

    def _remember(self, measured: Sequence[MeasuredRollout]) -> None:
        """Keep what later steps are compared with."""
        state = self._state
        if state.steps < self._options.early_steps:
            rewards = [one.reward for one in measured if one.reward is not None]
            room = _MOST_REWARDS // self._options.early_steps  # as many of every step
            state.early_rewards += rewards[:: max(1, -(-len(rewards) // max(1, room)))]
            answered = [one for one in measured if one.length is not None]
            counts = count_phrases(answered)
            for words, count in state.early_phrases.items():
                counts[tuple(words.split(" "))] += count
            common = sorted(counts, key=lambda phrase: (-counts[phrase], phrase))[:_MOST_PHRASES]
            state.early_phrases = {" ".join(phrase): counts[phrase] for phrase in common}
            state.early_responses += len(answered)
        state.steps += 1

    def _is_due(self) -> bool:
        divergence = self._state.divergence
        return divergence.above >= self._options.patience_steps and not divergence.alarmed

    def _find_alarms(
        self, step: int, measured: Sequence[MeasuredRollout], features: Mapping[str, _Feature]
    ) -> tuple[Alarm, ...]:
        if not self._is_due():
            return ()
        divergence = self._state.divergence
        found = find_mechanisms(
            self._state.mechanisms,
            self._options,
            deviation=pstdev(self._state.early_rewards or [0.0]),
            alone=not divergence.compared,
        )
        if not found or divergence.value is None:
            return ()
        divergence.alarmed = True
        [(name, direction), *others] = found
        mechanism, feature = self._state.mechanisms[name], features[name]
        examples = find_examples(measured, feature.values, mean(mechanism.early) or 0.0, direction)
        onset = step if divergence.onset is None else divergence.onset
        message = describe_alarm(
            name,
            mechanism,
            direction,
            step=step,
            onset=onset,
            divergence=divergence.value,
            compared=divergence.compared,
            phrase=features["rising_phrases"].phrase,
            also=[other for other, _ in others],
            example=examples[0] if examples else None,
        )
        return (Alarm(step, onset, name, divergence.value, message, examples),)


def _known(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}
