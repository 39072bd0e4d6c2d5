"""The lines of a batch: OpenAI's format, which `vllm run-batch` reads and writes as well."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import orjson

from flip_reward.core.json_body import read_json
from flip_reward.engines.base import Request
from flip_reward.engines.http.wire import encode_fields

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
"""How many requests, and bytes with their line breaks, a batch of OpenAI takes."""

LONGEST_LINE = 32 * 2**20
ENDPOINT = "/v1/chat/completions"
KEY_DIGITS = 40
_BAD_REQUEST, _SERVER_FAILED = 400, 500


@dataclass(frozen=True, slots=True)
class BatchLine:
    r"""A request of a batch.

    Example:
        >>> BatchLine("2f1c", b'{"model":"m"}').to_line()
        b'{"custom_id":"2f1c","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n'
        >>> len(BatchLine("2f1c", b'{"model":"m"}')) == len(_)
        True
    """

    key: str
    """Names the request, and so its reply: see `make_key`."""
    body: bytes

    def __len__(self) -> int:
        """How long its line is."""
        return len(_HEAD % b"") + len(self.key) + len(self.body) + len(b"}\n")

    def to_line(self) -> bytes:
        """Return it as a line of a requests file."""
        return _HEAD % self.key.encode() + self.body + b"}\n"


_HEAD = b'{"custom_id":"%s","method":"POST","url":"' + ENDPOINT.encode() + b'","body":'


@dataclass(frozen=True, slots=True)
class ReplyLine:
    """What a batch answers to a request: an HTTP response, or why there is none.

    Example:
        >>> line = b'{"custom_id":"2f1c","response":{"status_code":200,"body":{"choices":[]}},"error":null}'
        >>> ReplyLine.from_line(line)
        ReplyLine(key='2f1c', status=200, body=b'{"choices":[]}', error=None)
        >>> expired = b'{"custom_id":"2f1c","response":null,"error":{"code":"batch_expired","message":"Too late."}}'
        >>> ReplyLine.from_line(expired).error
        'Too late.'
    """

    key: str
    status: int | None
    """None where the request was never answered: the batch expired, or was cancelled."""
    body: bytes = b""
    error: str | None = None
    """Why it was never answered."""

    @property
    def answered(self) -> bool:
        """Whether the server answered it with what was asked for."""
        return self.status is not None and self.status < 300

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read a line of an output or error file, in any order of fields; a ValueError where it is none."""
        fields = read_json(line)
        valid = isinstance(fields, dict) and isinstance(fields.get("response") or {}, dict)
        if not valid or not isinstance(fields.get("custom_id"), str):
            raise ValueError("not a line of a batch: it has no custom_id, or an odd response")
        if "method" in fields and not fields.keys() & {"response", "error"}:
            raise ValueError("a request, and no reply")
        key, response, error = fields["custom_id"], fields.get("response") or {}, fields.get("error")
        status, body = response.get("status_code"), response.get("body")
        if not isinstance(status, int) or (status < _BAD_REQUEST and body is None):
            return cls(key, None, error=_words(error))
        if body is None:
            # vLLM answers so whatever went wrong, its own crashes included: that does not settle a request.
            body, status = {"error": error}, _SERVER_FAILED if status == _BAD_REQUEST else status
        return cls(key, status, body.encode() if isinstance(body, str) else _encode(body))

    def to_line(self) -> bytes:
        """Return it as a line that `from_line` reads; a body that is no JSON becomes a text."""
        try:
            body = _encode(read_json(self.body)) if self.body else b"null"
        except ValueError:
            body = orjson.dumps(self.body.decode(errors="replace"))
        response = {"status_code": self.status, "body": orjson.Fragment(body)}
        fields = {
            "custom_id": self.key,
            "response": None if self.status is None else response,
            "error": None if self.error is None else {"message": self.error},
        }
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _words(error: object) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error.get("code")
    return str(error)[:300] if error else "no reason was given"


def _encode(body: object) -> bytes:
    return encode_fields(body) if isinstance(body, dict) else json.dumps(body).encode()


@dataclass(slots=True)
class RowRequests:
    """What the row that is being scored has asked so far, for requests whose replies differ each time."""

    row: int
    asked: Counter[bytes] = field(default_factory=Counter)


current_row: ContextVar[RowRequests | None] = ContextVar("current_row", default=None)


def make_key(body: bytes, request: Request) -> str:
    """Name a request by its body, so that it is asked once, and found again by whoever asks it.

    One that is drawn anew each time is named by its row as well, and by how many alike that row asked before:
    two rows must not share a sample.

    Example:
        >>> make_key(b"{}", Request(()))
        '44136fa355b3678a1146ad16f7e8649e94fb4fc2'
    """
    digest = hashlib.sha256(body)
    asking = None if request.repeatable else current_row.get()
    if asking is not None:
        number = asking.asked[digest.digest()]
        asking.asked[digest.digest()] += 1
        digest.update(b"\n%d %d" % (asking.row, number))
    return digest.hexdigest()[:KEY_DIGITS]


def short_key(key: str) -> int | None:
    """Return the first 64 bits of a key, for indexes; None where it is none of ours.

    Example:
        >>> short_key("44136fa355b3678a1146ad16f7e8649e94fb4fc2") == 0x44136FA355B3678A, short_key("request-1")
        (True, None)
    """
    if len(key) != KEY_DIGITS or not _HEXADECIMAL.issuperset(key):
        return None
    return int(key[:16], 16)


_HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(slots=True)
class LinesRead:
    """What was found in a file of replies besides its lines."""

    damaged: int = 0
    unfinished: bool = False
    """The last line is half-written: the file is still being written, or its writer was killed."""


def read_replies(path: Path, read: LinesRead) -> Iterator[ReplyLine]:
    """Read the replies of an output or error file, one line in memory at a time, and count the others in `read`."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_LINE)
                read.damaged += 1
                continue
            if line.isspace():
                continue
            try:
                reply = ReplyLine.from_line(line)
            except ValueError:
                if line.endswith(b"\n"):
                    read.damaged += 1
                else:
                    read.unfinished = True
                continue
            yield reply
