"""Load a causal language model with Hugging Face transformers: from a folder, the hub or a GGUF file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from flip_reward.engines.files import DEFAULT_NAMES, fingerprint_file, locate_model
from flip_reward.engines.lora.adapter import LoraFile, apply_adapter, find_adapter, find_lora_file
from flip_reward.engines.machine import count_usable_cpus
from flip_reward.errors import EngineUnavailableError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")
MAX_DEFAULT_CONTEXT_TOKENS = 8192
MAX_REASON_CHARACTERS = 300
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class HfModel:
    """A model in memory.

    Attributes:
        network: The model itself, ready for inference.
        tokenizer: Its tokenizer, which knows where in the text each token stands.
        name: What records call it.
        fingerprint: Tells the files apart from those of other models.
        context_tokens: The most tokens of one text.
        pads: Prompts of unlike length can be continued together.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    context_tokens: int
    pads: bool


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    place: str
    fingerprint: str | None
    revision: str | None = None
    gguf_file: str | None = None
    adapter: Path | None = None


def load_hf_model(
    model: str, *, dtype: str = "auto", device: str | None = None, context_tokens: int | None = None
) -> HfModel:
    """Load a model and its tokenizer.

    Only safetensors and GGUF weights are read, and no code that comes with a model is run.

    Args:
        model: A folder, a GGUF file, `owner/name` or `owner/name@revision` on the hub, `hf://owner/repo/file.gguf`,
            or "smollm2-135m", the model of the extra "local". A folder may hold a LoRA adapter, which knows its
            model; MODEL+FOLDER names another place of it, and MODEL+ADAPTER.gguf adds one in the GGUF format.
        dtype: "auto" takes bfloat16 where the processor has it, else float16 on a GPU and float32 on a CPU.
        device: Such as "cuda:1" or "cpu". None takes the first GPU, or else the CPU.
        context_tokens: The most tokens of one text. None takes what the model was trained for, at most 8192.

    Raises:
        OptionError: There is no such model, dtype or device.
        EngineUnavailableError: It cannot be loaded: files are missing or damaged, it wants code of its own, or it is
            an adapter for another model.
        MissingDependencyError: torch, transformers or accelerate is not installed.
    """
    try:
        import accelerate  # noqa: F401 - transformers needs it for GGUF files, and says so late
        import torch
        import transformers

        from flip_reward.engines.huggingface.inference import generates_from_padded_prompts, is_causal
    except ImportError as error:
        raise MissingDependencyError(error.name or "transformers", extra="hf") from error
    if dtype not in DTYPES:
        raise OptionError(f"there is no dtype {dtype!r} for a model", hint=f"take one of {', '.join(DTYPES)}")
    place = _choose_device(device)
    precision = _choose_dtype(place) if dtype == "auto" else getattr(torch, dtype)
    adapter = find_adapter(model)
    lora = find_lora_file(model) if adapter is None else None
    source = _locate(adapter.base if adapter else lora.base if lora else model)
    lora_path = lora.path if lora else source.adapter
    common = {
        "gguf_file": source.gguf_file,
        "revision": source.revision or "main",
        "trust_remote_code": False,
    }
    packed = {"quantization_config": transformers.GgufConfig(dequantize=True)} if source.gguf_file else {}
    if place.type == "cpu":
        torch.set_num_threads(min(torch.get_num_threads(), count_usable_cpus()))
    with _explained(source.name), _quiet(source):
        if adapter is not None and adapter.has_tokenizer:
            tokenizer = transformers.AutoTokenizer.from_pretrained(adapter.folder, trust_remote_code=False)
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.place, **common)
        network, report = transformers.AutoModelForCausalLM.from_pretrained(
            source.place, dtype=precision, use_safetensors=True, output_loading_info=True, **common, **packed
        )
        network = network.to(place)
    if report["missing_keys"]:
        raise EngineUnavailableError(
            f"{source.name} lacks {len(report['missing_keys'])} weights, such as {min(report['missing_keys'])}",
            hint="the files are incomplete, or of another kind of model",
        )
    name, fingerprint = source.name, source.fingerprint or str(getattr(network.config, "_commit_hash", None))
    if adapter is not None:
        name, fingerprint = f"{name}+{adapter.folder.resolve().name}", f"{fingerprint}+{adapter.fingerprint}"
        with _explained(name):
            network = apply_adapter(network, adapter)
    elif lora_path is not None:
        from flip_reward.engines.lora.adapter import merge_lora_file

        file = LoraFile.read(lora_path)
        merge_lora_file(network, file, name, fingerprint)
        name, fingerprint = f"{name}+{file.name}", f"{fingerprint}+{fingerprint_file(file.path)}"
    network = network.to(place).eval()
    # Whatever else a model wants to be generated with by default, such as penalties, would change its replies.
    network.generation_config = transformers.GenerationConfig(eos_token_id=network.generation_config.eos_token_id)
    if not tokenizer.is_fast:
        raise EngineUnavailableError(
            f"the tokenizer of {source.name} cannot say where its tokens stand in a text",
            hint="a tokenizer.json is needed",
        )
    limit = _limit_context(network, tokenizer, context_tokens)
    with _explained(name):
        if not is_causal(network):
            raise EngineUnavailableError(
                f"{name} is no causal language model: what it says of a text depends on what comes later"
            )
        pads = generates_from_padded_prompts(network)
    return HfModel(network, tokenizer, name, fingerprint, limit, pads)


def load_hf_config(model: str) -> tuple[PretrainedConfig, str]:
    """Load the configuration of a model without its weights, and what tells its files apart.

    Args:
        model: As for `load_hf_model`, but no adapter.

    Raises:
        OptionError: There is no such model.
        EngineUnavailableError: Its configuration cannot be read.
        MissingDependencyError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(error.name or "transformers", extra="hf") from error
    source = _locate(model)
    with _explained(source.name), _quiet(source):
        config = transformers.AutoConfig.from_pretrained(
            source.place, gguf_file=source.gguf_file, revision=source.revision or "main", trust_remote_code=False
        )
    return config, source.fingerprint or str(getattr(config, "_commit_hash", None))


def _locate(model: str) -> _Source:
    """Find out what a name means, downloading GGUF files where need be."""
    if model in DEFAULT_NAMES or model.endswith(".gguf") or model.startswith("hf://"):
        file = locate_model(model)
        return _Source(
            file.name, str(file.path.parent), fingerprint_file(file.path), None, file.path.name, file.adapter
        )
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise OptionError(f"{folder} holds no model: it has no config.json")
        return _Source(folder.resolve().name, str(folder), _fingerprint_folder(folder))
    if folder.exists() or _HUB_NAME.fullmatch(model) is None:
        raise OptionError(
            f"{model!r} is no model for transformers", hint="name a folder, a GGUF file or owner/name on the hub"
        )
    name, _, revision = model.partition("@")
    return _Source(model, name, None, revision or None)


def _fingerprint_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.jinja")]):
        digest.update(f"{file.name} {fingerprint_file(file)}\n".encode())
    return digest.hexdigest()[:16]


def _choose_device(device: str | None) -> torch.device:
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"there is no device {device!r} here", hint='for example "cpu" or "cuda:0"') from error
    return chosen


def _choose_dtype(device: torch.device) -> torch.dtype:
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def _limit_context(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    trained = getattr(network.config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    return min(int(trained), wanted or MAX_DEFAULT_CONTEXT_TOKENS)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn the many errors of loading into one that says which model it was."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = shorten(str(error), MAX_REASON_CHARACTERS, placeholder=" ...")
        raise EngineUnavailableError(
            f"transformers cannot load {name}: {reason}",
            hint="a tokenizer and whole safetensors or GGUF files are needed, and a kind of model that transformers "
            "itself knows",
        ) from error


@contextmanager
def _quiet(source: _Source) -> Iterator[None]:
    """Keep bars and notes about files on disk to ourselves; a download may show its progress."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if source.fingerprint is not None:
        logging.disable_progress_bar()
    # The bar of GGUF files is not one of those that can be disabled.
    hidden = redirect_stderr(StringIO()) if source.gguf_file else nullcontext()
    try:
        with hidden:
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
