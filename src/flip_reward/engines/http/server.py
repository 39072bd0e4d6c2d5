"""`HttpServer`: one model behind one server: its address, its key, and what its failures mean.

`LogprobEndpoint`: an address of a server that is asked for tokens or log-probabilities.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import orjson

from flip_reward.engines.http.wire import read_error
from flip_reward.errors import (
    CannotConnectError,
    ContextTooLongError,
    EngineError,
    EngineUnavailableError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)
from flip_reward.redact import strip_user_info

if TYPE_CHECKING:
    from flip_reward.engines.http.transport import Answer, HttpSession


T = TypeVar("T")
MODELS_IN_HINT = 5


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as a server lists it.

    Attributes:
        name: What requests call it.
        owner: Who has it: vLLM, SGLang and llama.cpp put their own names here.
    """

    name: str
    owner: str | None = None


class HttpServer:
    """Sends requests to a server, each once, and names what goes wrong.

    Args:
        base_url: The server's address up to and including `/v1`. A user name and password in it are sent, and never
            shown.
        model: The model's name at the server.
        api_key: Sent as a bearer token. It appears in no error.
        timeout_seconds: The longest one request may take, above 0.

    Attributes:
        base_url: The address, without credentials and without a slash at its end.
        root_url: Where the server's own endpoints are, beside `/v1`.
        model: The model's name.

    Raises:
        OptionError: The address, the key or the timeout makes no sense.

    Example:
        >>> HttpServer("http://localhost:8000/v1/", "Qwen/Qwen3-8B").root_url
        'http://localhost:8000'
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str | None = None, timeout_seconds: float = 600.0
    ) -> None:
        if timeout_seconds <= 0:
            raise OptionError(f"the timeout must be above 0 s, not {timeout_seconds:g}")
        address = _split_address(base_url)
        self.base_url = strip_user_info(address.geturl())
        self.root_url = self.base_url.removesuffix("/v1")
        self.model = model
        key = api_key.strip() if api_key else None
        self._authorization = _authorize(address, key)
        password = unquote(address.password) if address.password else None
        credentials = self._authorization and self._authorization.partition(" ")[2]
        self._secrets = [secret for secret in (key, password, credentials) if secret]
        self._timeout_seconds = timeout_seconds
        self._session: HttpSession | None = None
        self._answered = False

    async def send(self, method: str, url: str, body: bytes | None = None) -> Answer:
        """Send one request once, and return the answer whatever its status."""
        if self._session is None:
            # Imported at the first request: `import flip_reward` is to stay fast, and aiohttp is not.
            from flip_reward.engines.http.transport import HttpSession

            headers = {"Content-Type": "application/json", "User-Agent": "flip-reward"}
            if self._authorization is not None:
                headers["Authorization"] = self._authorization
            self._session = HttpSession(self.base_url, headers, self._timeout_seconds)
        return await self._session.send(method, url, body)

    def read_error(self, answer: Answer) -> EngineError:
        """Name the error that an answer without what was asked for stands for."""
        return read_error(answer.status, answer.headers, answer.body, address=self.base_url, secrets=self._secrets)

    async def list_models(self) -> list[ServedModel]:
        """Ask the server for its models.

        Raises:
            EngineError: It does not say.
        """
        answer = await self.send("GET", f"{self.base_url}/models")
        try:
            return [ServedModel(model["id"], model.get("owned_by")) for model in orjson.loads(answer.body)["data"]]
        except (ValueError, TypeError, LookupError, AttributeError):
            raise self.read_error(answer) from None

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._session is not None:
            await self._session.aclose()

    async def diagnose(self, asking: Awaitable[T], *, endpoint: str) -> T:
        """Wait for an answer; as long as there has never been one, say of a failure what is wrong with the server.

        Args:
            asking: What is asked.
            endpoint: What the server needs for it, as the message names it.

        Raises:
            EngineUnavailableError: Nothing has been answered yet, and the address, the key or the model is wrong.
            EngineError: Any other failure, as it is.
        """
        try:
            answer = await asking
        except ContextTooLongError:
            self._answered = True  # this prompt is the problem: address, key and model are right
            raise
        except EngineError as error:
            unavailable = None if self._answered else await self._find_cause(error, endpoint)
            if unavailable is None:
                raise
            raise unavailable from error
        self._answered = True
        return answer

    def lacks_endpoint(self, error: RequestRefusedError) -> bool:
        """Whether a refusal means that there is nothing at this address, and not that there is no such model."""
        unknown_model = error.status == 404 and "model" in self._quote(error).lower()
        return not unknown_model and (error.status in (404, 405) or error.status < 400)

    async def _find_cause(self, error: EngineError, endpoint: str) -> EngineUnavailableError | None:
        """Say what is wrong with the engine itself, if that is what the failure means."""
        if isinstance(error, CannotConnectError):
            return EngineUnavailableError(str(error), hint="is the server running? Give its address with --base-url")
        if not isinstance(error, RequestRefusedError):
            return None
        if error.status in (401, 403):
            verdict = "wants an API key" if self._authorization is None else "does not accept the API key"
            hint = "put the key into OPENAI_API_KEY, or name another variable with --api-key-env"
        elif self.lacks_endpoint(error):
            verdict = f"has no {endpoint} endpoint"
            hint = error.hint or self._suggest_address()
        elif error.status == 404:
            verdict = f"knows no model {self.model!r}"
            hint = await self._suggest_model()
        else:
            return None
        return EngineUnavailableError(f"{self.base_url} {verdict} ({self._quote(error)})", hint=hint)

    def _quote(self, error: EngineError) -> str:
        return str(error).removeprefix(f"{self.base_url} ")

    async def _suggest_model(self) -> str:
        try:
            names = [model.name for model in await self.list_models()]
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


class LogprobEndpoint:
    """Posts JSON to one address of a server.

    Args:
        server: The server.
        url: The whole address.
        fields: Fields of every request.
    """

    def __init__(self, server: HttpServer, url: str, fields: Mapping[str, object]) -> None:
        self._server = server
        self._url = url
        self._fields = fields

    async def ask(self, **fields: object) -> Any:  # noqa: ANN401 - whatever the answer's JSON holds
        """Post the fields once, and return what the JSON of the answer holds.

        Raises:
            NoLogprobsError: The server has nothing at this address.
            EngineError: The answer has another status than 2xx, or is not JSON.
        """
        answer = await self._server.send("POST", self._url, orjson.dumps({**self._fields, **fields}))
        if answer.status < 300:
            try:
                return orjson.loads(answer.body)
            except ValueError:
                pass
        error = self._server.read_error(answer)
        if isinstance(error, RequestRefusedError) and self._server.lacks_endpoint(error):
            raise NoLogprobsError(f"a server without {self._url}", hint=error.hint) from error
        raise error
