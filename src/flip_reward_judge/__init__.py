"""Where verifiers finds the judge with the id "flip-reward-judge": its plug-ins are top-level modules."""

from flip_reward.integrations.verifiers import FlipJudge, FlipJudgeConfig

__all__ = ["FlipJudge", "FlipJudgeConfig"]
