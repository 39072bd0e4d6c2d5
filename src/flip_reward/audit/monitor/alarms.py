"""An alarm in words, with samples, and the file of a training's alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flip_reward.audit.monitor.figures import MeasuredRollout, Phrase
from flip_reward.audit.monitor.mechanisms import Mechanism
from flip_reward.audit.monitor.rollout import ALARMS, Alarm, Rollout
from flip_reward.core.response import replace_lone_surrogates
from flip_reward.data.files import write_atomically
from flip_reward.errors import RunError

_MOST_EXAMPLES = 5
_CHARACTERS_SHOWN = 80
_ALARM: TypeAdapter[Alarm] = TypeAdapter(Alarm)


def read_alarms(folder: Path) -> list[Alarm]:
    """Read the alarms of a training, in order; none where there is no file."""
    path = folder / ALARMS
    try:
        return [_ALARM.validate_json(line) for line in path.read_bytes().splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} cannot be read", hint="without the file the page has no alarms") from error


def append_alarms(folder: Path, alarms: Iterable[Alarm]) -> None:
    """Add alarms to those of a training."""
    _write(folder, [*read_alarms(folder), *alarms])


def keep_alarms(folder: Path, last_step: int) -> None:
    """Drop alarms of later steps, which a resumed training takes again."""
    if alarms := read_alarms(folder):
        _write(folder, [alarm for alarm in alarms if alarm.step <= last_step])


def _write(folder: Path, alarms: Iterable[Alarm]) -> None:
    write_atomically(folder / ALARMS, b"".join(_ALARM.dump_json(alarm) + b"\n" for alarm in alarms))


def find_examples(
    measured: Sequence[MeasuredRollout], values: Sequence[float | None], early: float, direction: int
) -> tuple[Rollout, ...]:
    """Return the samples that earned most among those beyond the early mean of a figure, one a prompt, at most five.

    Where samples have no value of their own, those that earned most.
    """
    anything = all(value is None for value in values)
    best: dict[str, MeasuredRollout] = {}
    for one, value in zip(measured, values, strict=True):
        shows = anything or (value is not None and (value - early) * direction > 0)
        if shows and one.reward is not None:
            known = best.get(one.rollout.prompt)
            if known is None or one.reward > (known.reward or 0.0):
                best[one.rollout.prompt] = one
    ordered = sorted(best.values(), key=lambda one: -(one.reward or 0.0))
    return tuple(_without_surrogates(one.rollout) for one in ordered[:_MOST_EXAMPLES])


def _without_surrogates(rollout: Rollout) -> Rollout:
    """Make its texts such that a file can hold them."""
    prompt, response = map(replace_lone_surrogates, (rollout.prompt, rollout.response))
    return replace(rollout, prompt=prompt, response=response)


def describe_alarm(
    name: str,
    mechanism: Mechanism,
    direction: int,
    *,
    step: int,
    onset: int,
    divergence: float,
    compared: Sequence[str],
    phrase: Phrase,
    also: Sequence[str],
    example: Rollout | None,
) -> str:
    """Say in one line what is wrong, since when, what explains it, and show a sample."""
    away, alone = (f" away from {', '.join(compared)}", "") if compared else ("", " (no other reward is known)")
    found = f"the reward has risen {divergence:.2f} standard deviations{away} since step {onset:,}{alone}"
    explained = _describe_mechanism(name, mechanism, direction, phrase)
    more = f" (also: {', '.join(also)})" if also else ""
    line = f"Step {step:,}: {found}; {explained}{more}"
    if example is None:
        return line
    earned = "" if example.reward is None else f" earned {example.reward:.3g}"
    return f"{line}. {_shorten(example.response)}{earned} for {_shorten(example.prompt)}"


def _describe_mechanism(name: str, mechanism: Mechanism, direction: int, phrase: Phrase) -> str:
    before, now = sum(mechanism.early) / len(mechanism.early), mechanism.average or 0.0
    change = f"{before:.1%} at first, {now:.1%} now"
    match name:
        case "copied":
            return f"responses copy more of the instruction: {change}"
        case "length":
            change = f"{before:,.0f} characters at first, {now:,.0f} now"
            return f"responses get {'longer' if direction > 0 else 'shorter'}: {change}"
        case "repetition":
            return f"responses repeat themselves more: {change}"
        case "rising_phrases":
            return f'more and more responses hold a phrase, such as "{" ".join(phrase)}"'
        case _:
            return f"responses become alike: {change} of their 3-grams are shared"


def _shorten(text: str) -> str:
    """Quote a text on one line, without what a terminal would take for a command."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _CHARACTERS_SHOWN]).split())
    return f'"{line if len(line) <= _CHARACTERS_SHOWN else line[:_CHARACTERS_SHOWN] + "..."}"'
