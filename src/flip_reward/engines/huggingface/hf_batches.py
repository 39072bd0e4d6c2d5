"""Which requests are computed together: those of like length, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile


def choose_batch(lengths: Sequence[int], budget_tokens: int) -> list[int]:
    """Choose what to compute together with the first of what is waiting.

    A batch is as wide as its longest row, so rows whose length is closest to the first one's waste the least.

    Args:
        lengths: The tokens of each waiting row, in the order in which they came; at least one.
        budget_tokens: The most tokens of a batch, padding included. One row alone may have more.

    Returns:
        Positions in `lengths`, longest row first; the first row is always among them.

    Example:
        >>> choose_batch([10, 90, 11, 12], budget_tokens=36)
        [3, 2, 0]
    """
    nearest_first = sorted(range(len(lengths)), key=lambda row: (abs(lengths[row] - lengths[0]), row))
    widest = 0
    chosen: list[int] = []
    for row in nearest_first:
        widest = max(widest, lengths[row])
        if chosen and widest * (len(chosen) + 1) > budget_tokens:
            break
        chosen.append(row)
    return sorted(chosen, key=lambda row: -lengths[row])


def count_shared(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all rows begin with.

    Example:
        >>> count_shared([[1, 2, 3, 4], [1, 2, 5]])
        2
    """
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))
