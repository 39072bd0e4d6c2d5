"""`EchoForm`: log-probabilities by the `echo` of the older OpenAI completions protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flip_reward.core.score import Usage
from flip_reward.engines.base import TokenLogprobs
from flip_reward.engines.http.logprob_endpoint import LogprobEndpoint
from flip_reward.engines.http.logprob_values import read_logprobs
from flip_reward.engines.http.server import HttpServer
from flip_reward.engines.http.token_alignment import find_first_token, find_first_token_forwards
from flip_reward.engines.http.wire import read_usage
from flip_reward.errors import MalformedCompletionError, NoLogprobsError, RequestRefusedError

GENERATED_TOKENS = 1
"""Some servers do not answer when nothing is to be generated."""


@dataclass(frozen=True, slots=True)
class Echo:
    """An answer that repeats the prompt before what was generated.

    Attributes:
        text: Prompt and reply.
        tokens: The text of each token.
        values: The log-probability of each token, as the JSON has it; null for the first one.
        offsets: Where each token begins, as the server counts; empty where it does not say.
        usage: Tokens spent.
    """

    text: str
    tokens: list[str]
    values: list[object]
    offsets: list[int]
    usage: Usage


class EchoForm:
    """`echo` and `logprobs` of the completions protocol, where the answer repeats the prompt token by token.

    Many servers ignore `echo` and answer about what they generate alone. So an answer counts only if it repeats the
    prompt, has as many tokens as the server counts, and the texts of its tokens spell the prompt up to where the
    continuation begins, or from there on. (The offsets cannot tell it: vLLM counts the characters of a `<s>` that the
    text does not hold.)

    Args:
        server: The server and the model.
        fields: Fields of every request.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object]) -> None:
        self._address = server.base_url
        self._completions = LogprobEndpoint(server, f"{server.base_url}/completions", fields)

    async def ask(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Ask how likely a continuation is; see `LogprobForm.ask`."""
        address, prompt = self._address, prefix + continuation
        answer = await self._completions.ask(
            prompt=prompt, max_tokens=GENERATED_TOKENS, temperature=0, logprobs=1, echo=True
        )
        echo = _read_echo(answer, address)
        count = _count_prompt_tokens(echo, prompt, address)
        tokens = echo.tokens[:count]
        start = find_first_token(tokens, prompt, len(prefix))
        if start is None:
            start = find_first_token_forwards(tokens, prompt, len(prefix))
        if start is None:
            raise RequestRefusedError(
                f"the tokens that {address} shows do not say where the continuation begins",
                status=400,
                hint="end the prefix with a line break, or ask a server with /tokenize (vLLM, SGLang)",
            )
        if start == 0:
            raise RequestRefusedError(
                "no token comes before the continuation, so nothing says how likely it is",
                status=400,
                hint="begin with a prefix",
            )
        return TokenLogprobs(read_logprobs(echo.values[start:count], address), echo.usage)


def _read_echo(answer: object, address: str) -> Echo:
    choice, usage = _read_choice(answer, address)
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("tokens") if isinstance(logprobs, dict) else None
    if not isinstance(logprobs, dict) or not isinstance(tokens, list) or len(tokens) <= GENERATED_TOKENS:
        raise NoLogprobsError(f"{address}, which ignores `echo` or `logprobs`,")
    text, values, offsets = choice.get("text"), logprobs.get("token_logprobs"), logprobs.get("text_offset") or []
    if not (
        isinstance(text, str)
        and isinstance(values, list)
        and isinstance(offsets, list)
        and all(isinstance(token, str) for token in tokens)
        and all(isinstance(offset, int) for offset in offsets)
    ):
        raise MalformedCompletionError(f"{address} answered without log-probabilities")
    return Echo(text, tokens, values, offsets, usage)


def _read_choice(answer: object, address: str) -> tuple[dict[str, object], Usage]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, Sequence) and choices else None
    if not isinstance(answer, dict) or not isinstance(choice, dict):
        raise MalformedCompletionError(f"{address} answered without a completion")
    return choice, read_usage(answer.get("usage"))


def _count_prompt_tokens(echo: Echo, prompt: str, address: str) -> int:
    """Count the tokens of the prompt in an answer, once it is sure that they are in it."""
    listed, counted = len(echo.tokens), echo.usage.prompt_tokens
    if not echo.text.startswith(prompt):
        raise RequestRefusedError(f"{address} repeats another text than it was asked about", status=400)
    if len(echo.values) != listed or (echo.offsets and len(echo.offsets) != listed):
        raise MalformedCompletionError(
            f"{address} answered with {len(echo.values)} log-probabilities and {len(echo.offsets)} offsets for "
            f"{listed} tokens"
        )
    if any(later < earlier for earlier, later in pairwise(echo.offsets)):
        raise MalformedCompletionError(f"{address} answered with offsets that do not fit its tokens")
    if not 0 <= listed - counted <= GENERATED_TOKENS:
        raise MalformedCompletionError(f"{address} counts {counted} tokens in the prompt, and answered with {listed}")
    return counted
