"""Log-probabilities of tokens that are sent as numbers: vLLM's `prompt_logprobs`, and SGLang's `/generate`.

`EchoForm`: log-probabilities by the `echo` of the older OpenAI completions protocol.

Which tokens of a text belong to its continuation, from their numbers or from their texts.

`TokenizerClient`: the tokenizer of a vLLM or SGLang server.

The log-probabilities in an answer: numbers that mean something, or an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flip_reward.core.score import Usage
from flip_reward.engines.base import TokenLogprobs
from flip_reward.engines.http.server import HttpServer, LogprobEndpoint
from flip_reward.engines.http.wire import read_usage
from flip_reward.errors import MalformedCompletionError, NoLogprobsError, RequestRefusedError

_PART = "\N{REPLACEMENT CHARACTER}"
"""What servers show for a token that is a part of a character."""


def count_shared_tokens(prefix_ids: Sequence[int], whole_ids: Sequence[int]) -> int:
    """Count the tokens that a prefix and the whole text begin with alike.

    If that is all tokens of the prefix, the continuation's tokens are the rest. If not, the tokenizer has joined the
    end of the prefix and the beginning of the continuation, and the texts of the tokens have to tell where it begins.

    Example:
        >>> count_shared_tokens([1, 5, 7], [1, 5, 7, 8]), count_shared_tokens([1, 5, 7], [1, 5, 9])
        (3, 2)
    """
    pairs = zip(prefix_ids, whole_ids, strict=False)
    return next(
        (index for index, (one, other) in enumerate(pairs) if one != other), min(len(prefix_ids), len(whole_ids))
    )


def find_first_token(texts: Sequence[str | None], text: str, boundary: int) -> int | None:
    """Find the first token that holds a character at or after a boundary, going back from the end.

    Args:
        texts: The text of each token. The last one ends where `text` ends.
        text: What the tokens spell.
        boundary: Where the continuation begins in it, below its length.

    Returns:
        The token's index; None where the texts of the tokens do not tell. Either those of the continuation do not
        spell it (a character of several tokens, white space that decoding leaves out), or a token stands before it
        that may be a part of its first character.

    Example:
        >>> [find_first_token(["<s>", "the", " ca", "ts"], "the cats", boundary) for boundary in (3, 5, 6)]
        [2, 2, 3]
        >>> find_first_token(["the", "�", "�"], "the🍎", 3) is None
        True
    """
    position = len(text)
    for index in range(len(texts) - 1, -1, -1):
        token = texts[index]
        if token is None or _PART in token or not text.endswith(token, 0, position):
            return None
        position -= len(token)
        if position < boundary:
            return index
        if position == boundary:
            return index if index == 0 or _is_whole(texts[index - 1], token) else None
    return None


def find_first_token_forwards(texts: Sequence[str | None], text: str, boundary: int) -> int | None:
    """Find the same going forward from the beginning, for a continuation whose tokens do not spell it.

    The first token may be one that the tokenizer puts before every text, and that the text does not hold.

    Example:
        >>> find_first_token_forwards(["<s>", "the", "�", "�"], "the🍎", 3)
        2
    """
    position = 0
    for index, token in enumerate(texts):
        if position == boundary and index > 0:
            return index if texts[index - 1] else None
        if token is None or _PART in token or (index > 0 and not text.startswith(token, position)):
            return None
        if text.startswith(token, position):
            position += len(token)
        if position > boundary:
            return index
    return None


def _is_whole(before: str | None, token: str) -> bool:
    """Whether the token before another one ends with a whole character, which the other does not complete."""
    return before is not None and before != "" and (token.isascii() or not before.endswith(_PART))


@dataclass(frozen=True, slots=True)
class SplitText:
    """The tokens of a prefix and its continuation as one text.

    Attributes:
        text: Both as one text.
        boundary: Where the continuation begins in it.
        ids: The tokens.
        shared: How many of them are those of the prefix alone.
        rejoined: The prefix alone has more tokens: its end and the continuation are joined into others.
    """

    text: str
    boundary: int
    ids: list[int]
    shared: int
    rejoined: bool

    def find_start(self, texts: Sequence[str | None]) -> int:
        """Find the first token that holds a character of the continuation.

        Args:
            texts: The text of each token, as far as the server says it. Only read where tokens were joined.

        Raises:
            RequestRefusedError: The texts do not tell.
        """
        if not self.rejoined:
            return self.shared
        start = find_first_token(texts, self.text, self.boundary)
        if start is None or start < self.shared:
            raise RequestRefusedError(
                "the model's tokenizer joins the end of the prefix with the continuation, and the server does not "
                "say where the continuation begins",
                status=400,
                hint="end the prefix with a line break",
            )
        return start


class TokenizerClient:
    """Asks a server how its model splits texts into tokens (`/tokenize`, beside `/v1`).

    Args:
        server: The server and the model.
        fields: Fields of every request.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object]) -> None:
        self._url = f"{server.root_url}/tokenize"
        self._endpoint = LogprobEndpoint(server, self._url, fields)

    async def exists(self) -> bool:
        """Whether the server has this endpoint.

        Raises:
            EngineError: It fails for another reason.
        """
        try:
            await self.tokenize("a")
        except NoLogprobsError:
            return False
        return True

    async def tokenize(self, text: str) -> list[int]:
        """Split a text into tokens, with those that the model puts before every text.

        Raises:
            EngineError: There is no answer.
            NoLogprobsError: The server has no such endpoint.
        """
        answer = await self._endpoint.ask(prompt=text, add_special_tokens=True)
        ids = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            raise MalformedCompletionError(f"{self._url} answered without tokens")
        return ids

    async def split(self, prefix: str, continuation: str) -> SplitText:
        """Split a prefix and its continuation, as one text, into tokens.

        Raises:
            EngineError: There is no answer.
            NoLogprobsError: The server has no such endpoint.
            RequestRefusedError: No token is the continuation's, or none comes before it.
        """
        text = prefix + continuation
        ids = await self.tokenize(text)
        # One after the other: the limit of requests in flight counts both as one.
        prefix_ids = await self.tokenize(prefix)
        shared = count_shared_tokens(prefix_ids, ids)
        if shared == len(ids):
            raise RequestRefusedError("the continuation has no token of its own", status=400)
        if shared == 0:
            raise RequestRefusedError(
                "no token comes before the continuation, so nothing says how likely it is",
                status=400,
                hint="begin with a prefix",
            )
        return SplitText(text, len(prefix), ids, shared, shared < len(prefix_ids))


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


class PromptLogprobsForm:
    """`prompt_logprobs` of vLLM's completions.

    The answer's choice holds `prompt_logprobs`: null for the first token, and for each further one an object from the
    token's number to `{"logprob": ..., "rank": ..., "decoded_token": ...}`, in which `prompt_logprobs: 0` leaves the
    prompt's own token alone.

    Args:
        server: The server and the model.
        fields: Fields of every request.
        tokenizer: The server's tokenizer.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object], tokenizer: TokenizerClient) -> None:
        self._address = server.base_url
        self._completions = LogprobEndpoint(server, f"{server.base_url}/completions", fields)
        self._tokenizer = tokenizer

    async def ask(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Ask how likely a continuation is; see `LogprobForm.ask`."""
        address = self._address
        split = await self._tokenizer.split(prefix, continuation)
        answer = await self._completions.ask(prompt=split.ids, max_tokens=1, temperature=0, prompt_logprobs=0)
        try:
            entries = answer["choices"][0].get("prompt_logprobs")
            if entries is None:
                raise NoLogprobsError(f"{address}, which ignores `prompt_logprobs`,")
            if len(entries) != len(split.ids):
                raise MalformedCompletionError(
                    f"{address} answered with {len(entries)} log-probabilities for {len(split.ids)} tokens"
                )
            own = [entry and entry[str(one)] for one, entry in zip(split.ids, entries, strict=True)]
            start = split.find_start([entry and entry.get("decoded_token") for entry in own])
            values = [entry and entry["logprob"] for entry in own[start:]]
        except (TypeError, LookupError, AttributeError):
            raise MalformedCompletionError(f"{address} answered about other tokens than were sent") from None
        return TokenLogprobs(read_logprobs(values, address), read_usage(answer.get("usage")))


class SglangForm:
    """SGLang's own `/generate`, beside `/v1`.

    The answer's `meta_info` holds `input_token_logprobs`: from `logprob_start_len` on one `[logprob, number, text]`
    for each token. The first of them comes without a value, whatever stands before it, so the question starts one
    token early.

    Args:
        server: The server and the model.
        fields: Fields of every request.
        tokenizer: The server's tokenizer.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object], tokenizer: TokenizerClient) -> None:
        self._address = server.base_url
        self._generate = LogprobEndpoint(server, f"{server.root_url}/generate", fields)
        self._tokenizer = tokenizer

    async def ask(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Ask how likely a continuation is; see `LogprobForm.ask`."""
        address = self._address
        split = await self._tokenizer.split(prefix, continuation)
        early = split.shared - 1
        answer = await self._generate.ask(
            input_ids=split.ids,
            sampling_params={"max_new_tokens": 0, "temperature": 0},
            return_logprob=True,
            logprob_start_len=early,
            return_text_in_logprobs=split.rejoined,
        )
        try:
            entries = answer["meta_info"].get("input_token_logprobs")
            if entries is None:
                raise NoLogprobsError(f"{address}, which ignores `return_logprob`,")
            if [number for _, number, _ in entries] != split.ids[early:]:
                raise MalformedCompletionError(f"{address} answered about other tokens than were sent")
            texts = [None] * early + [text for _, _, text in entries]
            values = [value for value, _, _ in entries[split.find_start(texts) - early :]]
        except (TypeError, ValueError, LookupError, AttributeError):
            raise MalformedCompletionError(f"{address} answered without log-probabilities") from None
        return TokenLogprobs(read_logprobs(values, address), _read_meta_info(answer["meta_info"]))


def _read_meta_info(meta_info: dict[str, object]) -> Usage:
    details = {"cached_tokens": meta_info.get("cached_tokens")}
    return read_usage({**meta_info, "prompt_tokens_details": details})


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
