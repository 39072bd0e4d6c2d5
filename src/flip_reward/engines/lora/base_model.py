"""Which model an adapter is for: some weights of that model, written down when the adapter was made.

A PEFT folder keeps them in `base_model.json`, by the names of transformers; a GGUF adapter in its metadata, by the
names of llama.cpp. `find_difference` compares them with a model in memory or in a GGUF file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.lora.gguf import UNQUANTISED, GgufFile, GgufLayout
from flip_reward.errors import EngineUnavailableError, OptionError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BASE_FILE = "base_model.json"

_MOST_PARAMETERS = 64
_FRACTIONS = (1 / 5, 2 / 5, 3 / 5, 4 / 5)

_RELATIVE, _ABSOLUTE = 2**-8, 1e-7
"""How far the same weight may be off in another precision: half a unit in the last place of bfloat16 is 2^-9, and
float16 has steps of 6e-8 near zero."""

_LEAST_COSINE = 0.98
"""Weights rounded to four bits have a cosine of 0.99 and above with the exact ones; those of another model do not."""

Shape: TypeAlias = tuple[int, int]
"""Rows and columns."""


class SampledWeight(NamedTuple):
    """One weight of a model; in this order a GGUF adapter holds it as JSON."""

    row: NonNegativeInt
    column: NonNegativeInt
    value: float


SampledWeights: TypeAlias = Mapping[str, Sequence[SampledWeight]]
"""By the name of the tensor."""


class BaseModelIdentity(BaseModel):
    """What identifies the model of an adapter among others of the same shape: the content of `base_model.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: dict[str, list[float]]
    """Four weights of up to 64 parameters, the same in every precision except for rounding."""

    @classmethod
    def of(cls, name: str, network: PreTrainedModel) -> BaseModelIdentity:
        """Describe a model in memory, before anything is added to it."""
        matrices = [(name, weight) for name, weight in sorted(network.named_parameters()) if weight.ndim == 2]
        step = max(1, math.ceil(len(matrices) / _MOST_PARAMETERS))
        weights = {}
        for parameter, weight in matrices[::step]:
            flat = weight.detach().flatten()
            weights[parameter] = [float(flat[int(fraction * len(flat))]) for fraction in _FRACTIONS]
        return cls(name=name, weights=weights)

    @classmethod
    def read(cls, folder: Path) -> BaseModelIdentity | None:
        """Read what an adapter's folder says; None for adapters made elsewhere."""
        path = folder / BASE_FILE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise EngineUnavailableError(f"{path} cannot be read: it is damaged") from error

    def locate(self, shape: Callable[[str], Shape | None]) -> SampledWeights:
        """Return the row and column of each weight, by the shapes of the parameters; unknown ones are left out."""
        located = {}
        for parameter, values in self.weights.items():
            rows, columns = shape(parameter) or (0, 0)
            if columns:
                places = [divmod(int(fraction * rows * columns), columns) for fraction in _FRACTIONS]
                located[parameter] = [
                    SampledWeight(*place, value) for place, value in zip(places, values, strict=True)
                ]
        return located


class BaseWeights(Protocol):
    """The weights of a model that an adapter may be for."""

    name: str
    """What errors call it."""

    def shape(self, tensor: str) -> Shape | None:
        """Return rows and columns; None where there is no such tensor."""
        ...

    def is_quantised(self, tensor: str) -> bool:
        """Whether the weights may have been rounded to a few bits since the adapter was made."""
        ...

    def weight(self, tensor: str, row: int, column: int) -> float:
        """Return one weight."""
        ...


def find_difference(sampled: SampledWeights, base: BaseWeights) -> str | None:
    """Say where a model differs from the one that was sampled, or None where it is the same.

    Weights that are not quantised have to be equal. Others may have been quantised after the adapter was made, and
    have to be equal except for that.
    """
    before: list[float] = []
    after: list[float] = []
    for tensor, weights in sampled.items():
        shape = base.shape(tensor)
        if shape is None:
            return f"the model has no {tensor}"
        if any(one.row >= shape[0] or one.column >= shape[1] for one in weights):
            return f"{tensor} has another shape"
        expected = [one.value for one in weights]
        values = [base.weight(tensor, one.row, one.column) for one in weights]
        if base.is_quantised(tensor):
            before, after = before + expected, after + values
        elif not all(map(_is_close, values, expected)):
            return f"their weights differ, for example in {tensor}"
    if before and cosine(before, after) < _LEAST_COSINE:
        return "their weights differ by more than quantisation takes away"
    return None


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def cosine(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    lengths = math.hypot(*some) * math.hypot(*others)
    product = math.fsum(one * other for one, other in zip(some, others, strict=True))
    return product / lengths if lengths else 1.0


class GgufWeights:
    """A model in a GGUF file."""

    def __init__(self, file: GgufFile, name: str) -> None:
        self.name, self.architecture, self.fingerprint = name, file.architecture, fingerprint_file(file.path)
        self._file = file

    def shape(self, tensor: str) -> Shape | None:
        """Return rows and columns."""
        found = self._file.tensors.get(tensor)
        return None if found is None else (found.rows, found.columns)

    def is_quantised(self, tensor: str) -> bool:
        """Whether it is stored in a few bits."""
        return self._file.tensors[tensor].type not in UNQUANTISED

    def weight(self, tensor: str, row: int, column: int) -> float:
        """Return one weight."""
        return float(self._file.read_rows(tensor, row, 1)[0, column])


class HfWeights:
    """The matrices of a model in memory: as transformers has them, or with a layout as a GGUF file of it has them."""

    def __init__(self, network: PreTrainedModel, name: str, layout: GgufLayout | None = None) -> None:
        self.name = name
        self.matrices: dict[str, torch.nn.Parameter] = {}
        self._parameters: dict[str, str] = {}
        self._layout = layout
        for parameter, weight in network.named_parameters():
            if weight.ndim == 2:
                try:
                    tensor = layout.name(parameter) if layout else parameter
                except OptionError:
                    continue  # a GGUF file has no such tensor
                self.matrices[tensor], self._parameters[tensor] = weight, parameter

    def order(self, tensor: str) -> Sequence[int]:
        """Return for each row of a tensor which row of the matrix it is."""
        rows = len(self.matrices[tensor])
        return self._layout.order(self._parameters[tensor], rows) if self._layout else range(rows)

    def shape(self, tensor: str) -> Shape | None:
        """Return rows and columns."""
        weight = self.matrices.get(tensor)
        return None if weight is None else (weight.shape[0], weight.shape[1])

    def is_quantised(self, _tensor: str) -> bool:
        """Never: a model in memory is exact, or was quantised before the adapter was made."""
        return False

    def weight(self, tensor: str, row: int, column: int) -> float:
        """Return one weight."""
        return float(self.matrices[tensor].detach()[self.order(tensor)[row], column])
