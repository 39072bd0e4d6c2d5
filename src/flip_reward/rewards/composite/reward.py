"""`CompositeReward`: several rewards as one, by a formula."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Self, TypeVar

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Outcome, Part, Score
from flip_reward.engines.base import Engine
from flip_reward.errors import ConversationError, OptionError
from flip_reward.rewards.base import Rendered, RewardModel
from flip_reward.rewards.calibration import without_calibration
from flip_reward.rewards.composite.formula import Formula, parse_formula
from flip_reward.rewards.composite.rules import RULES, RuleReward
from flip_reward.rewards.composite.values import Cell
from flip_reward.rewards.controls import ModelFreeReward
from flip_reward.rewards.options import Settings
from flip_reward.rewards.waiting import gather_all

T = TypeVar("T")


class CompositeReward(RewardModel):
    """A reward made of others by a formula: weighted sums, minima, gates, values made comparable within a group.

    Each part scores a group once, all of them at the same time. A response that a part leaves unscored is unscored,
    unless the formula has `default(part, value)` for it; what may pass, a failure of the engine, stays unscored even
    then. `Score.parts` has what each part gave.

    Args:
        formula: For example "0.5*z(flip) + 0.5*z(pointwise)". docs/rewards.md has the grammar.
        parts: The rewards by their names in the formula; rules, such as `length(max=900)`, need none.

    Raises:
        OptionError: The formula cannot be read, or the parts are not those that it names.
        MissingDependencyError: A library of the extra `composite` is not installed.

    Example:
        >>> from flip_reward import FlipReward, Group, ScriptedEngine
        >>> flip = FlipReward(ScriptedEngine(lambda request: '{"INFERRED INSTRUCTION": "Name a fruit."}'))
        >>> reward = CompositeReward("gate(flip, length(max=20))", {"flip": flip})
        >>> scores = reward.score_sync(Group.of("Name a fruit.", ["A pear.", "Apples, pears and plums."]))
        >>> [score.value for score in scores], [part.name for part in scores[1].parts]
        ([1.0, 0.0], ['flip', 'length'])
    """

    def __init__(self, formula: Formula | str, parts: Mapping[str, RewardModel]) -> None:
        self.formula = parse_formula(formula, parts) if isinstance(formula, str) else formula
        found = {
            name: RuleReward(part.reward, dict(part.settings))
            for name, part in self.formula.parts.items()
            if part.reward in RULES
        }
        self.parts = {name: part for name in self.formula.parts if (part := {**found, **parts}.get(name)) is not None}
        missing = self.formula.parts.keys() ^ {*self.parts, *parts}
        if missing:
            raise OptionError(
                f"the formula {str(self.formula)!r} and its parts differ in {', '.join(sorted(missing))}"
            )
        self.independent = not self.formula.compares and all(part.independent for part in self.parts.values())
        # What looks at a response as a whole reads it as the first part that asks a model does.
        self._first = next(
            (part for part in self.parts.values() if not isinstance(without_calibration(part), ModelFreeReward)),
            next(iter(self.parts.values())),
        )
        self.response_options = self._first.response_options

    def with_engine(self, engine: Engine) -> Self:
        """Return the same reward with one language model behind all of its parts that ask one."""
        return self.with_engines(dict.fromkeys(self.parts, engine))

    def with_engines(self, engines: Mapping[str, Engine]) -> Self:
        """Return the same reward with a language model behind each of the named parts."""
        bound = copy(self)
        bound.parts = {
            name: part.with_engine(engines[name]) if name in engines else part for name, part in self.parts.items()
        }
        return bound

    async def aclose(self) -> None:
        """Close the engines of all parts; they may be used again."""
        for engine in _unique(self.engines.values()):
            await engine.aclose()

    async def probe(self) -> None:
        """Ask the engines of all parts, to know whether they answer."""
        await gather_all(part.probe() for part in self.parts.values() if part.engines)

    @property
    def model_name(self) -> str:
        """What the models are called, joined by "+"; "none" where there is none."""
        names = [part.model_name for part in self.parts.values() if part.engines]
        return "+".join(dict.fromkeys(names)) or "none"

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The language models of all parts, by their names in the settings."""
        return {f"{name}.{key}": engine for name, part in self.parts.items() for key, engine in part.engines.items()}

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How requests of the parts were changed."""
        return tuple(
            dict.fromkeys(f"of {name}: {said}" for name, part in self.parts.items() for said in part.adaptations)
        )

    @property
    def settings(self) -> Settings:
        """The formula, and the settings of each part after its name."""
        own = {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.settings.items()}
        return {"reward": self.formula.by_names, **own}

    def select_target(self, group: Group) -> InferenceTarget:
        """Choose what the first part that asks a model scores against; a ConversationError where any part refuses."""
        if self.formula.compares and len(group.responses) < 2:
            raise ConversationError(
                f"{self.formula.by_names} compares responses, and there is only one",
                hint="put all responses to a prompt into one row, or name what their rows share (--group-by); or "
                "take a formula without z and rank",
            )
        for part in self.parts.values():
            part.select_target(group)
        return self._first.select_target(group)

    def render(self, group: Group) -> Sequence[Rendered]:
        """Render what the parts would ask, one after the other."""
        self.select_target(group)
        return [request for part in self.parts.values() for request in part.render(group)]

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        """Score a group by every part at once, and compute the formula; each part has a target of its own."""
        targets = [part.select_target(group) for part in self.parts.values()]
        scored = await gather_all(
            part.score_responses(group, own) for part, own in zip(self.parts.values(), targets, strict=True)
        )
        cells = self.formula.compute(dict(zip(self.parts, scored, strict=True)))
        of_responses = [dict(zip(self.parts, scores, strict=True)) for scores in zip(*scored, strict=True)]
        return tuple(_join(cell, scores) for cell, scores in zip(cells, of_responses, strict=True))


def _join(cell: Cell, scores: Mapping[str, Score]) -> Score:
    """Make the score of a response, with what is shown of its inference where one part alone infers."""
    inferring = [score for score in scores.values() if score.inferred_instruction is not None]
    inferred = inferring[0] if len(inferring) == 1 else Score(None, Outcome.NOTHING_TO_COMPARE)
    others = [score.other_reading for score in scores.values() if score.other_reading is not None]
    value, failure = (None, cell) if isinstance(cell, Score) else (cell, None)
    details = [f"{name}: {score.detail}" for name, score in scores.items() if score.detail]
    return Score(
        value,
        failure.outcome if failure else Outcome.SCORED,
        precision=inferred.precision,
        recall=inferred.recall,
        inferred_instruction=inferred.inferred_instruction,
        reasoning=inferred.reasoning,
        raw_reply=inferred.raw_reply,
        detail=failure.detail if failure else "; ".join(details) or None,
        cost=Cost.of_all([score.cost for score in scores.values()]),
        cautions=tuple(_unique(caution for score in scores.values() for caution in score.cautions)),
        parts=tuple(Part(name, score.value, score.outcome) for name, score in scores.items()),
        other_reading=others[0] if len(others) == 1 else None,
    )


def _unique(found: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(found))
