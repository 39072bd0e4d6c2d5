"""Log-probabilities of tokens that are sent as numbers: vLLM's `prompt_logprobs`, and SGLang's `/generate`."""

from __future__ import annotations

from collections.abc import Mapping

from flip_reward.core.score import Usage
from flip_reward.engines.base import TokenLogprobs
from flip_reward.engines.http.logprob_endpoint import LogprobEndpoint
from flip_reward.engines.http.logprob_values import read_logprobs
from flip_reward.engines.http.server import HttpServer
from flip_reward.engines.http.tokenizer_client import TokenizerClient
from flip_reward.engines.http.wire import read_usage
from flip_reward.errors import MalformedCompletionError, NoLogprobsError


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
