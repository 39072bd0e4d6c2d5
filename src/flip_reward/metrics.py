"""The metric of FLIP under the names its authors' users know: `normalize_answer` and `f1_score`."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex, overload

from flip_reward.core.similarity import TokenF1
from flip_reward.core.tokens import normalize_answer

__all__ = ["F1Score", "f1_score", "normalize_answer"]


class F1Score(NamedTuple):
    """The bag-of-tokens F1 of two texts, with its parts; each is 0 to 1.

    A tuple with named parts. As in the authors' code, brackets take a name as well.

    Attributes:
        f1: The harmonic mean of the other two.
        precision: The share of the prediction's tokens found in the ground truth.
        recall: The share of the ground truth's tokens found in the prediction.
    """

    f1: float
    precision: float
    recall: float

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> float: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[float, ...]: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> float | tuple[float, ...]:
        """Return a part by its name or place."""
        if not isinstance(key, str):
            return tuple(self)[key]
        if key not in self._fields:
            raise KeyError(key)
        return tuple(self)[self._fields.index(key)]


def f1_score(prediction: str, ground_truth: str) -> F1Score:
    """Compute the bag-of-tokens F1 of two texts, as in FLIP (arXiv 2602.13551) and the SQuAD evaluation.

    Both texts are normalised with `normalize_answer`. To compare many predictions with one ground truth, prepare it
    once: `flip_reward.core.similarity.TokenF1().prepare(ground_truth).compare(prediction)`.

    Args:
        prediction: The inferred instruction.
        ground_truth: The original instruction.

    Returns:
        F1, precision and recall. All are 0.0 when no token is shared, also when both texts are empty.

    Example:
        >>> f1_score("The cat sat.", "a cat")
        F1Score(f1=0.6666666666666666, precision=0.5, recall=1.0)
        >>> f1_score("The cat sat.", "a cat")["f1"]
        0.6666666666666666
    """
    match = _TOKEN_F1.prepare(ground_truth).compare(prediction)
    return F1Score(match.value, match.precision or 0.0, match.recall or 0.0)


_TOKEN_F1 = TokenF1()
