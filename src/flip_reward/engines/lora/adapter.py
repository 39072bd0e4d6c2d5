"""LoRA adapters: small weights that are added to those of the one model they were tuned with."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.engines.fingerprint import fingerprint_file
from flip_reward.engines.lora.lora_file import ABSOLUTE, CONFIG, RELATIVE
from flip_reward.errors import EngineUnavailableError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS, BASE = "adapter_model.safetensors", "base_model.json"

_MOST_PARAMETERS_SAMPLED = 64
_PLACES = (1 / 5, 2 / 5, 3 / 5, 4 / 5)
_DAMAGED = "it is damaged, or was made for another kind of model"


class BaseModelIdentity(BaseModel):
    """What tells the model of an adapter from others of the same shape; `base_model.json` beside the adapter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: dict[str, list[float]]
    """Some of its weights, by parameter: they are the same in every precision but for rounding."""

    @classmethod
    def of(cls, name: str, network: PreTrainedModel) -> BaseModelIdentity:
        """Describe a model in memory, before anything is added to it."""
        matrices = [(name, weight) for name, weight in sorted(network.named_parameters()) if weight.ndim == 2]
        step = max(1, math.ceil(len(matrices) / _MOST_PARAMETERS_SAMPLED))
        weights = {}
        for parameter, weight in matrices[::step]:
            flat = weight.detach().flatten()
            weights[parameter] = [float(flat[place]) for place in sampled_places(len(flat))]
        return cls(name=name, weights=weights)

    @classmethod
    def read(cls, folder: Path) -> BaseModelIdentity | None:
        """Read what an adapter's folder says; None for adapters made elsewhere.

        Raises:
            EngineUnavailableError: It is damaged.
        """
        path = folder / BASE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise EngineUnavailableError(f"{path} cannot be read: it is damaged") from error

    def difference(self, other: BaseModelIdentity) -> str | None:
        """Say where another model differs, or None where it is the same one."""
        if lacking := self.weights.keys() ^ other.weights.keys():
            return f"only one of them has {min(lacking)}"
        for parameter, values in self.weights.items():
            for mine, theirs in zip(values, other.weights[parameter], strict=True):
                if not math.isclose(mine, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
                    return f"their weights differ, for example in {parameter}"
        return None


def sampled_places(count: int) -> list[int]:
    """Say which of so many weights are compared.

    Example:
        >>> sampled_places(10)
        [2, 4, 6, 8]
    """
    return [int(place * count) for place in _PLACES]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on disk.

    Attributes:
        folder: Where it is, as PEFT saves it.
        base: The model it is added to, as `load_hf_model` takes it.
    """

    folder: Path
    base: str

    @property
    def fingerprint(self) -> str:
        """Tells adapters apart."""
        digest = hashlib.sha256()
        for name in (CONFIG, WEIGHTS):
            digest.update(fingerprint_file(self.folder / name).encode())
        return digest.hexdigest()[:16]

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was saved with it."""
        return (self.folder / "tokenizer.json").is_file()


def find_adapter(model: str) -> Adapter | None:
    """Tell whether a name means an adapter: a folder that holds one, or MODEL+FOLDER to say which model it is for.

    Raises:
        OptionError: The adapter does not say which model it is for.
        EngineUnavailableError: It lacks its weights or is none that can be read.
    """
    base, plus, path = model.rpartition("+")
    if not plus or not (Path(path).expanduser() / CONFIG).is_file():
        base, path = "", model
    folder = Path(path).expanduser()
    if not (folder / CONFIG).is_file():
        return None
    settings = _read_settings(folder)
    if settings.get("peft_type") != "LORA":
        raise EngineUnavailableError(f"{folder} holds an adapter, but no LoRA adapter")
    if not (folder / WEIGHTS).is_file():
        raise EngineUnavailableError(
            f"the adapter in {folder} lacks {WEIGHTS}",
            hint="only safetensors are read; weights in other files are not",
        )
    base = base or str(settings.get("base_model_name_or_path") or "")
    if not base:
        raise OptionError(f"the adapter in {folder} does not say for which model it is", hint=f"write MODEL+{path}")
    return Adapter(folder, base)


def apply_adapter(network: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """Add an adapter to a model for good, so that it computes as fast as without.

    Raises:
        EngineUnavailableError: It is an adapter for another model, or it lacks weights.
        MissingDependencyError: PEFT is not installed.
    """
    merged: PreTrainedModel = attach_adapter(network, adapter).merge_and_unload(safe_merge=True)
    return merged


def attach_adapter(network: PreTrainedModel, adapter: Adapter, *, trainable: bool = False) -> PeftModel:
    """Put an adapter beside the weights of a model.

    Args:
        network: The model; it is changed.
        adapter: The adapter.
        trainable: It is tuned on.

    Raises:
        EngineUnavailableError: It is an adapter for another model, or it lacks weights.
        MissingDependencyError: PEFT is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingDependencyError("peft", extra="hf") from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_base(network, adapter)
    try:
        weights = load_file(adapter.folder / WEIGHTS)
        config = peft.PeftConfig.from_pretrained(str(adapter.folder))
        config.base_model_name_or_path = None
        config.inference_mode = not trainable
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about how PEFT uses transformers
            adapted = peft.get_peft_model(network, config)
        loaded = peft.set_peft_model_state_dict(adapted, weights)
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise EngineUnavailableError(
            f"the adapter in {adapter.folder} cannot be added to {adapter.base}: {reason}", hint=_DAMAGED
        ) from error
    missing = [name for name in loaded.missing_keys if "lora_" in name]
    for what, names in (("lacks", missing), ("has unknown", loaded.unexpected_keys)):
        if names:
            raise EngineUnavailableError(
                f"the adapter in {adapter.folder} {what} {len(names)} weights, such as {min(names)}",
                hint=_DAMAGED,
            )
    return adapted


def _check_base(network: PreTrainedModel, adapter: Adapter) -> None:
    expected = BaseModelIdentity.read(adapter.folder)
    if expected is None:
        return  # whether its shapes fit is all that can be told
    difference = expected.difference(BaseModelIdentity.of(adapter.base, network))
    if difference is not None:
        raise EngineUnavailableError(
            f"the adapter in {adapter.folder} belongs to {expected.name}, which {adapter.base} is not: {difference}",
            hint="a quantised or further trained copy is another model too",
        )


def _read_settings(folder: Path) -> Mapping[str, object]:
    try:
        settings = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise EngineUnavailableError(f"{folder / CONFIG} cannot be read: it is damaged") from error
    if not isinstance(settings, dict):
        raise EngineUnavailableError(f"{folder / CONFIG} is no adapter's configuration")
    return settings
