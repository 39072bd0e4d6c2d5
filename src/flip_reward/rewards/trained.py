"""`TrainedReward`: the number of a reward model that was trained on preferences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flip_reward.core.conversation import Group, Message
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.engines.base import Classification, ClassifyRequest, Engine, check_is_engine, classify_with
from flip_reward.engines.classifying import ClassifierOptions
from flip_reward.engines.middleware import innermost
from flip_reward.rewards.base import RewardModel, ask, score_each
from flip_reward.rewards.options import ResponseOptions, Settings, read_options, record_options


@dataclass(frozen=True)
class TrainedOptions:
    """How `TrainedReward` reads responses, and its model's head."""

    panel: ClassVar[str] = "Trained reward model"

    classifier: ClassifierOptions = ClassifierOptions()
    response: ResponseOptions = ResponseOptions()


class TrainedReward(RewardModel):
    """What a trained reward model says of the whole conversation with the response as its last turn.

    The visible answer of a response is rewarded, each on its own. The number is the model's own: higher is better,
    and its scale differs from model to model.

    Args:
        engine: An engine whose model has a trained head (`Classifier`); None renders questions only.
        options: What is read of a response.

    Example:
        >>> from flip_reward import Group, ScriptedEngine
        >>> engine = ScriptedEngine(classify_script=lambda request: len(request.response) / 2)
        >>> [[score]] = TrainedReward(engine).score_sync([Group.of("Name a fruit.", "<think>Hm.</think>Pear.")])
        >>> score.value
        2.5
    """

    def __init__(self, engine: Engine | None, options: TrainedOptions | None = None) -> None:
        self.engine = check_is_engine(engine)
        self.options = read_options(options, TrainedOptions)
        self.response_options = self.options.response

    @property
    def settings(self) -> Settings:
        """Everything but the group that a score depends on; the engine's identity holds how its head is read."""
        return {"reward": "trained", **self.engine_settings, **record_options(self.response_options, (), ())}

    def render(self, group: Group) -> list[ClassifyRequest | None]:
        """Render the question about every response, without sending anything; None for one without an answer."""
        self.select_target(group)
        answers = [self.visible_answer(response) for response in group.responses]
        return [
            None if isinstance(answer, Outcome) else ClassifyRequest(group.messages, answer) for answer in answers
        ]

    async def probe(self) -> None:
        """Ask the engine about a harmless response, to know whether it answers."""
        await classify_with(innermost(self.required_engine), ClassifyRequest((Message("user", "Say yes."),), "Yes."))

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        """Score every response of a group, each on its own."""
        return await score_each(self._score(group, response) for response in group.responses)

    async def _score(self, group: Group, response: str) -> Score:
        answer = self.visible_answer(response)
        if isinstance(answer, Outcome):
            return Score(None, answer)
        return await ask(classify_with(self.required_engine, ClassifyRequest(group.messages, answer)), _read)


def _read(reward: Classification, cost: Cost) -> Score:
    return Score(reward.value, Outcome.SCORED, cost=cost)
