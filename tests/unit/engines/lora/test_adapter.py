from __future__ import annotations

import asyncio
import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from flip_reward.engines.base import LogprobRequest
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.engines.lora.adapter import CONFIG_FILE, WEIGHTS_FILE, find_peft_adapter
from flip_reward.engines.lora.base_model import BASE_FILE, BaseModelIdentity
from flip_reward.errors import EngineUnavailableError, OptionError
from tests.hf_models import save_model

TEXT = LogprobRequest("Apples, pears and plums grow on trees. The question was:", " Name three fruits.")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return save_adapter(tmp_path / "adapter", base)


def save_adapter(folder: Path, base: Path, *, identity: bool = True) -> Path:
    """Save an adapter of random weights that changes what the model computes."""
    network = load_hf_model(str(base), dtype="float32", device="cpu").network
    if identity:
        folder.mkdir()
        (folder / BASE_FILE).write_text(BaseModelIdentity.of("base", network).model_dump_json())
    with pytest.warns(FutureWarning):
        adapted = peft.get_peft_model(
            network, peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        )
    adapted.save_pretrained(str(folder))
    return folder


def ask(model: str | Path) -> tuple[float, ...]:
    engine = TransformersEngine(str(model), dtype="float32", device="cpu")
    try:
        return asyncio.run(engine.logprobs(TEXT)).values
    finally:
        engine.close()


def test_it_computes_what_peft_computes(base: Path, adapter: Path) -> None:
    loaded = load_hf_model(str(base), dtype="float32", device="cpu")
    with pytest.warns(FutureWarning):
        adapted = peft.PeftModel.from_pretrained(loaded.network, str(adapter))
    assert isinstance(TEXT.prefix, str)
    tokens = loaded.tokenizer(TEXT.prefix + TEXT.continuation).input_ids
    with torch.inference_mode():
        logprobs = adapted(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
    values = ask(adapter)
    count = len(values)
    expected = [float(logprobs[place - 1, tokens[place]]) for place in range(len(tokens) - count, len(tokens))]
    assert values == pytest.approx(expected, abs=1e-4)
    assert values != pytest.approx(ask(base), abs=1e-2)


def test_names_tell_base_and_adapter(base: Path, adapter: Path) -> None:
    loaded, plain = load_hf_model(str(adapter), device="cpu"), load_hf_model(str(base), device="cpu")
    assert loaded.name == "base+adapter"
    assert loaded.fingerprint.startswith(plain.fingerprint + "+")


def test_another_place_of_the_same_model(tmp_path: Path, base: Path, adapter: Path) -> None:
    values = ask(adapter)
    moved = base.rename(tmp_path / "moved")
    assert ask(f"{moved}+{adapter}") == values


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_base_is_known_in_every_precision(adapter: Path, dtype: str) -> None:
    load_hf_model(str(adapter), dtype=dtype, device="cpu")


def test_another_base_model_is_refused(tmp_path: Path, base: Path, adapter: Path) -> None:
    other = save_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file(
        {name: weight * 1.02 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(EngineUnavailableError, match=r"belongs to base, which .*other is not: their weights differ"):
        load_hf_model(f"{other}+{adapter}", device="cpu")
    load_hf_model(f"{base}+{adapter}", device="cpu")


def test_an_adapter_from_elsewhere_has_to_fit(tmp_path: Path, base: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, identity=False)
    ask(adapter)
    weights = load_file(adapter / WEIGHTS_FILE)
    first = min(weights)
    save_file({name: weight for name, weight in weights.items() if name != first}, adapter / WEIGHTS_FILE)
    with pytest.raises(EngineUnavailableError, match="lacks 1 weights"):
        load_hf_model(str(adapter), device="cpu")
    save_file({**weights, "base_model.model.model.layers.9.lora_A.weight": torch.zeros(1)}, adapter / WEIGHTS_FILE)
    with pytest.raises(EngineUnavailableError, match="has unknown 1 weights"):
        load_hf_model(str(adapter), device="cpu")
    save_file({name: weight[:1] for name, weight in weights.items()}, adapter / WEIGHTS_FILE)
    with pytest.raises(EngineUnavailableError, match=r"cannot be added to .*base"):
        load_hf_model(str(adapter), device="cpu")


class TestDamage:
    def test_weights(self, adapter: Path) -> None:
        (adapter / WEIGHTS_FILE).write_bytes((adapter / WEIGHTS_FILE).read_bytes()[:500])
        with pytest.raises(EngineUnavailableError, match=r"cannot be added to .*base"):
            load_hf_model(str(adapter), device="cpu")

    def test_weights_that_are_no_numbers(self, adapter: Path) -> None:
        weights = load_file(adapter / WEIGHTS_FILE)
        weights[min(weights)][0, 0] = float("nan")
        save_file(weights, adapter / WEIGHTS_FILE)
        with pytest.raises(EngineUnavailableError, match=r"cannot be added to .*base"):
            load_hf_model(str(adapter), device="cpu")

    def test_a_rank_that_would_fill_the_memory(self, adapter: Path) -> None:
        settings = json.loads((adapter / CONFIG_FILE).read_bytes())
        (adapter / CONFIG_FILE).write_text(json.dumps({**settings, "r": 10**12}))
        with pytest.raises(EngineUnavailableError, match="its rank is larger"):
            load_hf_model(str(adapter), device="cpu")

    def test_pickled_weights_are_not_read(self, adapter: Path) -> None:
        (adapter / WEIGHTS_FILE).rename(adapter / "adapter_model.bin")
        with pytest.raises(EngineUnavailableError, match=r"lacks adapter_model\.safetensors"):
            load_hf_model(str(adapter), device="cpu")

    @pytest.mark.parametrize("text", ["{", "[]"])
    def test_configuration(self, adapter: Path, text: str) -> None:
        (adapter / CONFIG_FILE).write_text(text)
        with pytest.raises(EngineUnavailableError, match=CONFIG_FILE):
            load_hf_model(str(adapter), device="cpu")

    def test_identity(self, adapter: Path) -> None:
        (adapter / BASE_FILE).write_text("{}")
        with pytest.raises(EngineUnavailableError, match=r"base_model\.json cannot be read"):
            load_hf_model(str(adapter), device="cpu")

    def test_another_kind_of_adapter(self, adapter: Path) -> None:
        (adapter / CONFIG_FILE).write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
        with pytest.raises(EngineUnavailableError, match=r"adapter is not a LoRA"):
            find_peft_adapter(str(adapter))

    def test_no_base(self, adapter: Path) -> None:
        settings = json.loads((adapter / CONFIG_FILE).read_text())
        (adapter / CONFIG_FILE).write_text(json.dumps({**settings, "base_model_name_or_path": None}))
        with pytest.raises(OptionError, match="does not say for which model") as caught:
            find_peft_adapter(str(adapter))
        assert caught.value.hint == f"write MODEL+{adapter}"


def test_other_names_are_no_adapters(base: Path) -> None:
    assert find_peft_adapter(str(base)) is None
    assert find_peft_adapter("owner/a+b") is None
