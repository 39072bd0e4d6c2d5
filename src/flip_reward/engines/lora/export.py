"""Write a LoRA adapter that PEFT saved as one GGUF file, which llama.cpp and both engines in this process load."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.data.files import atomic_file
from flip_reward.engines.lora.adapter import (
    ALPHA,
    BASE_FINGERPRINT,
    BASE_NAME,
    BASE_WEIGHTS,
    CONFIG_FILE,
    GGUF_FILE,
    LORA_A,
    LORA_B,
    TEMPLATE,
    WEIGHTS_FILE,
    find_peft_adapter,
)
from flip_reward.engines.lora.base_model import BaseModelIdentity, SampledWeight, SampledWeights
from flip_reward.engines.lora.gguf import GgufLayout
from flip_reward.engines.lora.inferrer import read_inferrer_template
from flip_reward.errors import EngineUnavailableError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import peft
    import torch
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

_TYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
_PREFIX, _PEFT_A, _PEFT_B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class AdapterBase:
    """What a GGUF adapter says about the model that it is for."""

    config: PretrainedConfig
    fingerprint: str = ""
    """Tells its files apart; empty where they are not known."""
    identity: BaseModelIdentity | None = None
    """Some of its weights; None where they are not known."""


def export_adapter(folder: str, target: Path | None = None) -> Path:
    """Write the adapter in a folder as a GGUF file, by default "adapter.gguf" in the folder, and return its path.

    The folder is what PEFT or `flip-reward tune-inferrer` saved; MODEL+FOLDER says which model it is for, where the
    folder does not.
    """
    try:
        from flip_reward.engines.huggingface.loading import load_hf_config
    except ImportError as error:
        raise MissingDependencyError(error.name or "transformers", extra="hf") from error
    adapter = find_peft_adapter(folder)
    if adapter is None:
        raise OptionError(
            f"{folder} does not hold an adapter", hint=f"it should have {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    config, fingerprint = load_hf_config(adapter.base)
    identity = BaseModelIdentity.read(adapter.folder)
    target = target or adapter.folder / GGUF_FILE
    template = read_inferrer_template(adapter.folder) or ""
    write_gguf_adapter(target, adapter.folder, AdapterBase(config, fingerprint, identity), template=template)
    return target


def write_gguf_adapter(target: Path, folder: Path, base: AdapterBase, *, template: str = "") -> None:
    """Write the adapter in a folder as a GGUF file, which appears whole or not at all."""
    try:
        import gguf
        import peft
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(error.name or "peft", extra="hf") from error
    layout = GgufLayout.of(base.config)
    config = peft.PeftConfig.from_pretrained(str(folder))
    _check_kind(config)
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise EngineUnavailableError(f"{folder / WEIGHTS_FILE} cannot be read: it is damaged") from error
    writer = gguf.GGUFWriter(None, layout.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(ALPHA, float(config.lora_alpha))
    if base.identity is not None:
        writer.add_string(BASE_NAME, base.identity.name)
        writer.add_string(BASE_WEIGHTS, json.dumps(_sample(base, layout)))
    for key, value in ((BASE_FINGERPRINT, base.fingerprint), (TEMPLATE, template)):
        if value:
            writer.add_string(key, value)
    for module in sorted({_module_of(name) for name in weights}):
        _add_matrices(writer, module, weights, config, layout)
    with atomic_file(target) as file:
        writer.write_header_to_file(Path(file.name))
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _check_kind(config: peft.PeftConfig) -> None:
    unknown = {
        "DoRA": config.use_dora,
        "biases": config.bias != "none",
        "whole layers (modules_to_save)": bool(config.modules_to_save),
        "transposed weights": config.fan_in_fan_out,
    }
    if found := [name for name, is_there in unknown.items() if is_there]:
        raise OptionError(f"an adapter with {' and '.join(found)} cannot be written as GGUF")


def _module_of(name: str) -> str:
    for ending in (_PEFT_A, _PEFT_B):
        if name.startswith(_PREFIX) and name.endswith(ending):
            return name.removeprefix(_PREFIX).removesuffix(ending)
    raise OptionError(f"an adapter with {name} cannot be written as GGUF", hint="only linear layers can be")


def _add_matrices(
    writer: GGUFWriter,
    module: str,
    weights: Mapping[str, torch.Tensor],
    config: peft.PeftConfig,
    layout: GgufLayout,
) -> None:
    import gguf
    from peft.utils.other import get_pattern_key

    try:
        first, second = (weights[f"{_PREFIX}{module}{ending}"] for ending in (_PEFT_A, _PEFT_B))
    except KeyError as error:
        raise EngineUnavailableError(f"the adapter lacks {error.args[0]}: it is damaged") from error
    rank = len(first)
    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)
    # llama.cpp multiplies by the one alpha of the file divided by the rank; what differs from that goes in here.
    factor = alpha / config.lora_alpha * (math.sqrt(rank) if config.use_rslora else 1.0)
    if factor != 1:
        second = second * factor
    second = second[list(layout.order(module, len(second)))]
    name = layout.name(f"{module}.weight")
    for ending, matrix in ((LORA_A, first), (LORA_B, second)):
        kind = gguf.GGMLQuantizationType[_TYPES[str(matrix.dtype)]]
        writer.add_tensor(name + ending, gguf.quants.quantize(matrix.float().numpy(), kind), raw_dtype=kind)


def _sample(base: AdapterBase, layout: GgufLayout) -> SampledWeights:
    """Return the weights that identify the model, by their positions in a GGUF file of it."""
    import torch
    from transformers import AutoModelForCausalLM

    if base.identity is None:
        return {}
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(base.config)
    shapes = {name: (weight.shape[0], weight.shape[-1]) for name, weight in network.named_parameters()}
    sampled = {}
    for parameter, weights in base.identity.locate(shapes.get).items():
        try:
            name = layout.name(parameter)
        except OptionError:
            continue  # the output layer of a model that shares the embedding with it
        place = {row: number for number, row in enumerate(layout.order(parameter, shapes[parameter][0]))}
        sampled[name] = [SampledWeight(place[one.row], one.column, one.value) for one in weights]
    return sampled
