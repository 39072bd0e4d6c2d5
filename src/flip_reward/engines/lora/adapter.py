"""LoRA adapters: small weights that are added to those of the one model they were tuned with.

`PeftAdapter` is a folder as PEFT saves it, which transformers alone can load; `GgufAdapter` is one GGUF file, which
llama.cpp loads, and transformers for the kinds of models that `GgufLayout` knows.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.lora.base_model import (
    BaseModelIdentity,
    BaseWeights,
    GgufWeights,
    HfWeights,
    SampledWeights,
    find_difference,
)
from flip_reward.engines.lora.gguf import GgufFile, GgufLayout
from flip_reward.errors import DataError, EngineUnavailableError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
"""The files of PEFT."""
GGUF_FILE = "adapter.gguf"
"""The GGUF file beside them."""

ALPHA = "adapter.lora.alpha"
BASE_NAME, BASE_FINGERPRINT, BASE_WEIGHTS, TEMPLATE = (
    f"flip_reward.{key}" for key in ("base_name", "base_fingerprint", "base_weights", "frame")
)
LORA_A, LORA_B = ".lora_a", ".lora_b"
"""Endings of the two matrices of a tensor in a GGUF adapter."""

_DAMAGED = "it is damaged, or was made for another kind of model"


@dataclass(frozen=True, slots=True)
class ModelWithAdapter:
    """MODEL+ADAPTER, taken apart: the model, and the adapter's GGUF file."""

    base: str
    path: Path


def find_gguf_adapter(model: str) -> ModelWithAdapter | None:
    """Find the GGUF adapter in a name: MODEL+FILE.gguf, or MODEL+FOLDER with such a file in it."""
    base, plus, name = model.rpartition("+")
    if not plus or not base or Path(model).expanduser().is_file():
        return None
    path = Path(name).expanduser()
    if (path / GGUF_FILE).is_file() or (path / CONFIG_FILE).is_file():
        return ModelWithAdapter(base, path / GGUF_FILE)
    return ModelWithAdapter(base, path) if name.endswith(".gguf") else None


def find_peft_adapter(model: str) -> PeftAdapter | None:
    """Find the PEFT adapter in a name: its folder, or MODEL+FOLDER to say which model it is for."""
    base, plus, path = model.rpartition("+")
    if not plus or not (Path(path).expanduser() / CONFIG_FILE).is_file():
        base, path = "", model
    folder = Path(path).expanduser()
    if not (folder / CONFIG_FILE).is_file():
        return None
    settings = _read_settings(folder)
    if settings.get("peft_type") != "LORA":
        raise EngineUnavailableError(f"the adapter in {folder} is not a LoRA adapter")
    if not (folder / WEIGHTS_FILE).is_file():
        raise EngineUnavailableError(
            f"the adapter in {folder} lacks {WEIGHTS_FILE}",
            hint="only safetensors are read; weights in other files are not",
        )
    base = base or str(settings.get("base_model_name_or_path") or "")
    if not base:
        raise OptionError(f"the adapter in {folder} does not say for which model it is", hint=f"write MODEL+{path}")
    return PeftAdapter(folder, base)


def _read_settings(folder: Path) -> Mapping[str, object]:
    try:
        settings = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EngineUnavailableError(f"{folder / CONFIG_FILE} cannot be read: it is damaged") from error
    if not isinstance(settings, dict):
        raise EngineUnavailableError(f"{folder / CONFIG_FILE} is not an adapter's configuration")
    return settings


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter as PEFT saves it."""

    folder: Path
    base: str
    """The model it is added to, as `load_hf_model` takes it."""

    @property
    def name(self) -> str:
        """What records call it."""
        return self.folder.resolve().name

    @property
    def fingerprint(self) -> str:
        """Identifies the adapter's files."""
        digest = hashlib.sha256()
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            digest.update(fingerprint_file(self.folder / name).encode())
        return digest.hexdigest()[:16]

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was saved with it."""
        return (self.folder / "tokenizer.json").is_file()

    def merge(self, network: PreTrainedModel) -> PreTrainedModel:
        """Add it to a model for good, so that the model computes as fast as without."""
        adapted = self.attach(network)
        try:
            merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
        except ValueError as error:  # weights that are no numbers
            raise EngineUnavailableError(
                f"the adapter in {self.folder} cannot be added to {self.base}: {error}", hint=_DAMAGED
            ) from error
        return merged

    def attach(self, network: PreTrainedModel, *, trainable: bool = False) -> PeftModel:
        """Put it beside the weights of a model, which is changed."""
        try:
            import peft
        except ImportError as error:
            raise MissingDependencyError("peft", extra="hf") from error
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self._check(network)
        try:
            weights = load_file(self.folder / WEIGHTS_FILE)
            config = peft.PeftConfig.from_pretrained(str(self.folder))
            _check_rank(config, weights)
            config.base_model_name_or_path = None
            config.inference_mode = not trainable
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # about how PEFT uses transformers
                adapted = peft.get_peft_model(network, config)
            loaded = peft.set_peft_model_state_dict(adapted, weights)
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EngineUnavailableError(
                f"the adapter in {self.folder} cannot be added to {self.base}: {reason}", hint=_DAMAGED
            ) from error
        missing = [name for name in loaded.missing_keys if "lora_" in name]
        for what, names in (("lacks", missing), ("has unknown", loaded.unexpected_keys)):
            if names:
                raise EngineUnavailableError(
                    f"the adapter in {self.folder} {what} {len(names)} weights, such as {min(names)}", hint=_DAMAGED
                )
        return adapted

    def _check(self, network: PreTrainedModel) -> None:
        identity = BaseModelIdentity.read(self.folder)
        if identity is None:
            return  # only the shapes can be checked
        base = HfWeights(network, self.base)
        missing = [parameter for parameter in identity.weights if base.shape(parameter) is None]
        difference = f"the model has no {min(missing)}" if missing else None
        difference = difference or find_difference(identity.locate(base.shape), base)
        if difference is not None:
            raise _wrong_base(f"in {self.folder}", identity.name, base, difference)


def _check_rank(config: PeftConfig, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse a rank for which PEFT would fill the memory before it compares shapes."""
    if max([config.r, *config.rank_pattern.values()]) > max(map(len, weights.values()), default=0):
        raise ValueError("its rank is larger than any of its weights")


@dataclass(frozen=True, slots=True)
class GgufAdapter:
    """An adapter in a GGUF file."""

    file: GgufFile
    base_name: str
    base_fingerprint: str
    """Identifies the file of its model, where it was tuned with one file."""
    base_weights: SampledWeights
    """Some of its model's weights; none for adapters made elsewhere."""

    @classmethod
    def read(cls, path: Path) -> GgufAdapter:
        """Read what an adapter says about itself."""
        if not path.is_file() and (path.parent / CONFIG_FILE).is_file():
            raise DataError(
                f"the adapter in {path.parent} was not written as GGUF",
                hint=f"flip-reward export-adapter {path.parent}",
            )
        file = GgufFile.read(path)
        metadata = file.metadata
        if metadata.get("general.type") != "adapter" or metadata.get("adapter.type") != "lora":
            raise DataError(f"{path} does not hold a LoRA adapter")
        alpha = metadata.get(ALPHA)
        if not file.tensors or not isinstance(alpha, float) or not math.isfinite(alpha):
            raise DataError(f"{path} is damaged: it has no weights or no {ALPHA}")
        try:
            base_weights = TypeAdapter(SampledWeights).validate_json(str(metadata.get(BASE_WEIGHTS, "{}")))
        except ValidationError as error:
            raise DataError(f"{path} is damaged: {BASE_WEIGHTS} cannot be read") from error
        return cls(file, str(metadata.get(BASE_NAME, "")), str(metadata.get(BASE_FINGERPRINT, "")), base_weights)

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def name(self) -> str:
        """What records call it: its file, or the folder where that is its own."""
        return self.path.resolve().parent.name if self.path.name == GGUF_FILE else self.path.stem

    @property
    def fingerprint(self) -> str:
        """Identifies the adapter's files."""
        return fingerprint_file(self.path)

    @property
    def template(self) -> str | None:
        """The template of this package that it was tuned with, where it says so."""
        return str(self.file.metadata.get(TEMPLATE, "")) or None

    @property
    def targets(self) -> list[str]:
        """The tensors of the model that it is added to."""
        return sorted({name.removesuffix(LORA_A).removesuffix(LORA_B) for name in self.file.tensors})

    def check(self, base: GgufWeights) -> None:
        """Make sure that it is for the model in a GGUF file."""
        self._check(base, base.architecture, base.fingerprint)

    def merge(self, network: PreTrainedModel, name: str, fingerprint: str) -> None:
        """Add it to a model in memory for good."""
        import torch

        layout = GgufLayout.of(network.config)
        base = HfWeights(network, name, layout)
        self._check(base, layout.architecture, fingerprint)
        with torch.no_grad():
            for target in self.targets:
                weight = base.matrices[target]
                first, second = (torch.from_numpy(self.file.read_rows(target + half)) for half in (LORA_A, LORA_B))
                if not (first.isfinite().all() and second.isfinite().all()):
                    raise DataError(f"{self.path} is damaged: some weights of {target} are no numbers")
                scale = float(self.file.metadata[ALPHA]) / len(first)
                added = torch.empty(weight.shape)
                added[list(base.order(target))] = scale * (second @ first)
                weight.copy_(weight.float() + added.to(weight.device))

    def _check(self, base: BaseWeights, architecture: str, fingerprint: str) -> None:
        difference = self._compare_shapes(base, architecture)
        if difference is None and fingerprint != self.base_fingerprint:
            difference = find_difference(self.base_weights, base)
        if difference is not None:
            raise _wrong_base(self.name, self.base_name, base, difference)

    def _compare_shapes(self, base: BaseWeights, architecture: str) -> str | None:
        if self.file.architecture != architecture:
            return f"it is for the architecture {self.file.architecture!r}, and the model has {architecture!r}"
        for target in self.targets:
            first, second = (self.file.tensors.get(target + half) for half in (LORA_A, LORA_B))
            if first is None or second is None:
                return f"it lacks a half of {target}"
            shape = base.shape(target)
            if shape is None:
                return f"the model has no {target}"
            if (second.rows, first.columns) != shape or first.rows != second.columns:
                return f"{target} has another shape"
        return None


def _wrong_base(adapter: str, base_name: str, base: BaseWeights, difference: str) -> EngineUnavailableError:
    owner = f"belongs to {base_name}, which {base.name} is not" if base_name else f"is not for {base.name}"
    return EngineUnavailableError(
        f"the adapter {adapter} {owner}: {difference}",
        hint="a copy that was trained further or quantised differently is another model",
    )
