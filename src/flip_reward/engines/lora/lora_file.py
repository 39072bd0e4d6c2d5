"""`LoraFile`: a LoRA adapter as one GGUF file, and the one model that it is for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flip_reward.engines.fingerprint import fingerprint_file
from flip_reward.engines.lora.gguf import EXACT, GgufFile
from flip_reward.errors import DataError, EngineUnavailableError

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
