"""One adapter in both engines: what llama.cpp computes with it is what the merged Hugging Face model computes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM as AnyModel
from transformers import LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from flip_reward.core.conversation import Message
from flip_reward.engines.base import LogprobRequest, Sampling
from flip_reward.engines.files import locate_model
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.huggingface.inference import generate_rows
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.engines.huggingface.text import HfPromptTokenizer, find_stops
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.llama_cpp.slot import LlamaSlot, SlotOptions
from flip_reward.engines.llama_cpp.text import GgufPromptTokenizer
from flip_reward.engines.lora.export import export_adapter
from tests.gguf_models import save_adapter, save_gguf
from tests.hf_models import save_model

pytest.importorskip("xllamacpp")

RESPONSES = (
    "Apples, pears and plums grow on trees.",
    "Yes.",
    "Obst: Äpfel, Birnen und Pflaumen.",
    "1. Wash the pears.\n2. Cut them.\n\n```python\nprint('plums')\n```",
    "水果 苹果 🍎",
    "Name three fruits that grow on trees, please." * 3,
    "  trees  \t grow  ",
    "<|user|>Answer in one short sentence.<end><bos>",
    "THE QUESTION WAS: WHAT IS A NAME?",
    "null \x00 and \ud800 half a pair",
)
CHATS = [(Message("user", f"Response: {response} Which instruction produced it?"),) for response in RESPONSES]
QUESTIONS = [LogprobRequest(chat, "Name three fruits, 水果.") for chat in CHATS] + [
    LogprobRequest(f"{response}\nThe question was:", " Wie heißt das?\n") for response in RESPONSES
]


class Exact:
    """A llama.cpp slot that remembers in float32, as transformers does."""

    def __init__(self, model: Path, adapter: Path | None) -> None:
        self._slot = LlamaSlot(model, SlotOptions(512, 1, {}, adapter, exact_cache=True))
        self._text = GgufPromptTokenizer(model, {})

    def score(self, question: LogprobRequest) -> tuple[float, ...]:
        text = self._text.split(question)
        return self._slot.score(text).values

    def generate(self, prompt: Sequence[int], stops: Sequence[int]) -> list[int]:
        """Take the likeliest token each time. llama.cpp does not tell of tokens that are no whole characters."""
        plain = self._text.split(LogprobRequest("a", " b")).plain
        tokens: list[int] = []
        while len(tokens) < 16 and tokens[-1:] != [stops[0]]:
            answer = self._slot.server.handle_completions(
                {
                    "prompt": [*prompt, *tokens],
                    "max_tokens": 1,
                    "temperature": 0,
                    "logprobs": 1,
                    "grammar": f"root ::= <[{plain}]>",
                }
            )
            [told] = answer["choices"][0]["logprobs"]["content"]
            tokens.append(told["top_logprobs"][0]["id"])
        return tokens


class Merged:
    """The model that transformers runs with the adapter added to its weights."""

    def __init__(self, model: str) -> None:
        self._engine = TransformersEngine(model, dtype="float32", device="cpu")

    def score(self, question: LogprobRequest) -> tuple[float, ...]:
        return asyncio.run(self._engine.logprobs(question)).values


def save_kind(folder: Path, config: type[PretrainedConfig]) -> Path:
    """Save a model of another kind than a Llama beside the same tokenizer."""
    save_model(folder)
    tiny = LlamaConfig.from_pretrained(folder)
    torch.manual_seed(0)
    sizes = {
        name: getattr(tiny, name)
        for name in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
            "initializer_range",
        )
    }  # fmt: skip
    AnyModel.from_config(config(**sizes, head_dim=8)).save_pretrained(folder)
    return folder


KINDS = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_the_merged_model(tmp_path: Path, kind: str) -> None:
    base = save_kind(tmp_path / "base", KINDS[kind])
    adapter = save_adapter(tmp_path / "adapter", base)
    file = export_adapter(str(adapter))
    model = save_gguf(base, tmp_path / "base.gguf")
    llama, merged, plain = Exact(model, file), Merged(str(adapter)), Exact(model, None)
    for question in QUESTIONS:
        values = llama.score(question)
        assert values == pytest.approx(merged.score(question), abs=2e-4)
        assert values != pytest.approx(plain.score(question), abs=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model as a folder and as a GGUF file, and an adapter for it in both forms."""
    folder = tmp_path_factory.mktemp("models")
    save_gguf(save_model(folder / "base"), folder / "base.gguf")
    export_adapter(str(save_adapter(folder / "adapter", folder / "base")))
    return folder


def test_ten_replies_are_those_of_the_merged_model_token_by_token(folder: Path) -> None:
    check_replies(folder / "base.gguf", folder / "adapter/adapter.gguf", str(folder / "adapter"), CHATS)


def check_replies(model: Path, adapter: Path, merged: str, chats: Sequence[tuple[Message, ...]]) -> None:
    loaded = load_hf_model(merged, dtype="float32", device="cpu")
    text, stops = HfPromptTokenizer(loaded.tokenizer, "merged"), find_stops(loaded.network, loaded.tokenizer)
    prompts = [text.encode(text.render(chat)) for chat in chats]
    llama = Exact(model, adapter)
    replies = [llama.generate(prompt, stops) for prompt in prompts]
    for prompt, reply in zip(prompts, replies, strict=True):
        [expected] = generate_rows(loaded.network, [prompt], Sampling(max_tokens=16), [0], stops)
        assert reply == expected
    assert len({tuple(reply) for reply in replies}) == len(chats)


@pytest.mark.slow
def test_the_default_model_with_an_adapter(tmp_path: Path) -> None:
    """SmolLM2 itself, in float32 in both engines, with an adapter of random weights as small as tuned ones."""
    file = locate_model("smollm2-135m")
    loaded = load_hf_model("smollm2-135m", dtype="float32", device="cpu")
    base = tmp_path / "base"
    loaded.network.save_pretrained(base)
    loaded.tokenizer.save_pretrained(base)
    folder = save_adapter(tmp_path / "adapter", base, spread=0.02)
    adapter = export_adapter(str(folder))
    exact = save_float32(file.path, tmp_path / "float32.gguf")
    llama, merged = Exact(exact, adapter), Merged(str(folder))
    for question in QUESTIONS[::4]:
        assert llama.score(question) == pytest.approx(merged.score(question), abs=2e-3)
    check_replies(exact, adapter, str(folder), CHATS[::3])


def save_float32(quantised: Path, path: Path) -> Path:
    """Copy a GGUF file with its weights in float32."""
    reader = gguf.GGUFReader(quantised)
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "general.file_type"):
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_file_serves_both_engines_and_every_form_of_the_base(folder: Path) -> None:
    file = folder / "adapter/adapter.gguf"
    names = [f"{base}+{file}" for base in (folder / "base", folder / "base.gguf")]
    names += [f"{folder / 'base.gguf'}+{folder / 'adapter'}", str(folder / "adapter")]
    scores: list[Sequence[float]] = [Merged(name).score(QUESTIONS[0]) for name in names]
    assert all(values == pytest.approx(scores[0], abs=1e-5) for values in scores)


def test_the_engine_adds_it_and_says_so(folder: Path) -> None:
    plain = EmbeddedEngine(folder / "base.gguf", slots=1, context_tokens=256)
    adapted = EmbeddedEngine(
        folder / "base.gguf", adapter_path=folder / "adapter/adapter.gguf", slots=1, context_tokens=256
    )
    assert adapted.model == "base.gguf+adapter"
    assert adapted.identity != plain.identity
    values = [asyncio.run(engine.logprobs(QUESTIONS[0])).values for engine in (plain, adapted)]
    assert values[0] != pytest.approx(values[1], abs=0.1)
    plain.close()
    adapted.close()
