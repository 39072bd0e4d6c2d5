"""`BatchClient`: files and batches of OpenAI's Batch API, which Azure, Together and LiteLLM's proxy offer as well."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self

import orjson

from flip_reward.core.json_body import read_json
from flip_reward.engines.batch.lines import ENDPOINT
from flip_reward.engines.http.server import HttpServer
from flip_reward.engines.http.wire import HttpResponse, shorten
from flip_reward.engines.middleware import RetryPolicy
from flip_reward.engines.stopping import pause
from flip_reward.errors import EngineError, EngineUnavailableError, MalformedCompletionError, RequestRefusedError

_PAGE = 100
GONE = 404
"""The status of a batch or a file that is not there."""
_NOT_IMPLEMENTED = 501
_NO_BATCHES = "where requests are only answered one by one, --batch export writes files for 'vllm run-batch'"


class BatchState(StrEnum):
    """How far a batch is."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, name: str) -> Self:
        """Return the state that a server names, in any case and spelling; one that nobody knows is no end."""
        name = name.lower().replace("canceled", "cancelled").replace("canceling", "cancelling")
        return cls(name) if name in set(cls) else cls("in_progress")

    @property
    def ended(self) -> bool:
        """Whether nothing more will be answered."""
        return self in (BatchState.FAILED, BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the server describes it."""

    id: str
    state: BatchState
    completed: int = 0
    failed: int = 0
    output_file: str | None = None
    error_file: str | None = None
    expires_at: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    """Why it failed as a whole."""


class BatchClient:
    """Sends files and batches to a server, and tries again what may pass.

    Args:
        server: `HttpEngine.server` is the one that live requests go to.
        retry: How often and how soon it tries again.

    Every call raises an `EngineError` where the server does not do it; a batch or a file that the account does not
    have is a `RequestRefusedError` with status 404.
    """

    def __init__(self, server: HttpServer, retry: RetryPolicy | None = None) -> None:
        self.server = server
        self.retry = retry or RetryPolicy()
        self._batches = f"{server.base_url}/batches"
        self._files = f"{server.base_url}/files"

    async def upload(self, path: Path) -> str:
        """Upload a requests file; return its id."""
        sent = await self._try(lambda: self.server.upload(self._files, path, {"purpose": "batch"}))
        file = self._parse(sent).get("id")
        if not isinstance(file, str):
            raise self._malformed()
        return file

    async def create(self, file: str, metadata: Mapping[str, str]) -> Batch:
        """Make a batch of an uploaded file. It is tried once: who does not hear of a batch must look for it first."""
        fields = {
            "input_file_id": file,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": dict(metadata),
        }
        return self._read(await self._try_once(lambda: self.server.send("POST", self._batches, orjson.dumps(fields))))

    async def get(self, name: str) -> Batch:
        """Look a batch up by its id."""
        found = await self._try(lambda: self.server.send("GET", f"{self._batches}/{name}"), missing=True)
        return self._read(found)

    async def list(self) -> AsyncIterator[Batch]:
        """List the account's batches, the newest first."""
        after = ""
        while True:
            url = f"{self._batches}?limit={_PAGE}{after}"
            page = self._parse(await self._try(partial(self.server.send, "GET", url)))
            batches = [self._describe(one) for one in page.get("data") or ()]
            for batch in batches:
                yield batch
            if not page.get("has_more") or not batches:
                return
            after = f"&after={batches[-1].id}"

    async def download(self, file: str, path: Path) -> None:
        """Write a file of replies to disk. One that is not there is tried again: a batch may end before its files."""
        url = f"{self._files}/{file}/content"
        await self._try(lambda: self.server.download(url, path), missing=True, passing=(GONE,))

    async def _try(
        self,
        send: Callable[[], Coroutine[object, object, HttpResponse]],
        *,
        missing: bool = False,
        passing: Collection[int] = (),
    ) -> HttpResponse:
        """Send a request until it is answered; statuses in `passing` may pass, too."""
        attempts, started = 1, time.monotonic()
        while True:
            try:
                return await self._try_once(send, missing=missing)
            except EngineError as error:
                passes = error.retryable or (isinstance(error, RequestRefusedError) and error.status in passing)
                if not (passes and self.retry.allows_retry(attempts, time.monotonic() - started)):
                    raise
                wait = self.retry.wait_seconds(error, attempts)
            await pause(wait)
            attempts += 1

    async def _try_once(
        self, send: Callable[[], Coroutine[object, object, HttpResponse]], *, missing: bool = False
    ) -> HttpResponse:
        """Send a request; with `missing` a 404 says that there is no such thing, else that nobody takes batches."""
        try:
            response = await send()
        except EngineError as failure:
            error = failure
        else:
            if response.status < 300:
                self.server.answered = True
                return response
            error = self.server.read_error(response)
            if missing and isinstance(error, RequestRefusedError) and error.status == GONE:
                raise error
            if response.status == _NOT_IMPLEMENTED:
                raise EngineUnavailableError(f"{self.server.base_url} has no batches endpoint", hint=_NO_BATCHES)
        explained = await self.server.explain(error, endpoint="batches")
        if explained is not error and isinstance(error, RequestRefusedError) and self.server.lacks_endpoint(error):
            raise EngineUnavailableError(str(explained), hint=_NO_BATCHES) from error
        raise explained

    def _read(self, response: HttpResponse) -> Batch:
        return self._describe(self._parse(response))

    def _parse(self, response: HttpResponse) -> dict[str, Any]:
        try:
            found = read_json(response.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._malformed()
        return found

    def _describe(self, fields: Any) -> Batch:  # noqa: ANN401 - whatever the JSON holds
        try:
            counts, expires_at = fields.get("request_counts") or {}, fields.get("expires_at")
            errors, metadata = (fields.get("errors") or {}).get("data") or (), fields.get("metadata")
            return Batch(
                id=str(fields["id"]),
                state=BatchState.of(str(fields["status"])),
                completed=int(counts.get("completed") or 0),
                failed=int(counts.get("failed") or 0),
                output_file=_name(fields.get("output_file_id")),
                error_file=_name(fields.get("error_file_id")),
                expires_at=int(expires_at) if isinstance(expires_at, int | float) else None,
                metadata=metadata if isinstance(metadata, dict) else {},
                errors=tuple(shorten(str(error.get("message") or error.get("code"))) for error in errors),
            )
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            raise self._malformed() from None

    def _malformed(self) -> EngineError:
        return MalformedCompletionError(
            f"{self.server.base_url} answered with something that is not a batch", hint=_NO_BATCHES
        )


def _name(given: object) -> str | None:
    return str(given) if given else None
