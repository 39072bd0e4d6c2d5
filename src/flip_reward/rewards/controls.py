"""Rewards that need no model: what a reward model must beat before its accuracy means anything."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from types import MappingProxyType
from typing import Self

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome, Score
from flip_reward.core.similarity import TokenF1
from flip_reward.engines.base import Engine
from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import ResponseOptions, Settings, record_options

Measure = Callable[[str, str], Score]
"""The instruction and a response's visible answer -> its score."""


def _score_length(_instruction: str, answer: str) -> Score:
    return Score(float(len(answer)), Outcome.SCORED)


def _score_brevity(_instruction: str, answer: str) -> Score:
    return Score(-float(len(answer)), Outcome.SCORED)


def _score_copy(instruction: str, answer: str) -> Score:
    reference = _TOKEN_F1.prepare(instruction)
    if reference.empty:
        return Score(None, Outcome.EMPTY_INSTRUCTION)
    match = reference.compare(answer)
    return Score(match.value, Outcome.SCORED, match.precision, match.recall)


def _score_alike(_instruction: str, _answer: str) -> Score:
    return Score(0.5, Outcome.SCORED)


_TOKEN_F1 = TokenF1()

_MEASURES: MappingProxyType[str, Measure] = MappingProxyType(
    {"longest": _score_length, "shortest": _score_brevity, "copy": _score_copy, "constant": _score_alike}
)
CONTROLS = tuple(_MEASURES)
"""The names of the controls."""


class ModelFreeReward(RewardModel):
    """A reward that needs no model: each visible answer is measured by itself."""

    @abstractmethod
    def measure(self, instruction: str, answer: str) -> Score:
        """Score the visible answer of a response."""

    def with_engine(self, engine: Engine) -> Self:  # noqa: ARG002 - others ask it
        """Return the reward itself."""
        return self

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Measure every response."""
        answers = map(self.visible_answer, group.responses)
        return tuple(
            Score(None, answer) if isinstance(answer, Outcome) else self.measure(target.instruction, answer)
            for answer in answers
        )


class ControlReward(ModelFreeReward):
    """A reward that looks at the surface of a response.

    - "longest": how many characters it has. Many preference data sets favour the longer response.
    - "shortest": the same, negative.
    - "copy": token F1 of the response itself with the instruction, as if FLIP had inferred the response: what FLIP
      earns where a response repeats its instruction.
    - "constant": 0.5 for every answer, from which nothing can be learned: a training that moves with it moves by
      accident.
    """

    def __init__(self, name: str, response: ResponseOptions | None = None) -> None:
        if name not in _MEASURES:
            raise OptionError(f"unknown control {name!r}", hint=f"controls are {', '.join(_MEASURES)}")
        self._name = name
        self.response_options = response or ResponseOptions()
        self._measure = _MEASURES[name]

    @property
    def settings(self) -> Settings:
        """The control's name, and how it reads responses where that is not the usual way."""
        return {"reward": self._name, **record_options(self.response_options, (), ())}

    def measure(self, instruction: str, answer: str) -> Score:
        """Look at the surface of an answer."""
        return self._measure(instruction, answer)
