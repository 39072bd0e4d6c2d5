from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flip_reward.data.tables.push import check_push, push_table
from flip_reward.errors import OptionError, StorageError


class Hub(ThreadingHTTPServer):
    """Keeps what is committed, as the hub does for small files. It knows one data set or makes it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.made: list[dict[str, object]] = []
        self.files: dict[str, bytes] = {}
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_arguments: object) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuses:
            return self._answer(403, {"error": "this token may only read"})
        if self.path.endswith("/repos/create"):
            wanted = json.loads(body)
            known = wanted in self.server.made
            self.server.made.append(wanted)
            return self._answer(409 if known else 200, {"url": f"{self.server.address}/datasets/anna/rewards"})
        if "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
            return self._answer(200, {"files": [{**one, "shouldIgnore": False} for one in files]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._answer(
            200, {"commitUrl": f"{self.server.address}/datasets/anna/rewards/commit/1", "commitOid": "1"}
        )

    def _answer(self, status: int, content: dict[str, object]) -> None:
        self.send_response(status)
        body = json.dumps(content).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield server
        server.shutdown()


def test_a_table_is_pushed_and_pushed_again_in_its_place(hub: Hub, tmp_path: Path) -> None:
    for content in (b"PAR1 one", b"PAR1 two"):
        (tmp_path / "rows.parquet").write_bytes(content)
        assert push_table(tmp_path / "rows.parquet", "anna/rewards").endswith("/datasets/anna/rewards")
        assert list(hub.files.values()) == [content]
    assert hub.made[0]["visibility"] == "private"


def test_a_refusal_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.refuses = True
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="anna/rewards") as caught:
        push_table(tmp_path / "rows.parquet", "anna/rewards")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rows", "a/b/c", "../x", "a/", "anna/re wards", "hf://datasets/a/b"])
def test_a_name_that_is_none_is_found_before_the_run(name: str) -> None:
    with pytest.raises(OptionError, match="owner/name"):
        check_push(name)


def test_a_missing_token_is_found_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(OptionError, match="token"):
        check_push("anna/rewards")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    check_push("anna/rewards")
