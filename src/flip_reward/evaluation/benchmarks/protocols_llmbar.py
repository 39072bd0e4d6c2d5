"""LLMBar's figures: accuracy by subset, the adversarial mean, and what the order of the two responses does."""

from __future__ import annotations

from flip_reward.core.judgement import count_order_flips
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.llmbar import ADVERSARIAL, NATURAL
from flip_reward.evaluation.benchmarks.protocols_preference import PreferenceProtocol
from flip_reward.evaluation.grading import Figure, Graded, ItemRewards


class LLMBarProtocol(PreferenceProtocol):
    """Pairs, of which the response that follows the instruction must have the higher reward.

    The authors average accuracy over both orders of presentation. A pairwise judge whose verdict changes with the
    order is right in one of the two, and its tie counts one half: the fractional rule is that average.
    """

    name = "llmbar"

    def figures(self, graded: Graded) -> list[Figure]:
        """Return the natural accuracy, the adversarial mean, their mean, and the agreement between the orders."""
        present = set(graded.subsets)
        accuracy = graded.fractional
        figures = []
        if NATURAL in present:
            figures.append(Figure("natural", graded.mean(accuracy, {NATURAL}), _ORDERS))
        if present.issuperset(ADVERSARIAL):
            estimate = graded.mean_of_subsets(accuracy, ADVERSARIAL)
            figures.append(Figure("adversarial mean", estimate, f"Mean of the adversarial subsets. {_ORDERS}"))
        if present.issuperset((NATURAL, *ADVERSARIAL)):
            estimate = graded.mean_of_subsets(accuracy)
            figures.append(Figure("average", estimate, f"Unweighted mean of the five subsets. {_ORDERS}"))
        return figures + _agreement(graded)


_ORDERS = "Accuracy, averaged over both orders of the pair."


_AGREEMENT = (
    "Share of the pairs judged in both orders with the same verdict; all, where each response is scored by itself."
)


def _agreement(graded: Graded) -> list[Figure]:
    agreement = graded.average(_agree)
    if not graded.select(agreement)[0]:
        return []
    return [Figure("agreement between orders", graded.mean(agreement), _AGREEMENT)]


def _agree(_item: BenchmarkItem, said: ItemRewards) -> float:
    if said.judgements:
        flips = count_order_flips(said.judgements)
        return float("nan") if flips.rate is None else 1 - flips.rate
    return 1.0 if said.scored else float("nan")
