"""Pairs for tests."""

from __future__ import annotations

from flip_reward.core.conversation import Group
from flip_reward.training.inferrer.pairs import SourcePairs, TrainingPair


def pair(instruction: str, response: str = "Apples, pears and plums.") -> TrainingPair:
    return TrainingPair(Group.of(instruction, response))


def source(*pairs: TrainingPair, name: str = "rows.jsonl", weight: float = 1.0) -> SourcePairs:
    return SourcePairs(name, list(pairs), weight, len(pairs))
