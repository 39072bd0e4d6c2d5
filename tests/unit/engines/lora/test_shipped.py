"""The adapter that comes with the package: what is there is whole and fits, and the machinery refuses what is not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flip_reward.engines.config import EngineConfig, find_tuning
from flip_reward.engines.files import locate_model
from flip_reward.engines.loading import resolve_engine
from flip_reward.engines.lora.adapter import GgufAdapter
from flip_reward.engines.lora.base_model import GgufWeights
from flip_reward.engines.lora.export import AdapterBase, write_gguf_adapter
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.engines.lora.shipped import FOLDER, MAX_BYTES, SHIPPED, ShippedAdapter, Tuning, locate_shipped
from flip_reward.errors import DataError, OptionError
from flip_reward.rewards.config import RewardConfig
from tests.gguf_models import save_adapter, save_gguf
from tests.hf_models import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and an adapter for it that was tuned with the template "compact"."""
    from transformers import AutoConfig

    folder = tmp_path_factory.mktemp("models")
    base = save_model(folder / "base")
    save_gguf(base, folder / "base.gguf")
    adapter = save_adapter(folder / "adapter", base)
    write_gguf_adapter(
        adapter / "adapter.gguf", adapter, AdapterBase(AutoConfig.from_pretrained(base)), template="compact"
    )
    return folder


def pin(folder: Path) -> ShippedAdapter:
    content = (folder / "adapter/adapter.gguf").read_bytes()
    return ShippedAdapter("adapter.gguf", hashlib.sha256(content).hexdigest(), Tuning("compact"))


def test_its_bytes_are_checked(folder: Path, tmp_path: Path) -> None:
    pinned = pin(folder)
    assert locate_shipped(pinned, folder / "adapter") == folder / "adapter/adapter.gguf"
    content = (folder / "adapter/adapter.gguf").read_bytes()
    (tmp_path / "adapter.gguf").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="is damaged: its SHA-256 is") as caught:
        locate_shipped(pinned, tmp_path)
    assert "smollm2-135m" in str(caught.value.hint)
    with pytest.raises(DataError, match="cannot be read"):
        locate_shipped(pinned, tmp_path / "absent")
    assert locate_shipped(None) is None


def test_the_default_model_is_tuned_and_its_plain_name_is_not() -> None:
    assert locate_model("smollm2-135m").adapter is None
    assert locate_model("embedded").adapter == locate_shipped()
    assert locate_model("embedded").path == locate_model("smollm2-135m").path


@pytest.mark.skipif(SHIPPED is None, reason="no adapter comes with this version")
def test_what_is_shipped_is_small_fits_and_is_described() -> None:
    path = locate_shipped()
    assert path is not None
    assert path.stat().st_size <= MAX_BYTES
    adapter = GgufAdapter.read(path)
    adapter.check(GgufWeights(GgufFile.read(locate_model("smollm2-135m").path), "smollm2-135m"))
    assert SHIPPED is not None
    assert adapter.template == SHIPPED.tuning.template
    assert SHIPPED.sha256 in (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_tuned_model_is_asked_as_it_was_tuned(folder: Path) -> None:
    names = [
        f"{folder / 'base.gguf'}+{folder / 'adapter'}",
        f"transformers:{folder / 'base'}+{folder / 'adapter/adapter.gguf'}",
        f"transformers:{folder / 'adapter'}",
    ]
    for name in names:
        config = EngineConfig(name)
        assert find_tuning(config, {}) == Tuning("compact")
        for reward in ("flip", "backward-likelihood"):
            assert RewardConfig(model=name, reward=reward).check().settings["template"] == "compact"
        assert RewardConfig(model=name, template="direct").check().settings["template"] == "direct"
        assert RewardConfig(model=name, reward="pointwise").check().settings["template"] == "pointwise"
    expected = SHIPPED.tuning if SHIPPED else None
    for named in (None, "embedded", "openvino:embedded", "llama.cpp:embedded"):
        assert find_tuning(EngineConfig(named), {}) == expected
    served = {"OPENAI_BASE_URL": "http://localhost:8000/v1"}
    assert find_tuning(EngineConfig(), served) is None
    assert find_tuning(EngineConfig("embedded", "http://localhost:8000/v1"), {}) is None
    assert find_tuning(EngineConfig("openvino:smollm2-135m"), served) is None
    assert find_tuning(EngineConfig("scripted"), {}) is None


def test_the_default_takes_no_second_adapter(folder: Path) -> None:
    adapter = folder / "adapter/adapter.gguf"
    with pytest.raises(OptionError, match="may have an adapter already") as caught:
        resolve_engine(EngineConfig(f"embedded+{adapter}"))
    assert caught.value.hint == f"write smollm2-135m+{adapter}"
