from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from datasets import IterableDataset

from flip_reward.data.hub import HubName, is_hub_reachable, open_hub, open_rows
from flip_reward.data.rows import RawRow
from flip_reward.errors import DataError, MissingDependencyError

NAME = HubName("owner/name", "0123abc", None, "train")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", HubName("owner/name")),
        ("owner/name-2_v1.1:test", HubName("owner/name-2_v1.1", split="test")),
        ("owner/name/main:test", HubName("owner/name", None, "main", "test")),
        ("hf://datasets/owner/name", HubName("owner/name")),
        ("hf://datasets/owner/name@refs-pr/main", HubName("owner/name", "refs-pr", "main")),
        ("owner/name@v1:train", HubName("owner/name", "v1", None, "train")),
        ("name", None),
        ("/owner/name", None),
        ("./owner/name", None),
        ("../name", None),
        ("a/b/c/d", None),
        ("owner/name:", None),
        ("https://host/name", None),
        ("hf://models/owner/name", None),
        ("", None),
    ],
)
def test_names_of_data_sets_are_told_from_paths(text: str, name: HubName | None) -> None:
    assert HubName.parse(text) == name


def test_a_name_is_written_as_it_is_read() -> None:
    for text in ("owner/name", "owner/name@v1", "owner/name/main:test", "owner/name@v1/main:test"):
        name = HubName.parse(text)
        assert str(name) == text


def make_rows() -> Iterator[dict[str, object]]:
    for number in range(3):
        yield {"prompt": f"Question {number}", "response": "Answer"}


def test_rows_are_streamed_as_often_as_asked() -> None:
    source = open_rows(NAME, IterableDataset.from_generator(make_rows), size_hint=3)
    for _ in range(2):
        assert [row.position for row in source.rows()] == [0, 1, 2]
    assert list(source.rows({0, 1}.__contains__)) == [RawRow(2, 3, {"prompt": "Question 2", "response": "Answer"})]
    assert source.name == "owner/name"
    assert source.fingerprint() == "owner/name@0123abc:train"
    assert source.size_hint == 3


def test_a_stream_that_breaks_says_which_data_set_and_why() -> None:
    def break_off() -> Iterator[dict[str, object]]:
        yield {"prompt": "a"}
        raise TimeoutError("the hub does not answer")

    rows = open_rows(NAME, break_off()).rows()
    assert next(rows) == RawRow(0, 1, {"prompt": "a"})
    with pytest.raises(DataError, match="owner/name@0123abc:train"):
        next(rows)


def test_the_hub_without_datasets_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError) as caught:
        open_hub(NAME)
    assert caught.value.hint == 'pip install "flip-reward[hub]"'


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "train.jsonl": b'{"prompt": "Question 0", "response": "A"}\n{"prompt": "Question 1", "response": "B"}\n',
    "test.jsonl": b'{"prompt": "Question 2", "response": "C"}\n',
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as it takes to stream one data set."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if re.fullmatch(rf"/api/datasets/owner/name(/revision/({COMMIT}|v1))?", path):
            files = [{"rfilename": name} for name in FILES]
            self.answer_json({"id": "owner/name", "sha": COMMIT, "tags": [], "siblings": files})
        elif path == f"/api/datasets/owner/name/tree/{COMMIT}":
            self.answer_json(
                [{"type": "file", "path": name, "size": len(data), "oid": "a" * 40} for name, data in FILES.items()]
            )
        elif path.startswith(f"/datasets/owner/name/resolve/{COMMIT}/") and Path(path).name in FILES:
            self.answer_file(FILES[Path(path).name])
        else:
            error = "EntryNotFound" if "/owner/name/" in path else "RepoNotFound"
            self.answer(404, b"", {"X-Error-Code": error})

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer_json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer_file(self, data: bytes) -> None:
        headers = {"ETag": '"x"', "X-Repo-Commit": COMMIT}
        if wanted := re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = map(int, wanted.groups())
            part = data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            self.answer(206, part, headers)
        else:
            self.answer(200, data, headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub_address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


PROGRAM = """
import json, sys
from flip_reward.errors import DataError
from flip_reward.data.readers import open_input

for name in sys.argv[1:]:
    try:
        source = open_input(name)
        print(json.dumps([source.fingerprint(), *(row.values["prompt"] for row in source.rows())]))
    except DataError as error:
        print(json.dumps([str(error), error.hint]))
"""


@pytest.mark.slow
def test_a_data_set_is_streamed_from_the_hub_at_a_pinned_commit(hub_address: str, tmp_path: Path) -> None:
    names = ["owner/name", "hf://datasets/owner/name@v1:test", "owner/name:nope", "owner/missing", "owner/name/nope"]
    # In another process, because huggingface_hub reads its settings once, when it is imported.
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub_address,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    train, test, no_split, missing, no_config = map(json.loads, done.stdout.splitlines())
    assert train == [f"owner/name@{COMMIT}:train", "Question 0", "Question 1"]
    assert test == [f"owner/name@{COMMIT}:test", "Question 2"]
    assert no_split == ["the data set owner/name:nope has no such split", "its splits are train, test"]
    assert missing[0] == "there is no data set owner/missing on the hub, or it is not public"
    assert "the data set owner/name/nope cannot be read: BuilderConfig 'nope' not found" in no_config[0]


def test_a_hub_that_cannot_be_reached_is_said_at_once() -> None:
    started = time.monotonic()
    assert not is_hub_reachable("http://127.0.0.1:9")
    assert time.monotonic() - started < 5


def test_a_hub_that_answers_anything_is_reachable(hub_address: str) -> None:
    assert is_hub_reachable(hub_address)
