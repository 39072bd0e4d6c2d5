"""How likely given tokens are, from a llama.cpp server that tells it of the tokens it generates only.

It gets a grammar that leaves it one token at each place, and tells how likely that token was before the grammar had
a say. Tokens that are no whole characters cannot be led so: their places are asked for one by one, with the
probabilities of the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from flip_reward.errors import (
    ContextTooLongError,
    EngineServerError,
    RequestRefusedError,
)

if TYPE_CHECKING:
    from xllamacpp import Server


@dataclass(frozen=True, slots=True)
class LlamaTokens:
    """Tokens of which the last ones are the continuation's.

    Attributes:
        tokens: The whole text.
        whole: For each of the last tokens, which are scored, whether it is of whole characters.
        plain: Any token of whole characters.
        vocabulary: How many tokens the model knows.
    """

    tokens: list[int]
    whole: tuple[bool, ...]
    plain: int
    vocabulary: int

    @property
    def scored(self) -> int:
        """How many of the last tokens hold a character of the continuation."""
        return len(self.whole)


@dataclass(frozen=True, slots=True)
class _Told:
    """What llama.cpp tells of one place: the token there, how likely it was, and how likely others were."""

    token: int
    value: float
    others: dict[int, float]


def score_tokens(server: Server, text: LlamaTokens) -> tuple[float, ...]:
    """Return the natural logarithm of the probability of each scored token.

    Raises:
        ContextTooLongError: The text does not fit the context.
        RequestRefusedError: llama.cpp cannot be led to these tokens.
        EngineServerError: It failed.
    """
    values: list[float] = []
    place = len(text.tokens) - text.scored
    reuse = False  # what an earlier request left must not matter
    for whole, run in groupby(text.whole):
        count = len(list(run))
        if whole:
            values += _lead(server, text.tokens, place, count, reuse=reuse)
        else:
            for one in range(place, place + count):
                values.append(_look_up(server, text, one, reuse=reuse))
                reuse = True
        place, reuse = place + count, True
    return tuple(min(value, 0.0) for value in values)


def _lead(server: Server, tokens: Sequence[int], place: int, count: int, *, reuse: bool) -> Iterator[float]:
    wanted = list(tokens[place : place + count])
    told = _generate(server, tokens[:place], wanted, others=1, reuse=reuse)
    if [one.token for one in told] != wanted:
        raise RequestRefusedError("llama.cpp generated other tokens than those to score", status=400)
    return (one.value for one in told)


def _look_up(server: Server, text: LlamaTokens, place: int, *, reuse: bool) -> float:
    [told] = _generate(server, text.tokens[:place], [text.plain], others=text.vocabulary, reuse=reuse)
    value = told.others.get(text.tokens[place])
    if value is None:
        raise RequestRefusedError("llama.cpp does not tell how likely a token is", status=400)
    return value


def _generate(
    server: Server, prompt: Sequence[int], wanted: Sequence[int], *, others: int, reuse: bool
) -> list[_Told]:
    answer = server.handle_completions(
        {
            "prompt": list(prompt),
            "max_tokens": len(wanted),
            "temperature": 0,
            "logprobs": others,
            "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in wanted),
            "cache_prompt": reuse,
        }
    )
    if "error" in answer:
        message = str(answer["error"].get("message"))
        if answer["error"].get("type") == "exceed_context_size_error":
            raise ContextTooLongError(f"llama.cpp: {message}")
        raise EngineServerError(f"llama.cpp: {message}")
    told = [
        _Told(
            one["id"], float(one["logprob"]), {other["id"]: float(other["logprob"]) for other in one["top_logprobs"]}
        )
        for one in answer["choices"][0]["logprobs"]["content"]
    ]
    if len(told) < len(wanted):
        raise ContextTooLongError(f"{len(prompt) + len(wanted)} tokens do not fit the context")
    return told
