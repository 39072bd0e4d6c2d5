"""Write a LoRA adapter that PEFT saved as one GGUF file, which llama.cpp and both engines of this package load."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.data.files import storage_error
from flip_reward.engines.lora import adapter as lora_file
from flip_reward.engines.lora.adapter import WEIGHTS, BaseModelIdentity, find_adapter, sampled_places
from flip_reward.engines.lora.gguf import GgufLayout
from flip_reward.engines.tuned_folder import TunedFolder
from flip_reward.errors import EngineUnavailableError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import peft
    import torch
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

_TYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What a GGUF adapter says about the model that it is for.

    Attributes:
        config: Its configuration.
        fingerprint: Tells its files apart; empty where they are not known.
        identity: Some of its weights; None where they are not known.
    """

    config: PretrainedConfig
    fingerprint: str = ""
    identity: BaseModelIdentity | None = None


def export_adapter(folder: str, target: Path | None = None) -> Path:
    """Write the adapter in a folder as a GGUF file.

    Args:
        folder: What PEFT or `flip-reward tune-inferrer` saved; MODEL+FOLDER says which model it is for, where the
            folder does not.
        target: The file. None is "adapter.gguf" in the folder.

    Returns:
        The file.

    Raises:
        OptionError: The folder holds no adapter, or one that llama.cpp cannot add to its model.
        EngineUnavailableError: It is damaged, or its model cannot be read.
        DataError: The file that tells its frame is damaged.
        StorageError: The disk is full or not writable.
        MissingDependencyError: PEFT, transformers or gguf is not installed.
    """
    try:
        from flip_reward.engines.huggingface.loading import load_hf_config
    except ImportError as error:
        raise MissingDependencyError(error.name or "transformers", extra="hf") from error
    adapter = find_adapter(folder)
    if adapter is None:
        raise OptionError(f"{folder} holds no adapter", hint=f"it should have {lora_file.CONFIG} and {WEIGHTS}")
    config, fingerprint = load_hf_config(adapter.base)
    identity = BaseModelIdentity.read(adapter.folder)
    target = target or adapter.folder / lora_file.NAME
    tuned = TunedFolder.read(adapter.folder)
    frame = tuned.frame if tuned else ""
    write_lora_file(target, adapter.folder, BaseModel(config, fingerprint, identity), frame=frame)
    return target


def write_lora_file(target: Path, folder: Path, base: BaseModel, *, frame: str = "") -> None:
    """Write the adapter in a folder as a GGUF file, which appears whole or not at all.

    Args:
        target: The file.
        folder: Holds the adapter as PEFT saves it.
        base: The model that it is for.
        frame: The frame that it was tuned with.

    Raises:
        OptionError: llama.cpp cannot add such an adapter to such a model.
        EngineUnavailableError: The adapter is damaged.
        StorageError: The disk is full or not writable.
        MissingDependencyError: gguf is not installed.
    """
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
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise EngineUnavailableError(f"{folder / WEIGHTS} cannot be read: it is damaged") from error
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    writer = gguf.GGUFWriter(unfinished, layout.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(lora_file.ALPHA, float(config.lora_alpha))
    if base.identity is not None:
        writer.add_string(lora_file.BASE_NAME, base.identity.name)
        writer.add_string(lora_file.BASE_WEIGHTS, json.dumps(_sample(base, layout)))
    for key, value in ((lora_file.BASE_FINGERPRINT, base.fingerprint), (lora_file.FRAME, frame)):
        if value:
            writer.add_string(key, value)
    for module in sorted({_module_of(name) for name in weights}):
        _add_matrices(writer, module, weights, config, layout)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        unfinished.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


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
    for ending in (_A, _B):
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
        first, second = (weights[f"{_PREFIX}{module}{ending}"] for ending in (_A, _B))
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
    for ending, matrix in ((lora_file.A, first), (lora_file.B, second)):
        kind = gguf.GGMLQuantizationType[_TYPES[str(matrix.dtype)]]
        writer.add_tensor(name + ending, gguf.quants.quantize(matrix.float().numpy(), kind), raw_dtype=kind)


def _sample(base: BaseModel, layout: GgufLayout) -> dict[str, list[tuple[int, int, float]]]:
    """Say where the weights that tell the model stand in a GGUF file of it: row, place in the row, value."""
    import torch
    from transformers import AutoModelForCausalLM

    if base.identity is None:
        return {}
    with torch.device("meta"):
        shapes = {
            name: weight.shape for name, weight in AutoModelForCausalLM.from_config(base.config).named_parameters()
        }
    sampled = {}
    for parameter, values in base.identity.weights.items():
        try:
            name, (rows, columns) = layout.name(parameter), shapes[parameter]
        except (OptionError, KeyError):
            continue  # the output layer of a model that shares the embedding with it
        turned = {row: number for number, row in enumerate(layout.order(parameter, rows))}
        places = [divmod(place, columns) for place in sampled_places(rows * columns)]
        sampled[name] = [(turned[row], column, value) for (row, column), value in zip(places, values, strict=True)]
    return sampled
