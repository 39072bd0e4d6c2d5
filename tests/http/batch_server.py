"""`BatchServer`: a `FaultServer` that also takes batches, as OpenAI documents them, and fails at those on purpose.

    with BatchServer(choose_batch={1: BatchFault.EXPIRED}) as server:
        engine = HttpEngine(server.base_url, server.model)

A batch moves on whenever it is looked at, and ends after `looks` of them. The answers are the scripted engine's, in
an order of their own.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web

from flip_reward.engines.scripted import Script, echo_last_words
from tests.http.fault_server import Choose, Fault, FaultServer, fail, never

ENDPOINT = "/v1/chat/completions"


class BatchFault(StrEnum):
    """What goes wrong with one batch."""

    EXPIRED = "its time is over when half is done; the error file names the rest"
    CANCELLED = "somebody cancels it when half is done; no file names the rest"
    TOKEN_LIMIT = "it fails: too many tokens wait already"
    LATE_FILE = "it is completed before its files can be read"
    LOST_FILE = "its files have expired"
    HALF_FILE = "the first download of each file breaks off"
    SLOW_FILE = "the first download of each file stops in the middle"
    CUT_FILE = "the first download of each file ends in the middle of a line"
    MOVED_FILE = "its files lie on another server, which is not to see the key"
    DAMAGED_LINES = "two lines of each file are damaged"
    STRANGE_LINES = "lines come twice, and some belong to nobody"
    NO_ANSWER = "it is created, and the connection breaks before that is said"
    SILENT = "it is created, and nothing is ever said about that"
    BUSY = "the first looks at it are refused for a while"


_COMMON_ERRORS = {Fault.REFUSED: 400, Fault.CONTEXT_TOO_LONG: 400, Fault.BUSY: 429, Fault.SERVER_ERROR: 500}

_PURPOSES = {
    BatchFault.LATE_FILE: "late",
    BatchFault.LOST_FILE: "lost",
    BatchFault.HALF_FILE: "half",
    BatchFault.SLOW_FILE: "slow",
    BatchFault.CUT_FILE: "cut",
    BatchFault.MOVED_FILE: "moved",
    BatchFault.DAMAGED_LINES: "damaged",
}
"""Of the files of a batch with a fault, which say how they can be read."""


@dataclass
class _File:
    content: bytes
    purpose: str
    owner: str
    downloads: int = 0


@dataclass
class _Batch:
    number: int
    input_file: str
    metadata: dict[str, str]
    owner: str
    fault: BatchFault | None
    total: int
    status: str = "validating"
    looks: int = 0
    completed: int = 0
    failed: int = 0
    files: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"batch_{self.number}"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": ENDPOINT,
            "input_file_id": self.input_file,
            "completion_window": "24h",
            "status": self.status,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "output_file_id": self.files.get("output"),
            "error_file_id": self.files.get("error"),
            "created_at": 1_800_000_000 + self.number,
            "expires_at": 1_800_086_400 + self.number,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata or None,
        }


class BatchServer(FaultServer):
    """Takes files and batches of chat completions, and single ones as `FaultServer` does.

    Args:
        choose: Which request fails, and how; in a batch its line then stands in the error file.
        choose_batch: What goes wrong with which batch, counted from 1.
        refuse: From the body of a request to what is wrong with it; None where nothing is.
        looks: How often a batch is looked at before it has ended.
        script, model, api_key: As for `FaultServer`. Files and batches belong to the key that made them.
        most_requests: How many a batch may have.
        page_size: How many batches one page of their list has at most.

    Attributes:
        custom_ids: How often each was in a batch.
        requests: How often each prompt was answered or failed, alone or in a batch.
        uploads: How many files were sent.
        batches_made: How many batches were created.
        downloads: How many downloads of files were begun.
        looked: How often batches were looked at.
    """

    def __init__(
        self,
        choose: Choose = never,
        *,
        choose_batch: Mapping[int, BatchFault] | None = None,
        refuse: Callable[[dict[str, Any]], str | None] = lambda _: None,
        looks: int = 1,
        script: Script = echo_last_words,
        model: str = "test-model",
        api_key: str | None = None,
        most_choices: int = 1,
        most_requests: int = 50_000,
        page_size: int = 2,
        port: int = 0,
    ) -> None:
        super().__init__(choose, script=script, model=model, api_key=api_key, most_choices=most_choices, port=port)
        self.custom_ids: Counter[str] = Counter()
        self.uploads = 0
        self.looked = 0
        self._choose_batch = dict(choose_batch or {})
        self._refuse = refuse
        self._looks = looks
        self._most_requests = most_requests
        self._page_size = page_size
        self._files: dict[str, _File] = {}
        self._batches: dict[str, _Batch] = {}

    @property
    def downloads(self) -> int:
        """How many downloads of files were begun."""
        return sum(file.downloads for file in self._files.values())

    @property
    def batches_made(self) -> int:
        """How many batches were created."""
        return len(self._batches)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Say what is answered where."""
        router.add_post("/v1/chat/completions", self._complete_alone)
        router.add_get("/v1/models", self._list_models)
        router.add_get("/storage/{id}", self._fetch_from_storage)
        for method, path, answer in (
            ("POST", "/v1/files", self._upload),
            ("GET", "/v1/files/{id}/content", self._download),
            ("POST", "/v1/batches", self._create),
            ("GET", "/v1/batches", self._list),
            ("GET", "/v1/batches/{id}", self._look),
            ("POST", "/v1/batches/{id}/cancel", self._cancel),
        ):
            router.add_route(method, path, self._for_its_owner(answer))

    def _for_its_owner(self, answer: Callable[[web.Request, str], Any]) -> Callable[[web.Request], Any]:
        async def answer_owner(http_request: web.Request) -> web.StreamResponse:
            owner = http_request.headers.get("Authorization", "")
            if self._api_key is not None and owner != f"Bearer {self._api_key}":
                return fail(401, "Incorrect API key provided.", code="invalid_api_key")
            answered: web.StreamResponse = await answer(http_request, owner)
            return answered

        return answer_owner

    async def _complete_alone(self, http_request: web.Request) -> web.StreamResponse:
        words = self._refuse(await http_request.json())
        return await self._complete(http_request) if words is None else fail(400, words)

    async def _upload(self, http_request: web.Request, owner: str) -> web.Response:
        content, purpose, name = None, "", ""
        reader = await http_request.multipart()
        async for part in reader:
            assert isinstance(part, BodyPartReader)
            if part.name == "purpose":
                purpose = (await part.read()).decode()
            elif part.name == "file":
                content, name = bytes(await part.read()), part.filename or ""
        if content is None or purpose != "batch" or not name.endswith(".jsonl"):
            return fail(400, "Expected purpose=batch and a file whose name ends in .jsonl.")
        self.uploads += 1
        made = self._keep(content, owner, purpose)
        return web.json_response(
            {"id": made, "object": "file", "bytes": len(content), "filename": name, "purpose": purpose}
        )

    def _keep(self, content: bytes, owner: str, purpose: str) -> str:
        name = f"file-{len(self._files) + 1}"
        self._files[name] = _File(content, purpose, owner)
        return name

    async def _download(self, http_request: web.Request, owner: str) -> web.StreamResponse:
        file = self._files.get(http_request.match_info["id"])
        if file is None or file.owner != owner or file.purpose in {"lost", "late"}:
            if file is not None and file.purpose == "late":
                file.downloads += 1
                file.purpose = "batch_output" if file.downloads > 1 else "late"
            return fail(404, f"No such File object: {http_request.match_info['id']}")
        file.downloads += 1
        if file.purpose in {"half", "slow"} and file.downloads == 1:
            response = web.StreamResponse(headers={"Content-Length": str(len(file.content))})
            await response.prepare(http_request)
            await response.write(file.content[: len(file.content) // 2])
            if file.purpose == "slow":
                await asyncio.Event().wait()
            if http_request.transport is not None:
                http_request.transport.close()
            return response
        if file.purpose == "moved":
            elsewhere = self.base_url.replace("127.0.0.1", "localhost").removesuffix("/v1")
            location = f"{elsewhere}/storage/{http_request.match_info['id']}?signature=a%2Fb%2Bc"
            return web.Response(status=302, headers={"Location": location})
        if file.purpose == "damaged":
            lines = file.content.splitlines(keepends=True)
            damaged = [line[:40] + b"\xff\xfe\n" for line in lines[:2]]
            return web.Response(body=b"".join([*damaged, *lines[2:]]))
        content = file.content[:-20] if file.purpose == "cut" and file.downloads == 1 else file.content
        return web.Response(body=content, content_type="application/octet-stream")

    async def _fetch_from_storage(self, http_request: web.Request) -> web.StreamResponse:
        """Answer as a storage does, which takes a signed address and refuses any key."""
        if http_request.headers.keys() & {"Authorization", "api-key"} or "a%2Fb%2Bc" not in http_request.raw_path:
            return fail(400, "Only one auth mechanism allowed.")
        return web.Response(body=self._files[http_request.match_info["id"]].content)

    async def _create(self, http_request: web.Request, owner: str) -> web.StreamResponse:
        asked = await http_request.json()
        file = self._files.get(asked["input_file_id"])
        if file is None or file.owner != owner:
            return fail(404, f"No such File object: {asked['input_file_id']}")
        if asked["endpoint"] != ENDPOINT or asked["completion_window"] != "24h":
            return fail(400, "Only 24h and chat completions are known here.")
        if any(len(key) > 64 or len(value) > 512 for key, value in (asked.get("metadata") or {}).items()):
            return fail(400, "The metadata is too long.")
        number = len(self._batches) + 1
        lines = file.content.splitlines()
        batch = _Batch(
            number,
            asked["input_file_id"],
            asked.get("metadata") or {},
            owner,
            self._choose_batch.get(number),
            len(lines),
        )
        self._batches[batch.id] = batch
        batch.errors = self._find_errors(lines)
        if batch.fault is BatchFault.TOKEN_LIMIT:
            batch.errors = [_error("token_limit_exceeded", "Enqueued token limit reached for test-model.")]
        if not batch.errors:
            self.custom_ids.update(json.loads(line)["custom_id"] for line in lines)
        if batch.fault is BatchFault.SILENT:
            await asyncio.Event().wait()
        if batch.fault is BatchFault.NO_ANSWER and isinstance(http_request.transport, asyncio.WriteTransport):
            http_request.transport.abort()
        return web.json_response(batch.to_json())

    def _find_errors(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """What the validation of an input file finds."""
        seen: set[str] = set()
        models: set[str] = set()
        if not lines:
            return [_error("empty_file", "The file is empty.")]
        if len(lines) > self._most_requests:
            return [_error("too_many_tasks", f"The batch input file contains more than {self._most_requests} lines.")]
        for number, line in enumerate(lines, 1):
            try:
                parsed = json.loads(line)
                name, body, where = parsed["custom_id"], parsed["body"], (parsed["method"], parsed["url"])
            except (ValueError, KeyError):
                return [_error("invalid_json_line", "This line is not parseable as valid JSON.", number)]
            if name in seen:
                return [_error("duplicate_custom_id", f"The custom_id {name} is used twice.", number)]
            if where != ("POST", ENDPOINT):
                return [_error("invalid_url", f"{where} does not match the batch.", number)]
            seen.add(name)
            models.add(body["model"])
        if models != {self.model}:
            return [_error("mismatched_model", f"The models are {sorted(models)}.")]
        return []

    async def _list(self, http_request: web.Request, owner: str) -> web.Response:
        limit = min(int(http_request.query.get("limit", 20)), self._page_size)
        newest_first = [batch for batch in reversed(self._batches.values()) if batch.owner == owner]
        after = http_request.query.get("after")
        ids = [batch.id for batch in newest_first]
        start = ids.index(after) + 1 if after else 0
        page = list(islice(newest_first, start, start + limit))
        return web.json_response(
            {
                "object": "list",
                "data": [batch.to_json() for batch in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": start + limit < len(newest_first),
            }
        )

    async def _look(self, http_request: web.Request, owner: str) -> web.Response:
        batch = self._batches.get(http_request.match_info["id"])
        if batch is None or batch.owner != owner:
            return fail(404, f"No batch found with id '{http_request.match_info['id']}'.")
        self.looked += 1
        batch.looks += 1
        if batch.fault is BatchFault.BUSY and batch.looks <= 2:
            return fail(429, "Too many requests.", headers={"Retry-After": "0.01"})
        self._move_on(batch)
        return web.json_response(batch.to_json())

    async def _cancel(self, http_request: web.Request, owner: str) -> web.Response:
        batch = self._batches.get(http_request.match_info["id"])
        if batch is None or batch.owner != owner:
            return fail(404, f"No batch found with id '{http_request.match_info['id']}'.")
        batch.fault, batch.status = BatchFault.CANCELLED, "cancelling"
        return web.json_response(batch.to_json())

    def _move_on(self, batch: _Batch) -> None:
        if batch.status in {"completed", "failed", "expired", "cancelled"}:
            return
        if batch.errors:
            batch.status = "failed"
        elif batch.looks <= self._looks:
            batch.status = "in_progress" if batch.looks < max(self._looks, 2) else "finalizing"
            batch.completed = batch.total * (batch.looks - 1) // max(self._looks, 1)
        else:
            self._finish(batch)

    def _finish(self, batch: _Batch) -> None:
        lines = [json.loads(line) for line in self._files[batch.input_file].content.splitlines()]
        random.Random(batch.number).shuffle(lines)
        half = batch.fault in {BatchFault.EXPIRED, BatchFault.CANCELLED}
        done, rest = (lines[: len(lines) // 2], lines[len(lines) // 2 :]) if half else (lines, [])
        answered = [self._answer_line(batch, line) for line in done]
        good = [line for line in answered if line["response"]["status_code"] == 200]
        bad = [line for line in answered if line["response"]["status_code"] != 200]
        if batch.fault is BatchFault.EXPIRED:
            error = {"code": "batch_expired", "message": "This request could not be executed before it expired."}
            bad += [_line(batch, line["custom_id"], None, error) for line in rest]
        if batch.fault is BatchFault.STRANGE_LINES:
            good = [*good, *good, _line(batch, "nobody-asked-this", {"status_code": 200, "body": {}}, None)]
        batch.completed, batch.failed = len(good), len(bad)
        batch.status = batch.fault.name.lower() if half and batch.fault else "completed"
        purpose = _PURPOSES.get(batch.fault, "batch_output") if batch.fault else "batch_output"
        for name, content in (("output", good), ("error", bad)):
            if content:
                text = "".join(json.dumps(line) + "\n" for line in content)
                batch.files[name] = self._keep(text.encode(), batch.owner, purpose)

    def _answer_line(self, batch: _Batch, line: dict[str, Any]) -> dict[str, Any]:
        status, body = self._answer_body(line["body"])
        response = {"status_code": status, "request_id": f"req-{line['custom_id'][:8]}", "body": body}
        return _line(batch, line["custom_id"], response, None)

    def _answer_body(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        words = self._refuse(body)
        if words is not None:
            return 400, {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}
        prompt = body["messages"][-1]["content"]
        self.requests[prompt] += 1
        answer = self._chat(body)
        fault = self._choose(prompt, self.requests[prompt]) if answer is not None else Fault.CONTEXT_TOO_LONG
        if fault is None and answer is not None:
            parsed: dict[str, Any] = json.loads(answer)
            return 200, parsed
        assert fault is not None
        self.injected[fault] += 1
        message = (
            "This model's maximum context length is 8 tokens." if fault is Fault.CONTEXT_TOO_LONG else fault.name
        )
        return _COMMON_ERRORS[fault], {"error": {"message": message, "type": "error", "code": None}}

    def run_batch(self, requests: Path, answers: Path, *, until: int | None = None) -> None:
        """Do what `vllm run-batch -i requests -o answers` does; it is killed after `until` lines, in the next one.

        Its failures have no body, and a text as their error.
        """
        written = []
        for number, text in enumerate(requests.read_bytes().splitlines()):
            line = json.loads(text)
            assert line["url"] == ENDPOINT
            status, body = self._answer_body(line["body"])
            self.custom_ids[line["custom_id"]] += 1
            response = {"status_code": status, "request_id": f"vllm-batch-{number}", "body": None}
            answer = {"id": f"vllm-{number}", "custom_id": line["custom_id"], "response": response}
            if status == 200:
                response["body"] = body
                written.append(json.dumps({**answer, "error": None}) + "\n")
            else:
                written.append(json.dumps({**answer, "error": body["error"]["message"]}) + "\n")
        if until is not None:
            written = [*written[:until], written[until][:40]]
        answers.write_text("".join(written), encoding="utf-8")


def _line(batch: _Batch, name: str, response: dict[str, Any] | None, error: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": f"batch_req_{batch.number}_{name[:12]}", "custom_id": name, "response": response, "error": error}


def _error(code: str, message: str, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": line}
