"""`Rollout`, what a trainer logs of a sample, and `Alarm`, what is said about a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALARMS = "alarms.jsonl"
"""The file in a training's folder, a line for each alarm (`Alarm` as JSON)."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A sample of a step.

    Attributes:
        step: The step it was drawn in.
        prompt: The instruction.
        response: What the policy wrote, as it stands.
        reward: What it was trained on; None where there was none.
        others: Rewards that are not trained on, by name.
        spread: The standard deviation of several inferences behind the reward, where there were several.
        samples: How many of them there were.
    """

    step: int
    prompt: str
    response: str
    reward: float | None
    others: Mapping[str, float | None] = field(default_factory=dict)
    spread: float | None = None
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is said when the trained reward rises away from the others, and something explains it.

    Attributes:
        step: The step that raised it.
        onset: The step at which the divergence began.
        mechanism: The figure that explains it, such as "copied".
        divergence: The moving average, in standard deviations of the first steps.
        message: One line for a person.
        examples: The samples that gained most by it, at most five.
    """

    step: int
    onset: int
    mechanism: str
    divergence: float
    message: str
    examples: tuple[Rollout, ...] = ()


@dataclass(frozen=True, slots=True)
class StepReport:
    """What is known after a step: its figures by name, without those that are not defined, and new alarms."""

    step: int
    figures: Mapping[str, float]
    alarms: tuple[Alarm, ...] = ()
