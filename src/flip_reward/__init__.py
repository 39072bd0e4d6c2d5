"""Reward responses without a reference answer and without a rubric (FLIP, arXiv 2602.13551).

A language model reads a response alone and infers the instruction that most plausibly produced it; the reward is how
close the inferred instruction comes to the original one.

    >>> from flip_reward import FlipReward, Group, ScriptedEngine
    >>> reward = FlipReward(ScriptedEngine(lambda request: '{"INFERRED INSTRUCTION": "Name three fruits"}'))
    >>> reward.score_sync([Group.of("Name three fruits.", ["Apples, pears and plums."])])[0][0].value
    1.0
"""

from flip_reward.core.conversation import Group, Message
from flip_reward.core.prompts import Template, TemplatePair, load_templates
from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Outcome, Score, Usage
from flip_reward.core.similarity import Similarity
from flip_reward.engines.base import Completion, Engine, Request, Sampling
from flip_reward.engines.config import EngineConfig, resolve_engine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import FlipRewardError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.rewards.similarities import load_similarity

__all__ = [
    "Completion",
    "Engine",
    "EngineConfig",
    "FlipOptions",
    "FlipReward",
    "FlipRewardError",
    "Group",
    "Message",
    "Outcome",
    "ReplyPolicy",
    "Request",
    "RewardModel",
    "Sampling",
    "Score",
    "ScriptedEngine",
    "Similarity",
    "Target",
    "Template",
    "TemplatePair",
    "Usage",
    "load_similarity",
    "load_templates",
    "resolve_engine",
]
__version__ = "0.1.0"
