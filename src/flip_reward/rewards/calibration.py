"""Calibration: a map from a reward to the probability that a response is good, and the reward that it makes."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from flip_reward.core.cautions import Caution
from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome, Part, Score
from flip_reward.engines.base import Engine
from flip_reward.errors import DataError, OptionError
from flip_reward.rewards.base import Rendered, RewardModel
from flip_reward.rewards.options import Recorded, Settings

_HINT = "'flip-reward calibrate' writes such files"
NOT_SCORED = "a response that was not scored"


@dataclass(slots=True)
class LabelledRewards:
    """Rewards of responses that have labels: what a calibration is made of.

    Attributes:
        settings: Of the reward that gave them.
        rewards: The rewards.
        good: Whether each response is good.
        prompts: What each answers, as a name: labels of responses to the same prompt are not independent.
        left_out: How many labels are of no use, by the reason.
        source: Where the labels are from, in words.
    """

    settings: Settings
    rewards: list[float] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    source: str = ""

    def add(self, reward: float | None, prompt: str, *, good: bool) -> None:
        """Add a label, unless its response has no reward."""
        if reward is None:
            self.left_out[NOT_SCORED] += 1
            return
        self.rewards.append(reward)
        self.good.append(good)
        self.prompts.append(prompt)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LogisticMap(_Frozen):
    """1 / (1 + exp(-(slope * reward + intercept))), after Platt (1999).

    Example:
        >>> LogisticMap(slope=2.0, intercept=-1.0).apply(0.5)
        0.5
    """

    method: Literal["logistic"] = "logistic"
    slope: Annotated[FiniteFloat, Field(gt=0)]
    intercept: FiniteFloat

    def apply(self, reward: float) -> float:
        """Return the probability for a reward."""
        odds = self.slope * reward + self.intercept
        if odds >= 0:
            return 1 / (1 + math.exp(-odds))
        below = math.exp(odds)
        return below / (1 + below)


class IsotonicMap(_Frozen):
    """Straight lines between points, none of which falls; the first and the last go on for rewards beyond them.

    Example:
        >>> IsotonicMap(rewards=(0.0, 1.0), probabilities=(0.25, 0.75)).apply(0.25)
        0.375
    """

    method: Literal["isotonic"] = "isotonic"
    rewards: tuple[FiniteFloat, ...] = Field(min_length=1)
    probabilities: tuple[Annotated[FiniteFloat, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if len(self.rewards) != len(self.probabilities):
            raise ValueError(f"there are {len(self.probabilities)} probabilities for {len(self.rewards)} rewards")
        if any(one >= other for one, other in pairwise(self.rewards)):
            raise ValueError("the rewards do not rise")
        if any(one > other for one, other in pairwise(self.probabilities)):
            raise ValueError("the probabilities fall")
        return self

    def apply(self, reward: float) -> float:
        """Return the probability for a reward."""
        after = bisect(self.rewards, reward)
        if after in (0, len(self.rewards)):
            return self.probabilities[max(after - 1, 0)]
        left, right = self.rewards[after - 1 : after + 1]
        low, high = self.probabilities[after - 1 : after + 1]
        return low + (high - low) * ((reward - left) / (right - left))


class Calibration(_Frozen):
    """A map from the values of one reward to the probability that a response is good.

    Attributes:
        format: The layout of the file.
        reward: The settings of the reward that it was made for. It is good for no other.
        curve: The map itself.
        lowest: The lowest reward that had a label.
        highest: The highest.
    """

    format: Literal[1] = 1
    reward: dict[str, Recorded]
    curve: Annotated[LogisticMap | IsotonicMap, Field(discriminator="method")]
    lowest: FiniteFloat
    highest: FiniteFloat

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a calibration file.

        Raises:
            DataError: There is none, it is damaged, or it has another layout.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}", hint=_HINT) from error
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["loc"] == ("format",):
                raise DataError(
                    f"{path} is a calibration of another version of flip-reward",
                    hint="make it again with 'flip-reward calibrate'",
                ) from error
            place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
            raise DataError(f"{path} is no calibration: {place}{first['msg']}", hint=_HINT) from error

    @property
    def name(self) -> str:
        """What settings call it: the kind of map, and a hash of all that a value depends on."""
        content = Calibration.model_validate(self.model_dump()).model_dump_json().encode()
        return f"{self.curve.method}-{hashlib.sha256(content).hexdigest()[:16]}"

    def check_made_for(self, settings: Settings, *, with_engine: bool = True) -> None:
        """Refuse a reward with other settings than the one that the map was made for.

        Args:
            settings: Those of the reward.
            with_engine: Whether its model is among them.

        Raises:
            OptionError: They differ; the message says where.
        """
        named = {*self.reward, *settings} if self.reward.get("reward") == settings.get("reward") else {"reward"}
        other = {name for name in named if self.reward.get(name) != settings.get(name)}
        differences = [
            f"{name} is {self.reward.get(name)!r} there and {settings.get(name)!r} here"
            for name in sorted(other)
            if (with_engine or not name.endswith("engine")) and name.removesuffix("_sha256") not in other - {name}
        ]
        if differences:
            raise OptionError(
                f"the calibration was made for another reward: {'; '.join(differences)}",
                hint="score with the same settings, or make a calibration for these with 'flip-reward calibrate'",
            )


class CalibratedReward(RewardModel):
    """A reward whose values are probabilities: those of another reward, mapped by a calibration.

    What the other reward gave is kept as the first of the score's parts. A response whose reward is beyond all that
    had labels gets `Caution.OUTSIDE_CALIBRATION`.

    Args:
        reward: The reward that the calibration was made for.
        calibration: The map.

    Raises:
        OptionError: The calibration was made for another reward.

    Example:
        >>> from flip_reward import CalibratedReward, RewardConfig
        >>> curve = IsotonicMap(rewards=(0.0, 20.0), probabilities=(0.1, 0.9))
        >>> calibration = Calibration(reward={"reward": "longest"}, curve=curve, lowest=0, highest=20)
        >>> reward = CalibratedReward(RewardConfig(reward="longest").load(), calibration)
        >>> [[score]] = reward.score_sync([Group.of("Say hi.", ["Hi there!!"])])
        >>> score.value, score.parts[0].value
        (0.5, 10.0)
    """

    def __init__(self, reward: RewardModel, calibration: Calibration) -> None:
        calibration.check_made_for(reward.settings, with_engine=bool(reward.engines))
        self.calibration = calibration
        self.uncalibrated = reward
        self.engine = reward.engine
        self.independent = reward.independent
        self.response_options = reward.response_options

    def with_engine(self, engine: Engine) -> Self:
        """Return the same reward with a language model behind it; an OptionError where the map is for another."""
        return type(self)(self.uncalibrated.with_engine(engine), self.calibration)

    async def probe(self) -> None:
        """Ask what the reward asks, to know whether it is answered."""
        await self.uncalibrated.probe()

    async def aclose(self) -> None:
        """Close what the reward has opened; it may be used again."""
        await self.uncalibrated.aclose()

    def visible_answer(self, response: str) -> str | Outcome:
        """Return the part of a response that is scored, or why there is none."""
        return self.uncalibrated.visible_answer(response)

    @property
    def model_name(self) -> str:
        """What the model is called."""
        return self.uncalibrated.model_name

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The language models behind it, by their names in the settings."""
        return self.uncalibrated.engines

    @property
    def engine_settings(self) -> Settings:
        """The engine's part of the settings."""
        return self.uncalibrated.engine_settings

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How requests were changed because the model refuses them as they were."""
        return self.uncalibrated.adaptations

    @property
    def settings(self) -> Settings:
        """The reward's settings, and which map is applied."""
        return {**self.uncalibrated.settings, "calibration": self.calibration.name}

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose what the responses are scored against, as the reward does."""
        return self.uncalibrated.select_target(group)

    def render(self, group: Group) -> Sequence[Rendered]:
        """Render what the reward begins by asking."""
        return self.uncalibrated.render(group)

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        """Score the responses, and map what is scored."""
        return tuple(map(self._map, await self.uncalibrated.score_responses(group, target)))

    def _map(self, score: Score) -> Score:
        if score.value is None:
            return score
        known = self.calibration.lowest <= score.value <= self.calibration.highest
        return replace(
            score,
            value=self.calibration.curve.apply(score.value),
            cautions=score.cautions if known else (*score.cautions, Caution.OUTSIDE_CALIBRATION),
            parts=(Part(str(self.settings["reward"]), score.value, score.outcome), *score.parts),
        )


def without_calibration(reward: RewardModel) -> RewardModel:
    """Return the reward whose values a calibration maps; any other reward as it is."""
    return reward.uncalibrated if isinstance(reward, CalibratedReward) else reward
