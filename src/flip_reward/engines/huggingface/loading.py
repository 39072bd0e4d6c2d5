"""Load a causal language model or a reward model with Hugging Face transformers: from a folder, the hub or a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from flip_reward.engines.files import DEFAULT_NAMES, can_load_from_hub, fingerprint_file, locate_model
from flip_reward.engines.lora.adapter import GgufAdapter, PeftAdapter, find_gguf_adapter, find_peft_adapter
from flip_reward.engines.machine import count_usable_cpus, has_fast_bfloat16
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
    """A model in memory."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    """Identifies the files."""
    context_tokens: int
    pads: bool
    """Prompts of different lengths can be continued together."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a model is."""

    name: str
    place: str
    """A folder, or `owner/name` on the hub."""
    fingerprint: str | None
    """Identifies its files; None on the hub, where the commit is known after loading."""
    revision: str | None = None
    gguf_file: str | None = None
    adapter: Path | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What every `from_pretrained` is called with."""
        return {"gguf_file": self.gguf_file, "revision": self.revision or "main", "trust_remote_code": False}


def load_hf_model(
    model: str, *, dtype: str = "auto", device: str | None = None, context_tokens: int | None = None
) -> HfModel:
    """Load a model and its tokenizer. Only safetensors and GGUF weights are read, and no code of a model is run.

    `model` is a folder, a GGUF file, `owner/name` or `owner/name@revision` on the hub, `hf://owner/repo/file.gguf`,
    or "smollm2-135m", the model of the extra "local". A folder may hold a LoRA adapter, which knows its model;
    MODEL+FOLDER names another place of it, and MODEL+ADAPTER.gguf adds one in the GGUF format. The dtype "auto" is
    bfloat16 where the processor has it, else float16 on a GPU and float32 on a CPU. By default the first GPU is used,
    and texts as long as the model was trained for, up to 8192 tokens.
    """
    _require_libraries()
    _check_dtype(dtype)
    source, adapter = _resolve(model)
    target = _choose_device(device)
    tokenizer = _load_tokenizer(source, adapter)
    network = _load_network(source, target, _choose_dtype(target, dtype))
    name, fingerprint = source.name, source.fingerprint or str(getattr(network.config, "_commit_hash", None))
    if adapter is not None:
        with _explained(f"{name}+{adapter.name}"):
            if isinstance(adapter, PeftAdapter):
                network = adapter.merge(network)
            else:
                adapter.merge(network, name, fingerprint)
        name, fingerprint = f"{name}+{adapter.name}", f"{fingerprint}+{adapter.fingerprint}"
    network = network.to(target).eval()
    _clear_generation_defaults(network)
    pads = _try_out(network, name)
    return HfModel(network, tokenizer, name, fingerprint, _limit_context(network, tokenizer, context_tokens), pads)


@dataclass(frozen=True, slots=True)
class HfClassifier:
    """A trained reward model in memory."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    context_tokens: int


def load_hf_classifier(
    model: str, *, dtype: str = "auto", device: str | None = None, context_tokens: int | None = None
) -> HfClassifier:
    """Load a model with a head that classifies, and its tokenizer, under the same rules as `load_hf_model`.

    `model` is a folder, `owner/name` or `owner/name@revision` on the hub.

    Raises:
        EngineUnavailableError: Weights are missing, those of the head above all, which would be random.
    """
    _require_libraries()
    _check_dtype(dtype)
    if find_peft_adapter(model) is not None or find_gguf_adapter(model) is not None:
        raise OptionError(
            f"{model}: adapters of reward models are not read",
            hint="merge it into its model, and name the merged model's folder",
        )
    if model in DEFAULT_NAMES or model.startswith("hf://") or model.endswith(".gguf"):
        raise OptionError(
            f"{model!r} is a GGUF file, which holds no reward model", hint="name its safetensors folder"
        )
    source = _locate(model)
    target = _choose_device(device)
    tokenizer = _load_tokenizer(source, None)
    network = _load_network(source, target, _choose_dtype(target, dtype), classifies=True)
    fingerprint = source.fingerprint or str(getattr(network.config, "_commit_hash", None))
    limit = min(_limit_context(network, tokenizer, context_tokens), tokenizer.model_max_length)
    for module in network.modules():  # RoBERTa counts positions from behind its padding
        table: Any = getattr(module, "position_embeddings", None)
        if getattr(table, "padding_idx", None) is not None:
            limit = min(limit, table.num_embeddings - table.padding_idx - 1)
    _compute_head_exactly(network)
    return HfClassifier(network.to(target).eval(), tokenizer, source.name, fingerprint, limit)


def _compute_head_exactly(network: PreTrainedModel) -> None:
    """Let everything behind the base model compute in float32: numbers of bfloat16 are 1/16 apart above 8."""
    import torch

    def widen(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple([one.float() if torch.is_tensor(one) and one.is_floating_point() else one for one in inputs])

    if network.base_model is not network:
        for module in network.children():
            if module is not network.base_model:
                module.float().register_forward_pre_hook(widen)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise OptionError(f"there is no dtype {dtype!r} for a model", hint=f"it is one of {', '.join(DTYPES)}")


def _require_libraries() -> None:
    for package in ("accelerate", "torch", "transformers"):  # transformers needs the first for GGUF files
        if find_spec(package) is None:
            raise MissingDependencyError(package, extra="hf")


def _resolve(model: str) -> tuple[_Source, PeftAdapter | GgufAdapter | None]:
    """Find the model and the adapter that a name means."""
    peft_adapter = find_peft_adapter(model)
    if peft_adapter is not None:
        return _locate(peft_adapter.base), peft_adapter
    lora = find_gguf_adapter(model)
    source = _locate(lora.base if lora else model)
    path = lora.path if lora else source.adapter
    return source, None if path is None else GgufAdapter.read(path)


def _load_tokenizer(source: _Source, adapter: PeftAdapter | GgufAdapter | None) -> PreTrainedTokenizerBase:
    import transformers

    with _explained(source.name), _quiet(source):
        tokenizer: PreTrainedTokenizerBase
        if isinstance(adapter, PeftAdapter) and adapter.has_tokenizer:
            tokenizer = transformers.AutoTokenizer.from_pretrained(adapter.folder, trust_remote_code=False)
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.place, **source.options)
    if not tokenizer.is_fast:
        raise EngineUnavailableError(
            f"the tokenizer of {source.name} cannot say where its tokens stand in a text",
            hint="a tokenizer.json is needed",
        )
    return tokenizer


def _load_network(
    source: _Source, device: torch.device, dtype: torch.dtype, *, classifies: bool = False
) -> PreTrainedModel:
    import torch
    import transformers

    if device.type == "cpu":
        torch.set_num_threads(min(torch.get_num_threads(), count_usable_cpus()))
    unpack = {"quantization_config": transformers.GgufConfig(dequantize=True)} if source.gguf_file else {}
    with _explained(source.name), _quiet(source):
        kind = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
        network, report = kind.from_pretrained(
            source.place, dtype=dtype, use_safetensors=True, output_loading_info=True, **source.options, **unpack
        )
        network = network.to(device)
    _check_kind(network, source.name, report["missing_keys"], classifies=classifies)
    loaded: PreTrainedModel = network
    return loaded


def _check_kind(network: PreTrainedModel, name: str, missing: Collection[str], *, classifies: bool) -> None:
    """Refuse a model that is of another kind than it was loaded as, whose numbers would mean nothing."""
    made_as = " ".join(network.config.architectures or ())
    is_classifier = _CLASSIFIER.search(made_as) is not None
    if not classifies and is_classifier:  # one whose input and output embeddings are tied lacks no weights
        raise EngineUnavailableError(
            f"{name} is a reward model or another classifier ({made_as}), and predicts no tokens",
            hint="choose --reward trained",
        )
    if classifies and "TokenClassification" in made_as:  # its head has the same name
        raise EngineUnavailableError(
            f"{name} rates each token of a text ({made_as}), and a reward is one number for all of it",
            hint=_A_REWARD_MODEL,
        )
    heads = [key for key in missing if not key.startswith(f"{network.base_model_prefix}.")]
    if classifies and heads:  # transformers would make one of random numbers
        raise EngineUnavailableError(
            f"{name} is no reward model: its files hold no head that rates a text ({min(heads)})",
            hint=_A_REWARD_MODEL,
        )
    if missing:
        raise EngineUnavailableError(
            f"{name} lacks {len(missing)} weights, such as {min(missing)}",
            hint="the files are incomplete, or of another kind of model",
        )


_CLASSIFIER = re.compile(r"Classification|Reward")
_A_REWARD_MODEL = "name one that was trained for it, such as transformers:Skywork/Skywork-Reward-V2-Qwen3-0.6B"


def _clear_generation_defaults(network: PreTrainedModel) -> None:
    """Keep the stop tokens alone: what else a model suggests, such as penalties, would change its replies."""
    import transformers

    network.generation_config = transformers.GenerationConfig(eos_token_id=network.generation_config.eos_token_id)


def _try_out(network: PreTrainedModel, name: str) -> bool:
    """Check that a model is causal, and return whether it generates from padded prompts."""
    from flip_reward.engines.huggingface.inference import generates_from_padded_prompts, is_causal

    with _explained(name):
        if not is_causal(network):
            raise EngineUnavailableError(
                f"{name} is not a causal language model: what it says of a text depends on what comes later"
            )
        return generates_from_padded_prompts(network)


def load_hf_config(model: str) -> tuple[PretrainedConfig, str]:
    """Load the configuration of a model, which must not be an adapter, and the fingerprint of its files."""
    _require_libraries()
    import transformers

    source = _locate(model)
    with _explained(source.name), _quiet(source):
        config = transformers.AutoConfig.from_pretrained(source.place, **source.options)
    return config, source.fingerprint or str(getattr(config, "_commit_hash", None))


def _locate(model: str) -> _Source:
    """Find a model by its name, downloading GGUF files where need be."""
    if model in DEFAULT_NAMES or model.endswith(".gguf") or model.startswith("hf://"):
        file = locate_model(model)
        return _Source(
            file.name, str(file.path.parent), fingerprint_file(file.path), None, file.path.name, file.adapter
        )
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise OptionError(f"{folder} does not hold a model: it has no config.json")
        return _Source(folder.resolve().name, str(folder), _fingerprint_folder(folder))
    if folder.exists() or _HUB_NAME.fullmatch(model) is None:
        raise OptionError(
            f"{model!r} does not name a model", hint="it is a folder, a GGUF file or owner/name on the hub"
        )
    name, _, revision = model.partition("@")
    if not can_load_from_hub(name, "config.json", revision or None):
        raise EngineUnavailableError(
            f"{model} is not on this machine, and the Hugging Face hub cannot be reached",
            hint="download it elsewhere and name its folder",
        )
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


def _choose_dtype(device: torch.device, dtype: str) -> torch.dtype:
    import torch

    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float32 if device.type == "cpu" else torch.float16


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
            hint="a tokenizer and whole safetensors or GGUF files are needed, and an architecture that transformers "
            "itself has",
        ) from error


@contextmanager
def _quiet(source: _Source) -> Iterator[None]:
    """Hide progress bars and notes about files on disk; a download may show its progress."""
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
