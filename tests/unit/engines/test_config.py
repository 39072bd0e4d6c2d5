import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Request
from flip_reward.engines.cache import default_cache_path
from flip_reward.engines.config import EngineConfig, split_engine_options
from flip_reward.engines.loading import load_engine, resolve_engine
from flip_reward.engines.middleware import EngineMiddleware
from flip_reward.errors import DataError, EngineServerError, EngineUnavailableError, OptionError
from tests.http.fault_server import Fault, FaultServer, at_first

SERVER = {"OPENAI_BASE_URL": "http://localhost:8000/v1", "OPENAI_API_KEY": "sk-test-key"}


def test_a_server_named_or_in_the_environment() -> None:
    for config, environment in (
        (EngineConfig("m", "http://localhost:8000/v1", cache="off"), {}),
        (EngineConfig("m", cache="off"), SERVER),
    ):
        engine = resolve_engine(config, environment)
        assert engine.identity.startswith("chat-completions m ")


def test_a_model_of_this_process_ignores_the_server_in_the_environment(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        resolve_engine(EngineConfig(str(tmp_path / "model.gguf")), SERVER)


@pytest.mark.parametrize("named", [None, "embedded", "llama.cpp:embedded"])
def test_the_default_is_the_embedded_model(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    engine = resolve_engine(EngineConfig(named, slots=1, context_tokens=128, cache="off"), {})
    assert engine.model == "smollm2-135m+infer-en-1"
    assert engine.identity.startswith("embedded/smollm2-135m+infer-en-1/")


def test_where_openvino_is_installed_it_runs_the_embedded_model() -> None:
    pytest.importorskip("openvino_genai")
    engine = resolve_engine(EngineConfig(context_tokens=128, cache="off"), {})
    assert engine.model == "smollm2-135m+infer-en-1"
    assert engine.identity.startswith("openvino/smollm2-135m+infer-en-1/")


def test_a_broken_openvino_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openvino_genai.py").write_text("raise ImportError('libopenvino.so: wrong version')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino_genai", raising=False)
    with pytest.raises(EngineUnavailableError, match=r"libopenvino\.so") as caught:
        resolve_engine(EngineConfig("embedded", cache="off"), {})
    assert "llama.cpp:NAME" in str(caught.value.hint)


def test_options_reach_the_server() -> None:
    config = EngineConfig("m", "http://h/v1", extra_body={"top_k": 5}, no_thinking=True, cache="off")
    identity = resolve_engine(config, {}).identity
    assert '"top_k":5' in identity
    assert '"enable_thinking":false' in identity
    assert resolve_engine(replace(config, keep_marks=True), {}).identity == f"{identity} keep-marks"


@pytest.mark.parametrize(
    ("config", "environment", "message"),
    [
        (EngineConfig("embeded"), {}, "did you mean 'embedded'"),
        (EngineConfig("Qwen/Qwen3-4B"), {}, "in this process"),
        (EngineConfig(None, "http://h/v1"), {}, "which model"),
        (EngineConfig("m", "http://h/v1", logprobs_api="vllm"), {}, "named 'vllm'"),
        (EngineConfig("m", "localhost:8000"), {}, "base-url is not an http address"),
        (EngineConfig("m", "http://h/v1", dtype="float32"), {}, "the model 'm' has no option 'dtype'"),
        (EngineConfig("m", device="cpu"), SERVER, "no option 'device'"),
        (EngineConfig("embedded", batch_tokens=64), {}, "the model 'embedded' has no option 'batch tokens'"),
        (EngineConfig("embedded", extra_body={"top_k": 5}), {}, "no option 'extra body'"),
        (EngineConfig("transformers:x", slots=2), {}, "no option 'slots'"),
        (EngineConfig("openvino:embedded", slots=2), {}, "no option 'slots'"),
        (EngineConfig("openvino:embeded"), {}, "did you mean 'embedded'"),
        (EngineConfig("llama.cpp:embeded"), SERVER, "did you mean 'embedded'"),
        (EngineConfig("llama.cpp:embedded", "http://h/v1"), {}, "no option 'base url'"),
        (EngineConfig("openvino:embedded", "http://h/v1"), {}, "no option 'base url'"),
        (EngineConfig("transformers:x", "http://h/v1"), {}, "no option 'base url'"),
        (EngineConfig(None), {"OPENAI_BASE_URL": "http://bob:hunter2@h/v1"}, "which model"),
    ],
)
def test_what_does_not_name_an_engine(config: EngineConfig, environment: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        resolve_engine(config, environment)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_an_engine_by_its_model_and_settings() -> None:
    assert load_engine("m", base_url="http://h/v1", no_thinking=True).model == "m"
    with pytest.raises(OptionError, match="'slots'"):
        load_engine("m", base_url="http://h/v1", slots=2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"foo": 1}, "no option 'foo'"),
        ({"concurency": 8}, "did you mean 'concurrency'"),
        ({"concurrency": "many"}, "concurrency: "),
        ({"concurrency": 0}, "concurrency: "),
        ({"model": 5}, "model: "),
    ],
)
def test_a_wrong_setting_of_an_engine_is_said_in_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        load_engine(**{"model": "scripted", **settings})
    assert "\n" not in str(caught.value)


def test_on_a_gpu_the_tokens_of_a_batch_limit_what_is_computed_at_once() -> None:
    def count(model: str, **settings: Any) -> int:
        return EngineConfig(model, **settings).requests_at_once

    assert count("transformers:m", device="cuda:1") > count("transformers:m", device="cpu") == 64
    assert count("m", base_url="http://h/v1") == 64
    assert count("transformers:m", device="cuda:1", concurrency=3) == 3


def test_the_scripted_model_stands_in_for_any_other() -> None:
    config = EngineConfig("scripted", "http://h/v1", dtype="float32", slots=3, extra_body={"top_k": 5})
    assert resolve_engine(config, {}).model == "scripted"


def test_of_options_that_models_share_each_takes_its_own() -> None:
    chosen = EngineConfig(dtype="float32", threads=2, context_tokens=512, no_thinking=True)
    models = [
        replace(chosen, model=name) for name in ("m", "embedded", "openvino:embedded", "transformers:m", "scripted")
    ]
    server, embedded, openvino, transformers, scripted = split_engine_options(
        models, {"OPENAI_BASE_URL": "http://h/v1"}
    )
    assert server == EngineConfig("m", no_thinking=True)
    assert embedded == EngineConfig("embedded", threads=2, context_tokens=512, no_thinking=True)
    assert openvino == replace(embedded, model="openvino:embedded")
    assert transformers == EngineConfig("transformers:m", dtype="float32", context_tokens=512, no_thinking=True)
    assert scripted == models[-1]
    with pytest.raises(OptionError, match=r"none of the models \('m', 'embedded'\) has the option 'dtype'"):
        split_engine_options(models[:2], {"OPENAI_BASE_URL": "http://h/v1"})


def test_the_cache_is_where_it_is_wanted(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.sqlite3"
    default = {"FLIP_REWARD_CACHE": str(tmp_path / "default.sqlite3")}
    for config, environment, path in (
        (EngineConfig("m", "http://h/v1", cache=str(chosen)), {}, chosen),
        (EngineConfig("m", "http://h/v1", cache="off"), default, None),
        (EngineConfig("m", "http://h/v1", cache=None), {"FLIP_REWARD_CACHE": "off"}, None),
    ):
        engine = resolve_engine(config, environment)
        assert isinstance(engine, EngineMiddleware)
        assert (path is not None) == chosen.exists()
        chosen.unlink(missing_ok=True)


@pytest.mark.parametrize("damage", ["no folder", "not SQLite", "cut off"])
def test_a_default_cache_that_cannot_be_used_is_left_out_and_a_named_one_is_an_error(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FLIP_REWARD_CACHE", raising=False)
    path = default_cache_path()
    assert path.is_relative_to(tmp_path)
    if damage == "no folder":
        path.parent.write_text("a file where the folder would be")
    else:
        path.parent.mkdir()
        path.write_bytes(b"something else" if damage == "not SQLite" else b"SQLite format 3\0" + bytes(7))
    left = path.parent.read_bytes() if path.parent.is_file() else path.read_bytes()
    engine = resolve_engine(EngineConfig("m", "http://h/v1"), {})
    assert engine.model == "m"
    [warning] = caplog.records
    assert str(path) in warning.getMessage()
    for config, environment in (
        (EngineConfig("m", "http://h/v1", cache=str(path)), {}),
        (EngineConfig("m", "http://h/v1"), {"FLIP_REWARD_CACHE": str(path)}),
    ):
        with pytest.raises(OptionError, match="response cache"):
            resolve_engine(config, environment)
    assert left == (path.parent.read_bytes() if path.parent.is_file() else path.read_bytes())


async def test_a_request_is_sent_as_often_as_is_chosen() -> None:
    request = Request((Message("user", "Hi."),))
    with FaultServer(at_first(Fault.UNAVAILABLE)) as server:
        config = EngineConfig(server.model, server.base_url, max_attempts=1, cache="off")
        once, again = (resolve_engine(replace(config, max_attempts=attempts), {}) for attempts in (1, 2))
        with pytest.raises(EngineServerError):
            await once.complete(request)
        assert (await again.complete(request)).attempts == 1
    await once.aclose()
    await again.aclose()


async def test_a_failure_that_may_pass_is_tried_again() -> None:
    with FaultServer(at_first(Fault.UNAVAILABLE)) as server:
        engine = resolve_engine(EngineConfig(server.model, server.base_url, max_attempts=2, cache="off"), {})
        assert (await engine.complete(Request((Message("user", "Hi."),)))).attempts == 2
        await engine.aclose()
