"""Adapters in GGUF files: what is said of damaged ones, and of those for another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from flip_reward.engines.config import EngineConfig
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.loading import resolve_engine
from flip_reward.engines.lora.adapter import WEIGHTS_FILE, GgufAdapter, find_gguf_adapter
from flip_reward.engines.lora.base_model import GgufWeights
from flip_reward.engines.lora.export import export_adapter
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.errors import DataError, EngineUnavailableError, OptionError
from tests.gguf_models import save_adapter, save_gguf
from tests.hf_models import save_model

Q8 = gguf.GGMLQuantizationType.Q8_0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_gguf(save_model(folder / "base"), folder / "base.gguf")
    export_adapter(str(save_adapter(folder / "adapter", folder / "base")))
    return folder


def save_other(folder: Path, *, factor: float = 1.0, seed: int | None = None) -> Path:
    """Save a model of the same shape with other weights."""
    save_model(folder)
    weights = load_file(folder / "model.safetensors")
    chance = torch.Generator().manual_seed(seed or 0)
    changed = {
        name: weight * factor if seed is None else torch.randn(weight.shape, generator=chance)
        for name, weight in weights.items()
    }
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder


def check(adapter: Path, model: Path) -> None:
    GgufAdapter.read(adapter).check(GgufWeights(GgufFile.read(model), model.name))


def test_it_knows_its_model_in_every_form(folder: Path, tmp_path: Path) -> None:
    file = folder / "adapter/adapter.gguf"
    check(file, folder / "base.gguf")
    check(file, save_gguf(folder / "base", tmp_path / "q8.gguf", quantisation=Q8))


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "adapter/adapter.gguf"
    tuned, other = save_other(tmp_path / "tuned", factor=1.02), save_other(tmp_path / "other", seed=7)
    message = r"the adapter adapter belongs to base, which .* is not: their weights differ"
    for model in (
        save_gguf(tuned, tmp_path / "tuned.gguf"),
        save_gguf(other, tmp_path / "other.gguf"),
        save_gguf(other, tmp_path / "other-q8.gguf", quantisation=Q8),
    ):
        with pytest.raises(EngineUnavailableError, match=message):
            EmbeddedEngine(model, adapter_path=file, slots=1, context_tokens=256)
    for base in (tuned, other):
        with pytest.raises(EngineUnavailableError, match=message):
            load_hf_model(f"{base}+{file}", device="cpu")


def test_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(folder / "base")
    network.config.intermediate_size = 96
    wide = save_model(tmp_path / "wide")
    AutoModelForCausalLM.from_config(network.config).save_pretrained(wide)
    with pytest.raises(EngineUnavailableError, match=r"blk\.0\.ffn_down\.weight has another shape"):
        check(folder / "adapter/adapter.gguf", save_gguf(wide, tmp_path / "wide.gguf"))
    with pytest.raises(EngineUnavailableError, match=r"blk\.0\.ffn_down\.weight has another shape"):
        load_hf_model(f"{wide}+{folder / 'adapter/adapter.gguf'}", device="cpu")


def test_one_made_elsewhere_only_has_to_fit(folder: Path, tmp_path: Path) -> None:
    file = export_adapter(str(save_adapter(tmp_path / "adapter", folder / "base", identity=False)))
    check(file, folder / "base.gguf")
    check(file, save_gguf(save_other(tmp_path / "other", seed=7), tmp_path / "other.gguf"))


@pytest.mark.parametrize("kept", [0, 3, 40, 900, -1])
def test_half_an_adapter_is_refused(folder: Path, tmp_path: Path, kept: int) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes((folder / "adapter/adapter.gguf").read_bytes()[:kept])
    with pytest.raises(DataError, match=r"half\.gguf"):
        EmbeddedEngine(folder / "base.gguf", adapter_path=half, slots=1, context_tokens=256)
    with pytest.raises(DataError, match=r"half\.gguf"):
        load_hf_model(f"{folder / 'base'}+{half}", device="cpu")


def test_a_model_is_no_adapter(folder: Path) -> None:
    with pytest.raises(DataError, match=r"base\.gguf"):
        GgufAdapter.read(folder / "base.gguf")


def test_a_folder_without_the_file_says_how_to_make_it(folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", folder / "base")
    with pytest.raises(DataError, match="was not written as GGUF") as caught:
        resolve_engine(EngineConfig(f"{folder / 'base.gguf'}+{adapter}"))
    assert caught.value.hint == f"flip-reward export-adapter {adapter}"
    with pytest.raises(DataError, match="there is no file"):
        resolve_engine(EngineConfig(f"{folder / 'base.gguf'}+{tmp_path / 'absent.gguf'}"))


@pytest.mark.slow
def test_names(folder: Path) -> None:
    file = folder / "adapter/adapter.gguf"
    for name in (f"smollm2-135m+{file}", f"smollm2-135m+{file.parent}"):
        found = find_gguf_adapter(name)
        assert found is not None
        assert (found.base, found.path) == ("smollm2-135m", file)
    engine = resolve_engine(EngineConfig(f"{folder / 'base.gguf'}+{file.parent}", slots=1, context_tokens=256))
    assert engine.model == "base.gguf+adapter"
    odd = folder / "a+b.gguf"
    odd.touch()
    assert find_gguf_adapter(str(odd)) is None


class TestExport:
    def test_the_same_bytes_every_time(self, folder: Path, tmp_path: Path) -> None:
        again = export_adapter(str(folder / "adapter"), tmp_path / "again.gguf")
        assert again.read_bytes() == (folder / "adapter/adapter.gguf").read_bytes()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"use_dora": True}, "DoRA"),
            ({"bias": "all"}, "biases"),
            ({"modules_to_save": ["lm_head"]}, "whole layers"),
            ({"target_modules": ["embed_tokens"]}, "embed_tokens"),
        ],
    )
    def test_what_llama_cpp_cannot_add(
        self, folder: Path, tmp_path: Path, options: dict[str, Any], message: str
    ) -> None:
        adapter = save_adapter(tmp_path / "adapter", folder / "base", **options)
        with pytest.raises(OptionError, match=message):
            export_adapter(str(adapter))
        assert not (adapter / "adapter.gguf").exists()

    @pytest.mark.parametrize(
        "options",
        [
            {"use_rslora": True},
            {"alpha_pattern": {"q_proj": 16}, "rank_pattern": {"layers.1.mlp.up_proj": 8}},
            {"target_modules": ["q_proj", "v_proj"]},
        ],
    )
    def test_every_kind_of_scale(self, folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
        adapter = save_adapter(tmp_path / "adapter", folder / "base", **options)
        file = export_adapter(str(adapter))
        merged, added = (
            load_hf_model(name, dtype="float32", device="cpu").network.state_dict()
            for name in (str(adapter), f"{folder / 'base'}+{file}")
        )
        assert all(torch.allclose(merged[name], added[name], atol=1e-5) for name in merged)

    def test_damage(self, folder: Path, tmp_path: Path) -> None:
        adapter = save_adapter(tmp_path / "adapter", folder / "base")
        weights = load_file(adapter / WEIGHTS_FILE)
        save_file({name: weight for name, weight in weights.items() if name != min(weights)}, adapter / WEIGHTS_FILE)
        with pytest.raises(EngineUnavailableError, match=r"lacks .*lora_A"):
            export_adapter(str(adapter))
        (adapter / WEIGHTS_FILE).write_bytes(b"half")
        with pytest.raises(EngineUnavailableError, match="damaged"):
            export_adapter(str(adapter))

    def test_no_adapter(self, folder: Path) -> None:
        with pytest.raises(OptionError, match="base"):
            export_adapter(str(folder / "base"))

    def test_another_kind_of_model(self, folder: Path, tmp_path: Path) -> None:
        adapter = save_adapter(tmp_path / "adapter", folder / "base")
        config = folder / "base/config.json"
        text = config.read_text()
        strange = tmp_path / "strange"
        strange.mkdir()
        (strange / "config.json").write_text(text.replace('"model_type": "llama"', '"model_type": "gpt_neox"'))
        with pytest.raises(OptionError, match="'gpt_neox'"):
            export_adapter(f"{strange}+{adapter}")
