"""Writes a tuned model: an adapter with the identity of its base model, or all weights; and the tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save as serialize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from flip_reward.data.files import storage_error, write_atomically
from flip_reward.engines.lora.adapter import CONFIG_FILE, GGUF_FILE, WEIGHTS_FILE
from flip_reward.engines.lora.base_model import BASE_FILE, BaseModelIdentity
from flip_reward.engines.lora.export import AdapterBase, write_gguf_adapter
from flip_reward.engines.lora.inferrer import INFERRER, describe_inferrer
from flip_reward.errors import OptionError, StorageError

_UNFINISHED = ".unfinished"


def save_adapter(
    folder: Path,
    network: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    base: str,
    identity: BaseModelIdentity,
    fingerprint: str,
    template: str,
    dtype: torch.dtype,
) -> str | None:
    """Save a LoRA adapter as PEFT has it, and as a GGUF file; return why there is no GGUF file, None where there is.

    After an error nothing in the folder looks like a model.
    """
    unfinished = _begin(folder)
    config = network.peft_config["default"]
    config.base_model_name_or_path = base
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)  # the same bytes every time
    weights = get_peft_model_state_dict(network, save_embedding_layers=False)
    saved = {name: weight.detach().to("cpu", dtype).contiguous() for name, weight in weights.items()}
    try:
        write_atomically(unfinished / WEIGHTS_FILE, serialize(saved, metadata={"format": "pt"}))
        tokenizer.save_pretrained(unfinished)
        write_atomically(unfinished / BASE_FILE, identity.model_dump_json(indent=2).encode() + b"\n")
        config.save_pretrained(str(unfinished))
        _write_template(unfinished, template)
        model = AdapterBase(network.get_base_model().config, fingerprint, identity)
        try:
            write_gguf_adapter(unfinished / GGUF_FILE, unfinished, model, template=template)
            reason = None
        except OptionError as error:
            reason = str(error)
        _publish(unfinished, last=CONFIG_FILE)
    except (OSError, SafetensorError, StorageError) as error:
        raise _cannot_write(folder, error) from error
    return reason


def save_model(
    folder: Path, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, template: str, dtype: torch.dtype
) -> None:
    """Save all weights of a model; arguments as for `save_adapter`."""
    unfinished = _begin(folder)
    try:
        tokenizer.save_pretrained(unfinished)
        network.to(dtype).save_pretrained(unfinished)
        _write_template(unfinished, template)
        _publish(unfinished, last="config.json")
    except (OSError, SafetensorError, StorageError) as error:
        raise _cannot_write(folder, error) from error


def _write_template(folder: Path, template: str) -> None:
    if template:
        write_atomically(folder / INFERRER, describe_inferrer(template))


def _begin(folder: Path) -> Path:
    unfinished = folder / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
    except OSError as error:
        raise storage_error(unfinished, error) from error
    return unfinished


def _publish(unfinished: Path, *, last: str) -> None:
    """Move the files up; the one that makes a folder a model comes last."""
    mode = (unfinished / last).stat().st_mode
    for file in sorted(unfinished.iterdir(), key=lambda file: (file.name == last, file.name)):
        file.chmod(mode)  # weights are written for their owner alone
        file.replace(unfinished.parent / file.name)
    unfinished.rmdir()


def _cannot_write(folder: Path, error: Exception) -> StorageError:
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
    reason = str(error).partition("\n")[0]
    return StorageError(
        f"cannot write the tuned model to {folder}: {reason}",
        hint="the last checkpoint is kept, and the same command goes on from it",
    )
