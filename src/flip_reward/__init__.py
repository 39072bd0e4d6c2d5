"""Reward responses without a reference answer and without a rubric (FLIP, arXiv 2602.13551).

A language model reads a response alone and infers the instruction that most plausibly produced it; the reward is how
close the inferred instruction comes to the original one.

    >>> from flip_reward import FlipReward, Group, ScriptedEngine
    >>> reward = FlipReward(ScriptedEngine(lambda request: '{"INFERRED INSTRUCTION": "Name three fruits"}'))
    >>> [score] = reward.score_sync(Group.of("Name three fruits.", ["Apples, pears and plums."]))
    >>> score.value
    1.0
"""

from flip_reward.audit.call import audit_rewards, audit_rollouts
from flip_reward.core.conversation import Group, Message
from flip_reward.core.score import Cost, Outcome, Score
from flip_reward.engines.base import Completion, Engine, Request, Sampling
from flip_reward.engines.loading import load_engine
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import FlipRewardError
from flip_reward.metrics import f1_score, normalize_answer
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.calibration import CalibratedReward
from flip_reward.rewards.composite.reward import CompositeReward
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.rewards.function import FunctionReward
from flip_reward.rewards.judges.listwise import ListwiseJudge
from flip_reward.rewards.judges.logit import LogitPairwiseJudge, LogitPointwiseJudge
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.rewards.judges.pointwise import PointwiseJudge
from flip_reward.rewards.similarities import load_similarity
from flip_reward.rewards.trained import TrainedReward
from flip_reward.scoring.files import score_file, score_file_async
from flip_reward.scoring.summary import Summary
from flip_reward.selection.choice import Selection, TieRule, best_of, select_best
from flip_reward.selection.training import select_rows

__all__ = [
    "BackwardLikelihoodReward",
    "CalibratedReward",
    "Completion",
    "CompositeReward",
    "Cost",
    "Engine",
    "FlipOptions",
    "FlipReward",
    "FlipRewardError",
    "FunctionReward",
    "Group",
    "ListwiseJudge",
    "LogitPairwiseJudge",
    "LogitPointwiseJudge",
    "Message",
    "Outcome",
    "PairwiseJudge",
    "PointwiseJudge",
    "Request",
    "RewardConfig",
    "RewardModel",
    "Sampling",
    "Score",
    "ScriptedEngine",
    "Selection",
    "Summary",
    "TieRule",
    "TrainedReward",
    "audit_rewards",
    "audit_rollouts",
    "best_of",
    "f1_score",
    "load_engine",
    "load_similarity",
    "normalize_answer",
    "score_file",
    "score_file_async",
    "select_best",
    "select_rows",
]

__version__: str


def __getattr__(name: str) -> str:
    """Look up the installed version when it is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("flip-reward")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
