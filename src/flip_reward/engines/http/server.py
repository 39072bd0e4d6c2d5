"""`HttpServer`: one model behind one server: its address, its key, and what its failures mean."""

from __future__ import annotations

import base64
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from flip_reward.engines.http.proxy import PROXY_HINT, PROXY_KEY_HINT, answers_itself
from flip_reward.engines.http.stream import read_body
from flip_reward.engines.http.wire import HttpResponse, encode_fields, find_error, read_error
from flip_reward.errors import (
    CannotConnectError,
    ContextTooLongError,
    EngineError,
    EngineUnavailableError,
    NoClassifierError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)
from flip_reward.redact import is_secret_field, strip_user_info

if TYPE_CHECKING:
    from flip_reward.engines.http.transport import HttpSession

MODELS_IN_HINT = 5
_NOT_IMPLEMENTED = 501
_IS_IT_THERE = "is the server running? Set its address with --base-url"
_KEY_HINT = "put the key into OPENAI_API_KEY, or into the variable that --api-key-env names"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as a server lists it."""

    name: str
    owner: str | None = None
    """vLLM, SGLang and llama.cpp put their own names here."""


class HttpServer:
    """Sends requests to a server, each once, and says what goes wrong.

    The arguments are those of `HttpEngine`.

    Attributes:
        base_url: The address, without credentials, without a query and without a slash at its end.
        root_url: The address of the server's own endpoints, beside `/v1`.
        model: The model's name.
        answered: Whether a request has ever been answered. If so, the address is right.

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
        self._query = f"?{address.query}" if address.query else ""
        self.base_url = strip_user_info(address._replace(query="").geturl())
        self.root_url = self.base_url.removesuffix("/v1")
        self.model = model
        key = api_key.strip() if api_key else None
        self._authorization = _authorize(address, key)
        password = unquote(address.password) if address.password else None
        credentials = [value.partition(" ")[2] for value in self._authorization.values()]
        queried = [value for name, value in parse_qsl(address.query) if is_secret_field(name)]
        self._secrets = [secret for secret in (key, password, *credentials, *queried) if secret]
        self._timeout_seconds = timeout_seconds
        self._session: HttpSession | None = None
        self.answered = False

    # Not `async`: that would be one more coroutine on the way of every reward.
    def send(self, method: str, url: str, body: bytes | None = None) -> Coroutine[object, object, HttpResponse]:
        """Send one request once, and return the response whatever its status; see `HttpSession.send`.

        The query of the server's address goes with it.
        """
        return (self._session or self._open_session()).send(method, self._locate(url), body)

    def upload(self, url: str, path: Path, fields: Mapping[str, str]) -> Coroutine[object, object, HttpResponse]:
        """Send a file once; see `HttpSession.upload`."""
        return (self._session or self._open_session()).upload(self._locate(url), path, fields)

    def download(self, url: str, path: Path) -> Coroutine[object, object, HttpResponse]:
        """Get a file once; see `HttpSession.download`."""
        return (self._session or self._open_session()).download(self._locate(url), path)

    def _locate(self, url: str) -> str:
        return f"{url}&{self._query[1:]}" if self._query and "?" in url else url + self._query

    def _open_session(self) -> HttpSession:
        # Imported at the first request: aiohttp is slow to import, and `import flip_reward` has to be fast.
        from flip_reward.engines.http.transport import HttpSession

        headers = {"Content-Type": "application/json", "User-Agent": "flip-reward", **self._authorization}
        self._session = HttpSession(self.base_url, headers, self._timeout_seconds)
        return self._session

    def read_error(self, response: HttpResponse) -> EngineError:
        """Return the error that a response without a completion stands for."""
        address = self.base_url
        proxy = self._session.proxy if self._session is not None else None
        if proxy is not None and answers_itself(response.status, response.headers):
            address = f"the proxy {proxy.name} in front of {self.base_url}"
        elif proxy is not None and response.headers.get("Content-Type", "").startswith("text/html"):
            address = f"{self.base_url} behind the proxy {proxy.name}"  # either may have made the page
        error = read_error(response.status, response.headers, response.body, address=address, secrets=self._secrets)
        if address != self.base_url:
            error.hint = error.hint or PROXY_HINT
        return error

    async def list_models(self) -> list[ServedModel]:
        """Ask the server for its models."""
        response = await self.send("GET", f"{self.base_url}/models")
        try:
            models = read_body(response.body)["data"]
            return [ServedModel(model["id"], model.get("owned_by")) for model in models]
        except (ValueError, TypeError, LookupError, AttributeError):
            raise self.read_error(response) from None

    async def find_owner(self) -> str | None:
        """Ask the server whose it is: vLLM, SGLang and llama.cpp say so; None where it has no list of models."""
        try:
            models = await self.list_models()
        except RequestRefusedError as error:
            if error.status in (401, 403):
                raise
            return None
        named = [model for model in models if model.name == self.model] or models
        return named[0].owner if named else None

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._session is not None:
            await self._session.aclose()

    async def explain(self, error: EngineError, *, endpoint: str) -> EngineError:
        """Return the error to raise for a failed request.

        What concerns every request becomes an `EngineUnavailableError` with this failure as its cause, also after
        others were answered: a wrong address or key, an unknown model, a spent quota, a redirect. As long as nothing
        has been answered, so does a server that is not there. Any other failure is returned as it is.
        """
        if isinstance(error, ContextTooLongError):
            self.answered = True  # this prompt is the problem
        unavailable = await self._find_cause(error, endpoint)
        if unavailable is None:
            return error
        unavailable.__cause__ = error
        return unavailable

    def lacks_endpoint(self, error: RequestRefusedError) -> bool:
        """Whether a refusal means that there is nothing at this address, and not that there is no such model."""
        said = self._quote(error).lower()
        unknown_model = error.status == 404 and ("model" in said or "deployment" in said)  # as Azure says
        return not unknown_model and (error.status in (404, 405) or error.status < 400)

    async def _find_cause(self, error: EngineError, endpoint: str) -> EngineUnavailableError | None:
        """Return what is wrong with the server or its options, if that is what a failure means."""
        if isinstance(error, CannotConnectError) and not self.answered:
            return EngineUnavailableError(str(error), hint=error.hint or _IS_IT_THERE)
        if not isinstance(error, RequestRefusedError) or not error.by_server:
            return None
        if error.status == 407:
            return EngineUnavailableError(str(error), hint=PROXY_KEY_HINT)
        if error.status == 401:
            verdict = "needs an API key" if not self._authorization else "does not accept the API key"
            hint = _KEY_HINT
        elif error.status in (402, 429):
            verdict = "says that a quota is used up"
            hint = "add credit or wait until the quota is renewed; the same command goes on"
        elif 300 <= error.status < 400:
            verdict = "sends requests elsewhere"
            hint = error.hint or self._suggest_address()
        elif self.lacks_endpoint(error):
            verdict = f"has no {endpoint} endpoint"
            hint = self._suggest_address()
        elif error.status == 404:
            verdict = f"does not know the model {self.model!r}"
            hint = await self._suggest_model()
        else:
            # 403 too: some providers answer so when a prompt is flagged. `RetryingEngine` finds out.
            if error.status == 403:
                error.hint = error.hint or _KEY_HINT
            return None
        return EngineUnavailableError(f"{self.base_url} {verdict} ({self._quote(error)})", hint=hint)

    def _quote(self, error: EngineError) -> str:
        return str(error).removeprefix(f"{self.base_url} ")

    async def _suggest_model(self) -> str:
        try:
            names = [model.name for model in await self.list_models()]
        except EngineError:
            names = []
        if self.model in names:
            return "the server lists it and does not answer with it: it may be loading, or have failed to"
        near = get_close_matches(self.model, names, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        if names:
            more = ", ..." if len(names) > MODELS_IN_HINT else ""
            return "it offers " + ", ".join(map(repr, names[:MODELS_IN_HINT])) + more
        return "choose one that the server offers with --model"

    def _suggest_address(self) -> str:
        if self.base_url.endswith("/v1"):
            return "set the address of an OpenAI-compatible server with --base-url"
        return f"most addresses end with /v1: {self.base_url}/v1"


def _split_address(base_url: str) -> SplitResult:
    """Split an address into its parts, without the slash or the endpoint at its end."""
    try:
        address = urlsplit(base_url.strip())
        valid = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # a port that is not a number
        valid = False
    if not valid:
        raise OptionError(
            "the base URL is not an http:// or https:// address", hint="for example http://localhost:8000/v1"
        )
    if address.fragment:
        raise OptionError("the base URL must not have a #")
    path = address.path.rstrip("/").removesuffix("/chat/completions")
    return address._replace(path=path)


_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com", ".openai.azure.us")


def _authorize(address: SplitResult, api_key: str | None) -> dict[str, str]:
    """Return the header that shows who asks: for Azure's own addresses `api-key`, unless the key is a token."""
    if address.username is not None:
        credentials = f"{unquote(address.username)}:{unquote(address.password or '')}"
        return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
    if not api_key:
        return {}
    if not api_key.isprintable():
        raise OptionError("the API key holds a line break or another control character")
    azure = (address.hostname or "").endswith(_AZURE) or "api-version" in dict(parse_qsl(address.query))
    if azure and not api_key.startswith("eyJ"):  # how every JSON web token begins, such as those of Entra
        return {"api-key": api_key}
    return {"Authorization": f"Bearer {api_key}"}


class JsonEndpoint:
    """Posts JSON to one URL of a server, with some fields in every request; `lacking` is raised without one."""

    def __init__(
        self,
        server: HttpServer,
        url: str,
        fields: Mapping[str, object],
        lacking: type[NoLogprobsError | NoClassifierError] = NoLogprobsError,
    ) -> None:
        self.url = url
        self._server = server
        self._fields = fields
        self._lacking = lacking

    async def post(self, **fields: object) -> Any:  # noqa: ANN401 - whatever the JSON holds
        """Post the fields once, and return what the JSON of the response holds."""
        response = await self._server.send("POST", self.url, encode_fields({**self._fields, **fields}))
        if response.status < 300:
            try:
                answer = read_body(response.body)
            except ValueError:
                pass
            else:
                if find_error(answer) is None:
                    return answer
        error = self._server.read_error(response)
        refused = isinstance(error, RequestRefusedError) and self._server.lacks_endpoint(error)
        if refused or response.status == _NOT_IMPLEMENTED:
            raise self._lacking(f"a server without {self.url}", hint=error.hint) from error
        raise error
