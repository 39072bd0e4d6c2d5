"""`ConstantReward`: the same for every response. A training that moves with it moves by accident."""

from __future__ import annotations

from flip_reward.core.conversation import Group
from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import Engine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.rewards.base import RewardModel, Settings

CONSTANT = "constant"
"""A reward that is the same for every response, from which nothing can be learned: a control."""


class ConstantReward(RewardModel):
    """Rewards every response with an answer alike, so that no response of a group is better than the others.

    Example:
        >>> [scores] = ConstantReward().score_sync([Group.of("Name a fruit.", ["Pear.", "No.", " "])])
        >>> [score.value for score in scores]
        [0.5, 0.5, None]
    """

    def __init__(self) -> None:
        self.engine: Engine = ScriptedEngine(model="none")

    @property
    def settings(self) -> Settings:
        """Its name, which says it all."""
        return {"reward": CONSTANT}

    async def score_group(self, group: Group) -> tuple[Score, ...]:
        """Give every answer the same."""
        self.instruction_of(group)
        answers = [visible_answer(response) for response in group.responses]
        return tuple(
            Score(None, answer) if isinstance(answer, Outcome) else Score(0.5, Outcome.SCORED) for answer in answers
        )
