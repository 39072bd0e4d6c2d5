from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip_reward.data.readers import open_input
from flip_reward.data.rows import RawRow
from flip_reward.errors import DataError, MissingDependencyError

LINES = b'{"n": 0}\n{"n": 1}\n'


def write_parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(1000))}), file)
    return file.getvalue()


FILES = {"rows.jsonl": LINES, "rows.parquet": write_parquet(), "set/a.jsonl": LINES, "set/b.jsonl": LINES}
SECRET = "key=hunter2"


class Server(BaseHTTPRequestHandler):
    """Files on the web, and the part of S3's protocol that it takes to read a bucket."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        name = unquote(address.path).removeprefix("/web/").removeprefix("/bucket/")
        if "list-type" in parse_qs(address.query):
            self.list_files(parse_qs(address.query).get("prefix", [""])[0])
        elif name == "cut.jsonl":
            self.answer(200, LINES, {"Content-Length": "1000"})
        elif name == "short.jsonl":
            length = {"Content-Length": "1000"} if self.command == "HEAD" else {"Content-Range": "bytes 0-999/1000"}
            self.answer(206, LINES if self.headers.get("Range", "").startswith("bytes=0-") else b"", length)
        elif name not in FILES:
            self.answer(404, b"", {})
        elif "/bucket/" in self.path and (part := re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))):
            first, last = int(part[1]), min(int(part[2]), len(FILES[name]) - 1)
            whole = {"Content-Range": f"bytes {first}-{last}/{len(FILES[name])}", "ETag": '"tag"'}
            self.answer(206, FILES[name][first : last + 1], whole)
        else:
            self.answer(200, FILES[name], {"ETag": '"tag"'} if "/bucket/" in self.path else {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def list_files(self, prefix: str) -> None:
        found = "".join(
            f"<Contents><Key>{name}</Key><Size>{len(content)}</Size><ETag>tag</ETag>"
            "<LastModified>2024-05-01T00:00:00.000Z</LastModified></Contents>"
            for name, content in FILES.items()
            if name.startswith(prefix)
        )
        self.answer(200, f"<ListBucketResult><Name>bucket</Name>{found}</ListBucketResult>".encode(), {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def numbers_of(name: str) -> list[object]:
    return [row.values["n"] for row in open_input(name).rows() if isinstance(row, RawRow)]


def test_files_on_the_web_are_read_and_known_by_their_content(server: str) -> None:
    source = open_input(f"{server}/web/rows.jsonl?{SECRET}")
    for _ in range(2):
        assert [row.position for row in source.rows()] == [0, 1]
    assert (source.name, source.fingerprint()) == ("rows.jsonl", hashlib.sha256(LINES).hexdigest())
    assert numbers_of(f"{server}/web/rows.parquet") == list(range(1000))


@pytest.mark.parametrize("name", ["missing.jsonl", "cut.jsonl"])
def test_what_goes_wrong_on_the_web_names_the_file_and_not_its_key(server: str, name: str) -> None:
    with pytest.raises(DataError, match=f"{server}/web/{name}") as caught:
        numbers_of(f"{server}/web/{name}?{SECRET}")
    assert SECRET not in str(caught.value)


def test_a_server_that_is_not_there_is_no_missing_file() -> None:
    with pytest.raises(DataError, match="cannot be read: Cannot connect to host"):
        open_input("http://127.0.0.1:9/rows.jsonl")


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # they remember their server
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("bucket")
def test_files_of_a_bucket_are_read_and_known_by_their_tags() -> None:
    assert numbers_of("s3://bucket/rows.jsonl") == [0, 1]
    assert "tag" in str(open_input("s3://bucket/rows.jsonl").fingerprint())
    assert numbers_of("s3://bucket/rows.parquet") == list(range(1000))
    assert numbers_of("s3://bucket/set/") == [0, 1, 0, 1]


@pytest.fixture
def memory() -> Iterator[None]:
    system = fsspec.filesystem("memory")
    for name, content in FILES.items():
        system.pipe(f"/here/{name}", content)
    yield
    system.store.clear()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("name", ["memory://here/set", "memory://here/set/", "memory://here/set/*.jsonl"])
def test_folders_and_patterns_are_read_in_order(name: str) -> None:
    assert numbers_of(name) == [0, 1, 0, 1]
    assert open_input(name).name == "set"


@pytest.mark.usefixtures("bucket")
def test_a_file_that_ends_early_is_an_error_and_never_a_shorter_file() -> None:
    with pytest.raises(
        DataError, match=r"s3://bucket/short\.jsonl cannot be read: the connection ended after 18 of 1,000 bytes"
    ):
        numbers_of("s3://bucket/short.jsonl")


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_input("gs://bucket/rows.jsonl")
    assert caught.value.hint == 'pip install "flip-reward[cloud]"'
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(DataError, match="adlfs"):
        open_input("abfs://bucket/rows.jsonl")
    with pytest.raises(DataError, match="cannot be opened"):
        open_input("nosuch://bucket/rows.jsonl")
