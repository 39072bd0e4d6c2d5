"""How likely a given text is, over HTTP: which servers can say it, and how each is asked."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from flip_reward.core.characters import replace_lone_surrogates
from flip_reward.engines.base import LogprobRequest, TokenLogprobs
from flip_reward.engines.http.echo_form import EchoForm
from flip_reward.engines.http.logprob_apis import PromptLogprobsForm, SglangForm
from flip_reward.engines.http.server import HttpServer, ServedModel
from flip_reward.engines.http.tokenizer_client import TokenizerClient
from flip_reward.errors import NoLogprobsError, OptionError, RequestRefusedError

# fmt: off
CHAT_FIELDS = frozenset(
    {
        "add_generation_prompt", "best_of", "chat_template", "chat_template_kwargs", "continue_final_message",
        "documents", "echo", "enable_thinking", "frequency_penalty", "guided_choice", "guided_grammar",
        "guided_json", "guided_regex", "ignore_eos", "include_reasoning", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "min_p", "min_tokens", "n", "parallel_tool_calls",
        "presence_penalty", "prompt", "prompt_logprobs", "reasoning", "reasoning_effort",
        "repetition_penalty", "response_format", "seed", "separate_reasoning", "stop", "stop_token_ids",
        "structured_outputs", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs",
        "top_p", "truncate_prompt_tokens",
    }
)
# fmt: on
"""Fields of an extra body that shape a chat or a draw. They mean nothing for a text that is given, so requests for
log-probabilities leave them out; all others (who asks, which provider answers, how urgent it is) are sent."""


class LogprobsApi(StrEnum):
    """How a server is asked how likely a text is."""

    AUTO = "auto"
    PROMPT_LOGPROBS = "prompt_logprobs"
    ECHO = "echo"
    SGLANG = "sglang"


class LogprobForm(Protocol):
    """One way to ask."""

    async def ask(self, prefix: str, continuation: str) -> TokenLogprobs:
        """Ask how likely a continuation is.

        Raises:
            EngineError: There is no answer, or one that does not fit the question.
            NoLogprobsError: The server cannot be asked in this way.
        """
        ...


_APIS_OF_SERVERS: Mapping[str | None, LogprobsApi] = MappingProxyType(
    {"vllm": LogprobsApi.PROMPT_LOGPROBS, "sglang": LogprobsApi.SGLANG}
)


class HttpLogprobs:
    """Asks a server for log-probabilities, in the way that it understands.

    "auto" goes by the name that vLLM, SGLang and llama.cpp put into their lists of models. Of any other server the
    `echo` of the older completions protocol is asked, whose answer shows whether the server knows it.

    Args:
        server: The server and the model.
        api: How it is asked.
        fixed_fields: Fields of every request; those in `CHAT_FIELDS` are left out.

    Raises:
        OptionError: There is no such API.
    """

    def __init__(self, server: HttpServer, api: LogprobsApi | str, fixed_fields: Mapping[str, object]) -> None:
        try:
            self._api = LogprobsApi(api)
        except ValueError:
            hint = "it is one of " + ", ".join(LogprobsApi)
            raise OptionError(f"no such way to ask for log-probabilities: {api!r}", hint=hint) from None
        self._server = server
        kept = {name: value for name, value in fixed_fields.items() if name not in CHAT_FIELDS}
        self._fields = {"model": server.model, **kept}
        self._form: LogprobForm | None = None

    async def ask(self, request: LogprobRequest) -> TokenLogprobs:
        """Ask how likely a continuation is.

        Raises:
            EngineError: There is no answer, or one that does not fit the question.
            NoLogprobsError: The server cannot say it of any text, or the prefix is a list of messages.
        """
        if not isinstance(request.prefix, str):
            raise NoLogprobsError(
                f"a server ({self._server.base_url}), which is sent chat messages as they are,",
                hint="take a completion frame, whose prefix is one text, or a model in this process",
            )
        if not request.continuation:
            raise RequestRefusedError("there is no continuation to ask about", status=400)
        # Requests that come while the first one is still finding out find out for themselves: it is one look.
        if self._form is None:
            self._form = await self._choose_form()
        prefix, continuation = replace_lone_surrogates(request.prefix), replace_lone_surrogates(request.continuation)
        return await self._form.ask(prefix, continuation)

    async def _choose_form(self) -> LogprobForm:
        tokenizer = TokenizerClient(self._server, self._fields)
        api = self._api
        if api is LogprobsApi.AUTO:
            api = await self._find_api()
            if api is LogprobsApi.PROMPT_LOGPROBS and not await tokenizer.exists():
                api = LogprobsApi.ECHO
        match api:
            case LogprobsApi.PROMPT_LOGPROBS:
                return PromptLogprobsForm(self._server, self._fields, tokenizer)
            case LogprobsApi.SGLANG:
                return SglangForm(self._server, self._fields, tokenizer)
            case _:
                return EchoForm(self._server, self._fields)

    async def _find_api(self) -> LogprobsApi:
        try:
            models = await self._server.list_models()
        except RequestRefusedError as error:
            if error.status in (401, 403):
                raise
            models = []  # it has no such list
        names = [model for model in models if model.name == self._fields["model"]] or models or [ServedModel("")]
        owner = names[0].owner
        if owner == "llamacpp":
            raise NoLogprobsError(
                f"{self._server.base_url} is llama.cpp's server, which ignores `echo` and",
                hint="serve the model with vLLM or SGLang, or take it in this process with --model transformers:NAME",
            )
        return _APIS_OF_SERVERS.get(owner, LogprobsApi.ECHO)
