"""LoRA adapters: small weights that are added to those of the one model they were tuned with.

`LoraFile`: a LoRA adapter as one GGUF file, and the one model that it is for.

Add a LoRA adapter in a GGUF file to a Hugging Face model.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.lora.gguf import EXACT, GgufFile, GgufLayout
from flip_reward.errors import DataError, EngineUnavailableError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


NAME = "adapter.gguf"
"""The file in the folder of a tuned adapter."""
CONFIG = "adapter_config.json"
"""What PEFT says of an adapter, beside its weights."""
RELATIVE, ABSOLUTE = 2**-8, 1e-7
"""So far weights of the same model may be from each other.

Half a unit in the last place of bfloat16 is 2^-9, and float16 has steps of 6e-8 near zero.
"""
ALPHA = "adapter.lora.alpha"
BASE_NAME, BASE_FINGERPRINT, BASE_WEIGHTS, FRAME = (
    f"flip_reward.{key}" for key in ("base_name", "base_fingerprint", "base_weights", "frame")
)
A, B = ".lora_a", ".lora_b"

_ALIKE = 0.98
"""Weights rounded to four bits correlate with the exact ones at 0.99 and above; those of another model do not."""


@dataclass(frozen=True, slots=True)
class LoraName:
    """MODEL+ADAPTER, taken apart.

    Attributes:
        base: The model.
        path: The adapter's file.
    """

    base: str
    path: Path


def find_lora_file(model: str) -> LoraName | None:
    """Tell whether a name means a model with a GGUF adapter: MODEL+FILE.gguf, or MODEL+FOLDER with such a file in it.

    Example:
        >>> find_lora_file("smollm2-135m+tuned/small.gguf").base
        'smollm2-135m'
        >>> find_lora_file("smollm2-135m") is None
        True
    """
    base, plus, name = model.rpartition("+")
    if not plus or not base or Path(model).expanduser().is_file():
        return None
    path = Path(name).expanduser()
    if (path / NAME).is_file() or (path / CONFIG).is_file():
        return LoraName(base, path / NAME)
    return LoraName(base, path) if name.endswith(".gguf") else None


@dataclass(frozen=True, slots=True)
class SampledWeight:
    """One weight of the model that an adapter was tuned with.

    Attributes:
        row: Its row in the tensor of the GGUF file.
        column: Its place in the row.
        value: What it is.
    """

    row: int
    column: int
    value: float


@dataclass(frozen=True, slots=True)
class LoraFile:
    """An adapter on disk.

    Attributes:
        head: What the file says about itself.
        base_name: What its model is called, where it says so.
        base_fingerprint: Tells the file of its model, where it was tuned with one file.
        sampled: Some of its model's weights by tensor; none for adapters made elsewhere.
    """

    head: GgufFile
    base_name: str
    base_fingerprint: str
    sampled: Mapping[str, Sequence[SampledWeight]]

    @classmethod
    def read(cls, path: Path) -> LoraFile:
        """Read what an adapter says about itself.

        Raises:
            DataError: There is no such file, it is damaged, or holds no LoRA adapter.
        """
        if not path.is_file() and (path.parent / CONFIG).is_file():
            raise DataError(
                f"the adapter in {path.parent} was not written as GGUF",
                hint=f"flip-reward export-adapter {path.parent}",
            )
        head = GgufFile.read(path)
        if head.metadata.get("general.type") != "adapter" or head.metadata.get("adapter.type") != "lora":
            raise DataError(f"{path} holds no LoRA adapter")
        if not head.tensors or not isinstance(head.metadata.get(ALPHA), float):
            raise DataError(f"{path} is damaged: it has no weights or no {ALPHA}")
        try:
            sampled = {
                name: [SampledWeight(int(row), int(column), float(value)) for row, column, value in weights]
                for name, weights in json.loads(str(head.metadata.get(BASE_WEIGHTS, "{}"))).items()
            }
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged: {BASE_WEIGHTS} cannot be read") from error
        name, fingerprint = (str(head.metadata.get(key, "")) for key in (BASE_NAME, BASE_FINGERPRINT))
        return cls(head, name, fingerprint, sampled)

    @property
    def path(self) -> Path:
        """The file."""
        return self.head.path

    @property
    def name(self) -> str:
        """What records call it: its file, or the folder where that is its own."""
        return self.path.resolve().parent.name if self.path.name == NAME else self.path.stem

    @property
    def template(self) -> str | None:
        """The template of this package that it was tuned with, where it says so."""
        return str(self.head.metadata.get(FRAME, "")) or None

    @property
    def targets(self) -> list[str]:
        """The weights that it is added to."""
        return sorted({name.removesuffix(A).removesuffix(B) for name in self.head.tensors})

    def scale(self, target: str) -> float:
        """Return what the product of its two matrices is multiplied with."""
        return float(self.head.metadata[ALPHA]) / self.head.tensors[target + A].rows

    def check(self, base: LoraBase) -> None:
        """Make sure that a model is the one it is for.

        A model that is not quantised has to have the very weights. One that is quantised may have been so after the
        adapter was made, and has to have them but for what that takes away.

        Raises:
            EngineUnavailableError: It is another one.
            MissingDependencyError: gguf is not installed, which reads quantised weights.
        """
        difference = self._compare_shapes(base)
        if difference is None and base.fingerprint != self.base_fingerprint:
            difference = self._compare_weights(base)
        if difference is not None:
            owner = (
                f"belongs to {self.base_name}, which {base.name} is not"
                if self.base_name
                else f"is not for {base.name}"
            )
            raise EngineUnavailableError(
                f"the adapter {self.name} {owner}: {difference}", hint="a further trained copy is another model too"
            )

    def _compare_shapes(self, base: LoraBase) -> str | None:
        if self.head.architecture != base.architecture:
            return f"it is for {self.head.architecture!r}, and the model is of the kind {base.architecture!r}"
        for target in self.targets:
            first, second = (self.head.tensors.get(target + half) for half in (A, B))
            if first is None or second is None:
                return f"it lacks a half of {target}"
            shape = base.shape(target)
            if shape is None:
                return f"the model has no {target}"
            if (second.rows, first.columns) != shape or first.rows != second.columns:
                return f"{target} has another shape"
        return None

    def _compare_weights(self, base: LoraBase) -> str | None:
        mine: list[float] = []
        theirs: list[float] = []
        for name, sampled in self.sampled.items():
            rows, columns = base.shape(name) or (0, 0)
            if any(one.row >= rows or one.column >= columns for one in sampled):
                return f"{name} has another shape"
            values = [base.weight(name, one.row, one.column) for one in sampled]
            expected = [one.value for one in sampled]
            if base.is_quantised(name):
                mine, theirs = mine + values, theirs + expected
            elif not all(map(_is_close, values, expected)):
                return f"their weights differ, for example in {name}"
        if mine and correlate(mine, theirs) < _ALIKE:
            return "their weights differ by more than quantisation takes away"
        return None


class LoraBase(Protocol):
    """A model that an adapter may be for. Tensors have the names and the order of rows of a GGUF file."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells its file."""
        ...

    def shape(self, tensor: str) -> tuple[int, int] | None:
        """Return rows and columns; None where there is no such tensor."""
        ...

    def is_quantised(self, tensor: str) -> bool:
        """Whether the weights may have been rounded to a few bits since the adapter was made."""
        ...

    def weight(self, tensor: str, row: int, column: int) -> float:
        """Return one weight."""
        ...


@dataclass(frozen=True, slots=True)
class GgufBase:
    """A model in a GGUF file.

    Attributes:
        file: The file.
        name: What errors call it.
    """

    file: GgufFile
    name: str

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it."""
        return self.file.architecture

    @property
    def fingerprint(self) -> str:
        """Tells its file."""
        return fingerprint_file(self.file.path)

    def shape(self, tensor: str) -> tuple[int, int] | None:
        """Return rows and columns."""
        found = self.file.tensors.get(tensor)
        return None if found is None else (found.rows, found.columns)

    def is_quantised(self, tensor: str) -> bool:
        """Whether it is stored in a few bits."""
        return self.file.tensors[tensor].type not in EXACT

    def weight(self, tensor: str, row: int, column: int) -> float:
        """Return one weight."""
        return float(self.file.read_rows(tensor, row, 1)[0, column])


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def correlate(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the cosine of two lists of numbers.

    Example:
        >>> correlate([3.0, 4.0], [6.0, 8.0]), correlate([1.0, 0.0], [0.0, 1.0])
        (1.0, 0.0)
    """
    lengths = math.hypot(*some) * math.hypot(*others)
    product = math.fsum(one * other for one, other in zip(some, others, strict=True))
    return product / lengths if lengths else 1.0


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


def merge_lora_file(network: PreTrainedModel, file: LoraFile, name: str, fingerprint: str) -> None:
    """Add an adapter to a model for good.

    Args:
        network: The model; it is changed.
        file: The adapter.
        name: What errors call the model.
        fingerprint: Tells the model's files.

    Raises:
        EngineUnavailableError: It is an adapter for another model.
        OptionError: GGUF adapters are not known for this kind of model.
        MissingDependencyError: gguf is not installed.
    """
    import torch

    base = _HfBase(network, name, fingerprint)
    file.check(base)
    with torch.no_grad():
        for target in file.targets:
            weight = base.matrices[target]
            first, second = (torch.from_numpy(file.head.read_rows(target + half)) for half in (A, B))
            added = torch.empty(weight.shape)
            added[base.order(target)] = file.scale(target) * (second @ first)
            weight.copy_(weight.float() + added.to(weight.device))


class _HfBase:
    """A model in memory, as a GGUF file of it would be."""

    def __init__(self, network: PreTrainedModel, name: str, fingerprint: str) -> None:
        self.name, self.fingerprint = name, fingerprint
        self._layout = GgufLayout.of(network.config)
        self.architecture = self._layout.architecture
        self._parameters: dict[str, str] = {}
        self.matrices: Mapping[str, torch.nn.Parameter] = self._find(network)

    def _find(self, network: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
        matrices = {}
        for parameter, weight in network.named_parameters():
            if weight.ndim == 2:
                try:
                    tensor = self._layout.name(parameter)
                except OptionError:
                    continue
                self._parameters[tensor] = parameter
                matrices[tensor] = weight
        return matrices

    def order(self, tensor: str) -> list[int]:
        """Return for each row of a tensor which row of the matrix it is."""
        return list(self._layout.order(self._parameters[tensor], len(self.matrices[tensor])))

    def shape(self, tensor: str) -> tuple[int, int] | None:
        """Return rows and columns; None where there is no such tensor."""
        weight = self.matrices.get(tensor)
        return None if weight is None else (weight.shape[0], weight.shape[1])

    def is_quantised(self, _tensor: str) -> bool:
        """Never: what is loaded is exact, or was quantised before the adapter was made."""
        return False

    def weight(self, tensor: str, row: int, column: int) -> float:
        """Return one weight."""
        return float(self.matrices[tensor].detach()[self.order(tensor)[row], column])
