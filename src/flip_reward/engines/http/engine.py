"""`HttpEngine`: any server that speaks the OpenAI chat completions protocol.

How likely a given text is, over HTTP: which servers can say it, and how each is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import orjson

from flip_reward.core.response import replace_lone_surrogates
from flip_reward.engines.base import (
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    join_completions,
    split_request,
)
from flip_reward.engines.http.logprob_apis import EchoForm, PromptLogprobsForm, SglangForm, TokenizerClient
from flip_reward.engines.http.server import HttpServer, ServedModel
from flip_reward.engines.http.wire import decode_completion, encode_request
from flip_reward.errors import EngineError, EngineServerError, NoLogprobsError, OptionError, RequestRefusedError
from flip_reward.redact import mask_secrets

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


_REFUSED_STATUSES = frozenset({400, 422})


class HttpEngine:
    """A model behind an OpenAI-compatible chat server: vLLM, SGLang, llama.cpp, Ollama, a provider.

    Every call sends one request once; retries, limits and caching are engines around this one (`build_stack`). There
    are two exceptions: where the server draws fewer samples than were asked for, the missing ones are asked for one
    by one, and log-probabilities may take a request to the server's tokenizer or two before. As long as nothing has
    ever been answered, a wrong address, key or model name raises `EngineUnavailableError`; afterwards the same
    failures concern one request.

    Args:
        base_url: The server's address up to and including `/v1`, such as "http://localhost:8000/v1". A user name and
            password in it are sent, and never shown.
        model: The model's name at the server.
        api_key: Sent as a bearer token. It appears in no error, record or `repr`.
        extra_body: Further fields of every request body; they win over the engine's own. Requests for
            log-probabilities leave out those that shape a chat or a draw (`http_logprobs.CHAT_FIELDS`).
        no_thinking: Ask the chat template to skip the thinking section (`chat_template_kwargs.enable_thinking`).
        timeout_seconds: The longest one request may take, above 0.
        logprobs_api: How the server is asked for log-probabilities; "auto" goes by what it says of itself.

    Raises:
        OptionError: The address, the model, the key, the timeout, the extra body or the API makes no sense.

    Example:
        >>> engine = HttpEngine("http://localhost:8000/v1", "Qwen/Qwen3-8B", no_thinking=True)
        >>> engine.identity
        'chat-completions Qwen/Qwen3-8B {"chat_template_kwargs":{"enable_thinking":false}}'
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        extra_body: Mapping[str, object] | None = None,
        no_thinking: bool = False,
        timeout_seconds: float = 600.0,
        logprobs_api: LogprobsApi | str = LogprobsApi.AUTO,
    ) -> None:
        if not model:
            raise OptionError("the model has no name", hint="name one with --model")
        self._server = HttpServer(base_url, model, api_key=api_key, timeout_seconds=timeout_seconds)
        self._fixed_fields = _join_fixed_fields(extra_body or {}, no_thinking=no_thinking)
        self._logprobs = HttpLogprobs(self._server, logprobs_api, self._fixed_fields)
        self._draws_several = True
        self.base_url = self._server.base_url
        self.model = model

    def __repr__(self) -> str:
        return f"HttpEngine({self.base_url!r}, {self.model!r})"

    @property
    def identity(self) -> str:
        """The protocol, the model and the fields of every request; the same model answers alike at any address."""
        fields = orjson.dumps(mask_secrets(self._fixed_fields), option=orjson.OPT_SORT_KEYS).decode()
        return f"chat-completions {self.model} {fields}"

    async def complete(self, request: Request) -> Completion:
        """Send the request once; for several samples, send those one by one that the server leaves out.

        Raises:
            EngineError: It was not answered; the error tree in `flip_reward.errors` lists the kinds.
            EngineUnavailableError: Nothing has been answered yet, and the address, the key or the model is wrong.
        """
        asking = self._ask(request) if request.n == 1 else self._ask_several(request)
        return await self._server.diagnose(asking, endpoint="chat completions")

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Ask how likely a continuation is, in the way this server has for it.

        Raises:
            EngineError: It was not answered, or the answer does not fit the question.
            NoLogprobsError: This server cannot say it of any text, or the prefix is a list of messages, which only
                the server's chat template could turn into a text.
            EngineUnavailableError: Nothing has been answered yet, and the address, the key or the model is wrong.
        """
        return await self._server.diagnose(self._logprobs.ask(request), endpoint="completions")

    async def list_models(self) -> list[str]:
        """Ask the server for the names of its models.

        Raises:
            EngineError: It does not say.
        """
        return [model.name for model in await self._server.list_models()]

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._server.aclose()

    async def _ask(self, request: Request) -> Completion:
        body = encode_request(self.model, request, self._fixed_fields)
        answer = await self._server.send("POST", f"{self.base_url}/chat/completions", body)
        completion = decode_completion(answer.body, n=request.n) if answer.status < 300 else None
        if completion is None:
            raise self._server.read_error(answer)
        return completion

    async def _ask_several(self, request: Request) -> Completion:
        # Samples of the likeliest reply are all the same, and vLLM refuses to draw several.
        together = await self._ask_together(request) if self._draws_several and request.sampling.temperature else []
        missing = split_request(request, start=len(together))
        # One after the other: the limit of requests in flight counts them as one.
        replies = [*together, *[await self._ask(one) for one in missing]]
        if missing and request.sampling.temperature:
            self._draws_several = False  # some servers ignore `n`, and asking them would be in vain each time
        return join_completions(replies)

    async def _ask_together(self, request: Request) -> list[Completion]:
        """Ask for all samples at once; return those that came, which may be none."""
        try:
            first = await self._ask(request)
        except (RequestRefusedError, EngineServerError) as error:
            if _may_refuse_several(error):
                return []
            raise
        return [first, *first.others]


def _may_refuse_several(error: EngineError) -> bool:
    # Older llama.cpp servers answer `n` with "Only one completion choice is allowed" and status 500.
    if isinstance(error, RequestRefusedError):
        return error.status in _REFUSED_STATUSES
    return "completion choice" in str(error)


def _join_fixed_fields(extra_body: Mapping[str, object], *, no_thinking: bool) -> dict[str, object]:
    fields = dict(extra_body)
    reserved = {"messages", "stream"} & fields.keys()
    if reserved:
        raise OptionError(f"the extra body must not set {' or '.join(sorted(reserved))}")
    if no_thinking:
        template_fields = fields.get("chat_template_kwargs")
        further = template_fields if isinstance(template_fields, Mapping) else {}
        fields["chat_template_kwargs"] = {"enable_thinking": False, **further}
    try:
        orjson.dumps(fields)
    except TypeError as error:
        raise OptionError(f"the extra body is not JSON: {error}") from error
    return fields
