"""`HttpEngine`: any server that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from flip_reward.core.chat.marks import KNOWN_MARKS
from flip_reward.engines.base import (
    AnyRequest,
    Classification,
    ClassifyRequest,
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    check_ending,
    disarm_request,
    join_completions,
    split_request,
)
from flip_reward.engines.classifying import ClassifierOptions, TrainedApi
from flip_reward.engines.http.classify_apis import HttpClassify
from flip_reward.engines.http.dialect import REFUSALS, Change, Dialect, Fields
from flip_reward.engines.http.logprob_apis import HttpLogprobs, LogprobsApi
from flip_reward.engines.http.server import HttpServer
from flip_reward.engines.http.wire import (
    HttpResponse,
    decode_completion,
    decode_refused_cut,
    encode_fields,
    make_fields,
    read_error_body,
)
from flip_reward.errors import (
    ContextTooLongError,
    EngineError,
    EngineServerError,
    MalformedCompletionError,
    OptionError,
    RequestRefusedError,
)
from flip_reward.redact import mask_secrets


@dataclass(frozen=True, slots=True)
class Draft:
    """A request in a form in which it can be sent."""

    request: Request
    body: bytes
    fields: Fields
    """Those that the user did not choose."""
    changes: tuple[Change, ...]
    """How they differ from what was asked for."""
    repeats: bool
    """The form makes the answer repeatable."""


class HttpEngine:
    """A model behind an OpenAI-compatible chat server: vLLM, SGLang, llama.cpp, Ollama, a provider.

    Every call sends one request once; retries, limits and caching are engines around this one (`build_stack`). There
    are three exceptions: where the server draws fewer completions than were asked for, each missing one takes a
    request; a request in a form that the model refuses is sent in the one it takes (`dialect`); and log-probabilities
    may take one or two to the server's tokenizer before. What concerns all requests, such as a wrong key, an unknown
    model or a spent quota, raises `EngineUnavailableError`.

    `base_url` includes `/v1`; a user name and password in it are sent and never shown, and neither is `api_key`. A
    query in it, such as Azure's `?api-version=...`, goes with every request. `extra_body` wins over the engine's own
    fields, and a field that is None there is not sent; requests for log-probabilities leave out those in
    `CHAT_FIELDS`.

    The server's tokens are not seen, so marks of known chat templates in the texts are broken up: `<|im_end|>` is
    sent as `< |im_end|>`. `keep_marks` sends them as they are.

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
        keep_marks: bool = False,
        timeout_seconds: float = 600.0,
        logprobs_api: LogprobsApi | str = LogprobsApi.AUTO,
        classifier: ClassifierOptions | None = None,
    ) -> None:
        if not model:
            raise OptionError("the model has no name", hint="name one with --model")
        self.server = HttpServer(base_url, model, api_key=api_key, timeout_seconds=timeout_seconds)
        self._fixed_fields = _join_fixed_fields(extra_body or {}, no_thinking=no_thinking)
        # What the user chose is sent as it is, whatever the model says about it.
        self._chosen = {name: value for name, value in self._fixed_fields.items() if name in (extra_body or {})}
        self._own = {name: value for name, value in self._fixed_fields.items() if name not in self._chosen}
        self._logprobs = HttpLogprobs(self.server, logprobs_api, self._fixed_fields)
        self._classifier = classifier or ClassifierOptions()
        self._classify = HttpClassify(self.server, self._classifier, self._fixed_fields)
        self._keeps_marks = keep_marks
        self._accepts_n = True
        self.dialect = Dialect(model)
        self.base_url = self.server.base_url
        self._completions_url = f"{self.base_url}/chat/completions"
        self.model = model

    def __repr__(self) -> str:
        return f"HttpEngine({self.base_url!r}, {self.model!r})"

    @property
    def identity(self) -> str:
        """The protocol, the model and the fields of every request.

        The same model answers alike at any address; whether it is the same, `lists_model` knows.
        """
        fields = orjson.dumps(mask_secrets(self._fixed_fields), option=orjson.OPT_SORT_KEYS).decode()
        options = self._classifier
        return (
            f"chat-completions {self.model} {fields}"
            + (" keep-marks" if self._keeps_marks else "")
            + (f" label-{options.label}" if options.label is not None else "")
            + (f" {options.trained_api}" if options.trained_api is not TrainedApi.AUTO else "")
            + (f" tokenizer-{options.model_tokenizer}" if options.model_tokenizer is not None else "")
        )

    @property
    def adaptations(self) -> tuple[str, ...]:
        """How requests differ from what was asked for, because the model refused them as they were."""
        found = self._classify.found
        return (*(change.description for change in self.dialect.changes), *([found] if found else []))

    # Not `async`: that would be one more coroutine on the way of every reward.
    def complete(self, request: Request) -> Coroutine[object, object, Completion]:
        """Send the request once, and where the server draws fewer completions than `n`, once for each missing one."""
        request = self.disarm(request)
        return self._complete(request) if request.n == 1 else self._complete_several(request)

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Get how likely a continuation is, by the API that this server has for it."""
        try:
            logprobs = await self._logprobs.call(self.disarm(request))
        except EngineError as failure:
            error = failure
        else:
            self.server.answered = True
            return logprobs
        raise await self.server.explain(error, endpoint="completions")

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Get the number of a trained reward model, by the API that this server has for it."""
        try:
            reward = await self._classify.call(self.disarm(request))
        except EngineError as failure:
            error = failure
        else:
            self.server.answered = True
            return reward
        raise await self.server.explain(error, endpoint="classify")

    async def list_models(self) -> list[str]:
        """Ask the server for the names of its models."""
        return [model.name for model in await self.server.list_models()]

    async def lists_model(self) -> bool:
        """Ask the server whether it has a model of this name; see `ServerEngine`."""
        try:
            return self.model in await self.list_models()
        except EngineError as failure:
            error = failure
        if isinstance(error, MalformedCompletionError) or (
            isinstance(error, RequestRefusedError) and self.server.lacks_endpoint(error)
        ):
            return False
        raise await self.server.explain(error, endpoint="models")

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self.server.aclose()

    def draft(self, request: Request, changes: tuple[Change, ...] | None = None) -> Draft:
        """Write a request as the model takes it, as far as that is known, or with these changes."""
        changes = self.dialect.changes if changes is None else changes
        own = self._make_own_fields(request, changes)
        fields = {**own, **self._chosen} if self._chosen else own
        return Draft(request, encode_fields(fields), own, changes, _repeats(fields))

    def decode(self, response: HttpResponse, draft: Draft) -> Completion | None:
        """Read the answer to a request, and keep what its form tells about the model; None where it is none.

        Raises:
            EngineError: How it ended shows that it is no answer; see `check_ending`.
        """
        completion = _decode(response, draft.request)
        if completion is None:
            return None
        self.server.answered = True
        self.dialect.keep(draft.changes)
        whole = check_ending(completion)
        return whole if draft.repeats else replace(whole, repeatable=False)

    def redraft(self, draft: Draft, response: HttpResponse, error: EngineError) -> Draft | None:
        """Write a request in the form that its refusal asks for; None where another form would not help."""
        said = read_error_body(response.body)
        status = response.status if response.status >= 300 else said.status
        if status not in REFUSALS or isinstance(error, ContextTooLongError):
            return None
        change = self.dialect.find_change(said.text, draft.fields)
        return None if change is None else self.draft(draft.request, (*draft.changes, change))

    async def send(self, draft: Draft) -> HttpResponse:
        """Send a request once, and return the response whatever its status."""
        return await self.server.send("POST", self._completions_url, draft.body)

    def disarm(self, request: AnyRequest) -> AnyRequest:
        """Break up marks of chat templates in a request's texts, unless they are to be kept."""
        return request if self._keeps_marks else disarm_request(request, KNOWN_MARKS)

    async def _complete(self, request: Request) -> Completion:
        draft = self.draft(request)
        while True:  # each turn changes a field that the next one does not have
            again = None
            try:
                response = await self.send(draft)
            except EngineError as failure:
                error = failure
            else:
                completion = self.decode(response, draft)
                if completion is not None:
                    return completion
                error = self.server.read_error(response)
                again = self.redraft(draft, response, error)
            if again is None:
                raise await self.server.explain(error, endpoint="chat completions")
            draft = again

    def _make_own_fields(self, request: Request, changes: Sequence[Change]) -> Fields:
        """Return the fields that the user did not choose, in the form that the model takes."""
        fields = {**make_fields(self.model, request), **self._own}
        for name in self._chosen.keys() & fields.keys():
            del fields[name]
        for change in changes:
            if change.field in fields:
                change.apply(fields)
        return fields

    async def _complete_several(self, request: Request) -> Completion:
        # Completions at temperature 0 are all the same, and vLLM refuses to draw several.
        drawn = await self._complete_together(request) if self._accepts_n and request.sampling.temperature else []
        missing = split_request(request, start=len(drawn))
        # One after the other: the limit of requests in flight counts them as one.
        completions = [*drawn, *[await self._complete(one) for one in missing]]
        if missing and request.sampling.temperature:
            self._accepts_n = False  # some servers ignore `n`, and would each time
        return join_completions(completions)

    async def _complete_together(self, request: Request) -> list[Completion]:
        """Send a request with `n`; return the completions that came, which may be none."""
        try:
            first = await self._complete(request)
        except (RequestRefusedError, EngineServerError) as error:
            if may_refuse_n(error):
                return []
            raise
        return [first, *first.others]


def _decode(response: HttpResponse, request: Request) -> Completion | None:
    if response.status < 300:
        return decode_completion(response.body, n=request.n, top_logprobs=request.top_logprobs)
    return decode_refused_cut(read_error_body(response.body))


def _repeats(fields: Fields) -> bool:
    """Whether the fields that were sent make an answer repeatable, whatever was asked for."""
    return fields.get("temperature") == 0 or fields.get("seed") is not None


def may_refuse_n(error: EngineError) -> bool:
    """Whether a failure may mean that the server draws one completion at a time."""
    # Older llama.cpp servers answer `n` with "Only one completion choice is allowed" and status 500.
    if isinstance(error, RequestRefusedError):
        return error.status in (400, 422)
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
