"""Any file of prompts with chosen and rejected responses: is the best-rewarded response a chosen one?"""

from __future__ import annotations

from collections.abc import Sequence

from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.grading import Grade, Protocol, grade_best


class PreferenceProtocol(Protocol):
    """The response with the highest reward must be a chosen one; see `grade_best` for ties."""

    name = "preference"

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:
        """Grade the choice of the best response."""
        return grade_best(item.chosen, rewards)

    def chance(self, item: BenchmarkItem) -> float:
        """Return the share of chosen responses."""
        return sum(item.chosen) / len(item.chosen)
