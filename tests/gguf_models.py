"""The small models of `hf_models` as GGUF files, as llama.cpp's own converter writes them, and adapters for them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from flip_reward.engines.lora.base_model import BASE_FILE, BaseModelIdentity
from flip_reward.engines.lora.gguf import GgufLayout

NORMAL, CONTROL, USER_DEFINED = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED


def save_gguf(
    folder: Path,
    path: Path,
    *,
    quantisation: gguf.GGMLQuantizationType | None = None,
    adds_bos: bool = False,
    adds_eos: bool = False,
) -> Path:
    """Write the model in a folder, which has a byte-level tokenizer, as a GGUF file in float32 or quantised."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = network.config
    layout = GgufLayout.of(config)
    writer = gguf.GGUFWriter(path, layout.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(layout.heads)
    writer.add_head_count_kv(layout.key_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // layout.heads
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, folder)
    writer.add_add_bos_token(adds_bos)
    writer.add_add_eos_token(adds_eos)
    names = gguf.get_tensor_name_map(
        next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == layout.architecture), layout.layers
    )
    for parameter, weight in network.named_parameters():
        name = names.get_name(parameter, try_suffixes=(".weight", ".bias"))
        assert name is not None, parameter
        values = weight.detach().numpy()
        if weight.ndim == 2:
            values = values[list(layout.order(parameter, len(values)))]
        if weight.ndim == 2 and quantisation is not None:
            writer.add_tensor(name, gguf.quants.quantize(values, quantisation), raw_dtype=quantisation)
        else:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    added = tokenizer.added_tokens_decoder.values()
    kinds = {token.content: CONTROL if token.special else USER_DEFINED for token in added}
    writer.add_token_types([kinds.get(token, NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def save_adapter(folder: Path, base: Path, *, identity: bool = True, spread: float = 0.3, **options: Any) -> Path:
    """Save an adapter of random weights, the same every time, that changes what the model in a folder computes."""
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    folder.mkdir()
    if identity:
        (folder / BASE_FILE).write_text(BaseModelIdentity.of(base.name, network).model_dump_json())
    settings = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    adapted = add_random_adapter(network, peft.LoraConfig(**settings), spread=spread)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that embeddings are saved where they are tuned
        adapted.save_pretrained(str(folder))
    return folder


def add_random_adapter(network: PreTrainedModel, config: peft.LoraConfig, *, spread: float) -> peft.PeftModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about how PEFT uses transformers
        adapted = peft.get_peft_model(network, config)
    chance = torch.Generator().manual_seed(1)
    for name, weight in sorted(adapted.named_parameters()):
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=chance) * spread
    return adapted
