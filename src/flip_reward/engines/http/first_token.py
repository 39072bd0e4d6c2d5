"""The likeliest first tokens of a reply, as servers say them beside it: `read_first_token`.

Chats have `logprobs.content[0].top_logprobs` (OpenAI, vLLM, SGLang, llama.cpp, Ollama, TGI); some servers answer them
in the form of the older completions, `logprobs.top_logprobs[0]` (llama-cpp-python, Together). Whatever is no
distribution before sampling is an error, so that no wrong number becomes a reward.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from flip_reward.errors import MalformedCompletionError, NoLogprobsError, RequestRefusedError

_MINUS_INFINITY = -9999.0
"""What OpenAI and vLLM write for minus infinity, which JSON cannot hold."""

_ROUNDING = 1e-3
_WHAT = "of the tokens that a reply may begin with"
_RAW = "start vLLM with --logprobs-mode raw_logprobs, its default"


def read_first_token(
    choice: Mapping[str, Any], count: int, *, has_text: bool = True
) -> tuple[tuple[str, float], ...]:
    """Read up to `count` of the likeliest first tokens of a reply; none where the reply has no token.

    Raises:
        NoLogprobsError: The server ignores the question, or answers with something else than log-probabilities.
        RequestRefusedError: It knows no other token than the one that was drawn.
        MalformedCompletionError: A value is missing.

    Example:
        >>> read_first_token(
        ...     {
        ...         "logprobs": {
        ...             "content": [
        ...                 {"top_logprobs": [{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -2.4}]}
        ...             ]
        ...         }
        ...     },
        ...     20,
        ... )
        (('A', -0.1), ('B', -2.4))
    """
    entries = list(_find_entries(choice.get("logprobs")))
    if not entries:
        if has_text:
            raise NoLogprobsError("a server that ignores `top_logprobs`", what=_WHAT, hint=_OTHER_SERVERS)
        return ()
    checked = [(text, _check(value)) for text, value in entries]
    top = [(text, value) for text, value in checked if value > _MINUS_INFINITY]
    if sum(math.exp(value) for _, value in top) > 1 + _ROUNDING:
        raise NoLogprobsError("a server whose probabilities sum up to more than 1", what=_WHAT, hint=_RAW)
    if len(top) < min(count, 2):
        raise RequestRefusedError(
            "the server holds every token but one for impossible, as after sampling", status=400, hint=_RAW
        )
    return tuple(sorted(((text, min(value, 0.0)) for text, value in top), key=lambda pair: -pair[1])[:count])


_OTHER_SERVERS = "use a server that gives them (vLLM, SGLang, llama.cpp, OpenAI), or a model in this process"


def _find_entries(logprobs: Any) -> Iterable[tuple[str, object]]:  # noqa: ANN401 - JSON
    if not isinstance(logprobs, dict):
        return []
    if isinstance(logprobs.get("content"), list):
        first: Mapping[str, Any] = next(iter(logprobs["content"]), {})
        return [(_spell(one), one["logprob"]) for one in first.get("top_logprobs") or ()]
    positions = logprobs.get("top_logprobs") or [None]
    return list((positions[0] or {}).items())


def _spell(token: Mapping[str, Any]) -> str:
    """The text of a token. Its bytes say it best: a part of a character has no text."""
    spelled = token.get("bytes")
    if isinstance(spelled, list) and spelled:
        return bytes(spelled).decode(errors="replace")
    return str(token["token"])


def _check(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value or value == math.inf:
        raise MalformedCompletionError(f"the server left out the log-probability of a token (it says {value!r})")
    if value > _ROUNDING:
        raise NoLogprobsError("a server that answers with numbers above 0", what=_WHAT, hint=_RAW)
    return float(max(value, _MINUS_INFINITY))  # of any size: JSON has whole numbers that no float holds
