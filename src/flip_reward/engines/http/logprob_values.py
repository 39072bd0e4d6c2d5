"""The log-probabilities in an answer: numbers that mean something, or an error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flip_reward.errors import MalformedCompletionError, NoLogprobsError, RequestRefusedError

IMPOSSIBLE = -9999.0
"""What vLLM writes for minus infinity, which JSON cannot hold."""

_ROUNDING = 1e-3


def read_logprobs(values: Sequence[object], address: str) -> tuple[float, ...]:
    """Take what an answer holds for the continuation's tokens as log-probabilities.

    Args:
        values: As the answer's JSON has them.
        address: The server, as errors name it.

    Raises:
        MalformedCompletionError: One is missing or not a number.
        RequestRefusedError: The server says that a token is impossible.
        NoLogprobsError: One is above 0: these are not logarithms of probabilities.

    Example:
        >>> read_logprobs([-0.5, 0], "http://host/v1")
        (-0.5, 0.0)
    """
    return tuple(_read_logprob(value, address) for value in values)


def _read_logprob(value: object, address: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise MalformedCompletionError(f"{address} left out the log-probability of a token (it says {value!r})")
    if value <= IMPOSSIBLE:
        raise RequestRefusedError(
            f"{address} gives a token of the continuation no probability ({value:g} stands for minus infinity)",
            status=400,
        )
    if value > _ROUNDING:
        raise NoLogprobsError(
            f"{address}, which answers with numbers above 0 ({value:g}),",
            hint="start vLLM with --logprobs-mode raw_logprobs, its default",
        )
    return min(float(value), 0.0)
