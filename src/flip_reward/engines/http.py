"""`HttpEngine`: any server that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import orjson

from flip_reward.engines.base import Completion, LogprobRequest, Request, TokenLogprobs, ask_one_by_one
from flip_reward.engines.chat_format import decode_completion, encode_request
from flip_reward.engines.http_errors import read_error
from flip_reward.errors import (
    CannotConnectError,
    ContextTooLongError,
    EngineError,
    EngineUnavailableError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)

if TYPE_CHECKING:
    from flip_reward.engines.http_session import Answer, HttpSession

MODELS_IN_HINT = 5
_SECRET_FIELD = re.compile(r"key|token$|secret|password|authorization|credential", re.IGNORECASE)


class HttpEngine:
    """A model behind an OpenAI-compatible chat server: vLLM, SGLang, llama.cpp, Ollama, a provider.

    Every call sends one request once; retries, limits and caching are engines around this one (`build_stack`). As
    long as nothing has ever been answered, a wrong address, key or model name raises `EngineUnavailableError`;
    afterwards the same failures concern one request.

    Args:
        base_url: The server's address up to and including `/v1`, such as "http://localhost:8000/v1". A user name and
            password in it are sent, and never shown.
        model: The model's name at the server.
        api_key: Sent as a bearer token. It appears in no error, record or `repr`.
        extra_body: Further fields of every request body; they win over the engine's own.
        no_thinking: Ask the chat template to skip the thinking section (`chat_template_kwargs.enable_thinking`).
        timeout_seconds: The longest one request may take, above 0.

    Raises:
        OptionError: The address, the model, the key, the timeout or the extra body makes no sense.

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
    ) -> None:
        if not model:
            raise OptionError("the model has no name", hint="name one with --model")
        if timeout_seconds <= 0:
            raise OptionError(f"the timeout must be above 0 s, not {timeout_seconds:g}")
        address = _split_address(base_url)
        self.base_url = urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))
        self.model = model
        self._fixed_fields = _join_fixed_fields(extra_body or {}, no_thinking=no_thinking)
        self._api_key = api_key.strip() if api_key else None
        self._authorization = _authorize(address, self._api_key)
        password = unquote(address.password) if address.password else None
        credentials = self._authorization and self._authorization.partition(" ")[2]
        self._secrets = [secret for secret in (self._api_key, password, credentials) if secret]
        self._timeout_seconds = timeout_seconds
        self._session: HttpSession | None = None
        self._answered = False

    def __repr__(self) -> str:
        return f"HttpEngine({self.base_url!r}, {self.model!r})"

    @property
    def identity(self) -> str:
        """The protocol, the model and the fields of every request; the same model answers alike at any address."""
        shown = {name: "***" if _SECRET_FIELD.search(name) else value for name, value in self._fixed_fields.items()}
        fields = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS).decode()
        return f"chat-completions {self.model} {fields}"

    async def complete(self, request: Request) -> Completion:
        """Send the request once.

        Raises:
            EngineError: It was not answered; the error tree in `flip_reward.errors` lists the kinds.
            EngineUnavailableError: Nothing has been answered yet, and the address, the key or the model is wrong.
        """
        return await ask_one_by_one(request, self._complete)

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:  # noqa: ARG002 - any request is too much
        """Never: the chat completions protocol has no way to ask.

        Raises:
            NoLogprobsError: Always.
        """
        raise NoLogprobsError(f"a chat completions server ({self.model})")

    async def _complete(self, request: Request) -> Completion:
        try:
            completion = await self._ask(request)
        except ContextTooLongError:
            self._answered = True  # this prompt is the problem: address, key and model are right
            raise
        except EngineError as error:
            unavailable = None if self._answered else await self._find_cause(error)
            if unavailable is None:
                raise
            raise unavailable from error
        self._answered = True
        return completion

    async def list_models(self) -> list[str]:
        """Ask the server for the names of its models.

        Raises:
            EngineError: It does not say.
        """
        answer = await self._send("GET", "/models")
        try:
            return [model["id"] for model in orjson.loads(answer.body)["data"]]
        except (ValueError, TypeError, LookupError):
            raise self._read_error(answer) from None

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._session is not None:
            await self._session.aclose()

    async def _ask(self, request: Request) -> Completion:
        answer = await self._send(
            "POST", "/chat/completions", encode_request(self.model, request, self._fixed_fields)
        )
        completion = decode_completion(answer.body) if answer.status < 300 else None
        if completion is None:
            raise self._read_error(answer)
        return completion

    async def _send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        if self._session is None:
            # Imported at the first request: `import flip_reward` is to stay fast, and aiohttp is not.
            from flip_reward.engines.http_session import HttpSession

            headers = {"Content-Type": "application/json", "User-Agent": "flip-reward"}
            if self._authorization is not None:
                headers["Authorization"] = self._authorization
            self._session = HttpSession(self.base_url, headers, self._timeout_seconds)
        return await self._session.send(method, self.base_url + path, body)

    def _read_error(self, answer: Answer) -> EngineError:
        return read_error(answer.status, answer.headers, answer.body, address=self.base_url, secrets=self._secrets)

    async def _find_cause(self, error: EngineError) -> EngineUnavailableError | None:
        """Say what is wrong with the engine itself, if that is what the failure means."""
        if isinstance(error, CannotConnectError):
            return EngineUnavailableError(str(error), hint="is the server running? Give its address with --base-url")
        if not isinstance(error, RequestRefusedError):
            return None
        answered = str(error).removeprefix(f"{self.base_url} ")
        if error.status in (401, 403):
            verdict = "wants an API key" if self._authorization is None else "does not accept the API key"
            hint = "put the key into OPENAI_API_KEY, or name another variable with --api-key-env"
        elif error.status == 404 and "model" in answered.lower():
            verdict = f"knows no model {self.model!r}"
            hint = await self._suggest_model()
        elif error.status in (404, 405) or error.status < 400:
            verdict = "has no chat completions endpoint"
            hint = error.hint or self._suggest_address()
        else:
            return None
        return EngineUnavailableError(f"{self.base_url} {verdict} ({answered})", hint=hint)

    async def _suggest_model(self) -> str:
        try:
            names = await self.list_models()
        except EngineError:
            names = []
        near = get_close_matches(self.model, names, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        if names:
            more = ", ..." if len(names) > MODELS_IN_HINT else ""
            return "it offers " + ", ".join(map(repr, names[:MODELS_IN_HINT])) + more
        return "name one that the server offers with --model"

    def _suggest_address(self) -> str:
        if self.base_url.endswith("/v1"):
            return "give the address of an OpenAI-compatible server with --base-url"
        return f"most servers want /v1 at the end: {self.base_url}/v1"


def _split_address(base_url: str) -> SplitResult:
    """Split an address into its parts, without the slash or the endpoint at its end."""
    try:
        address = urlsplit(base_url.strip())
        valid = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise OptionError("the base URL is no http:// or https:// address", hint="try http://localhost:8000/v1")
    if address.query or address.fragment:
        raise OptionError("the base URL must end with its path, without ? or #")
    path = address.path.rstrip("/").removesuffix("/chat/completions")
    return address._replace(path=path)


def _authorize(address: SplitResult, api_key: str | None) -> str | None:
    if address.username is not None:
        credentials = f"{unquote(address.username)}:{unquote(address.password or '')}"
        return "Basic " + base64.b64encode(credentials.encode()).decode()
    if not api_key:
        return None
    if not api_key.isprintable():
        raise OptionError("the API key holds a character that no key has, such as a line break")
    return f"Bearer {api_key}"


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
