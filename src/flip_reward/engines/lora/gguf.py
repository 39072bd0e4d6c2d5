"""The GGUF format: what a file says about itself and single rows of it (`GgufFile`), without loading the model.

`GgufLayout` says where the weights of a Hugging Face model are in a GGUF file of it. The package "gguf" reads such
files too, and takes ten times as long to read the head of the default model.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from flip_reward.errors import DataError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from gguf import TensorNameMap
    from transformers import PretrainedConfig


MAGIC = b"GGUF"
Metadata: TypeAlias = str | int | float | bool

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4

BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    30: (1, 2),  # BF16
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 36),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
}
"""By the number of a type in the format: the weights of a block, and its bytes."""
UNQUANTISED = frozenset({0, 1, 30})
"""F32, F16, BF16."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor is in the file."""

    columns: int
    rows: int
    """All dimensions but the first together."""
    type: int
    """The number of its type in the format."""
    offset: int
    """Its first byte in the file."""

    @property
    def row_bytes(self) -> int | None:
        """The bytes of a row; None for an unknown type."""
        if self.type not in BLOCKS:
            return None
        weights, size = BLOCKS[self.type]
        return self.columns // weights * size


def check_is_gguf(path: Path) -> None:
    """Check the first bytes of a file."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if magic != MAGIC:
        raise DataError(f"{path} is not a GGUF file", hint="llama.cpp reads models in the GGUF format")


@dataclass(frozen=True, slots=True)
class GgufFile:
    """The head of a GGUF file: its keys with one value, requested keys with several, and its tensors."""

    path: Path
    metadata: Mapping[str, Metadata]
    tensors: Mapping[str, GgufTensor]
    arrays: Mapping[str, Sequence[Metadata]]
    keys_end: int
    """Where the keys end in the file, and the list of its tensors begins."""

    @classmethod
    def read(cls, path: Path, *, arrays: Collection[str] = ()) -> GgufFile:
        """Read the head of a file and check that all of its tensors are there.

        Only the keys in `arrays` are read of those with several values, such as a vocabulary.
        """
        check_is_gguf(path)
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _HeadParser(content).parse(path, arrays)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        except (struct.error, IndexError, OverflowError, MemoryError, ValueError) as error:
            raise DataError(f"{path} is damaged: {error}") from error

    @property
    def architecture(self) -> str:
        """The kind of model, as llama.cpp calls it."""
        return str(self.metadata.get("general.architecture", ""))

    def read_rows(self, name: str, first: int = 0, count: int | None = None) -> npt.NDArray[np.float32]:
        """Read rows of a tensor as numbers; to its end for None."""
        try:
            import gguf
            import numpy as np
        except ImportError as error:
            raise MissingDependencyError("gguf", extra="hf") from error
        tensor = self.tensors[name]
        size, rows = tensor.row_bytes, tensor.rows - first if count is None else count
        if size is None:
            raise DataError(f"{self.path} holds {name} in an unknown format")
        with self.path.open("rb") as file:
            file.seek(tensor.offset + first * size)
            data = np.frombuffer(file.read(rows * size), np.uint8).reshape(rows, size)
        plain = {0: np.float32, 1: np.float16}
        if tensor.type in plain:
            return data.view(plain[tensor.type]).astype(np.float32)
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType(tensor.type))


class _HeadParser:
    """Reads one value after another from the beginning of a file."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._position = len(MAGIC)

    def parse(self, path: Path, wanted: Collection[str]) -> GgufFile:
        version, tensors, keys = self._take("IQQ")
        if version not in (2, 3):
            raise DataError(f"{path} has version {version} of the GGUF format; 2 and 3 are supported")
        metadata: dict[str, Metadata] = {}
        arrays: dict[str, Sequence[Metadata]] = {}
        for _ in range(int(keys)):
            key, kind = self._string(), int(self._take("I")[0])
            if kind != _ARRAY:
                metadata[key] = self._value(kind)
            elif key in wanted:
                arrays[key] = self._array()
            else:
                self._skip_array()
        keys_end = self._position
        heads = [self._tensor() for _ in range(int(tensors))]
        if self._position > len(self._content):
            raise ValueError("it ends within an array")
        alignment = int(metadata.get("general.alignment", 32))
        if alignment < 1:
            raise ValueError("its tensors have no place")
        start = -(-self._position // alignment) * alignment
        placed = {name: GgufTensor(one.columns, one.rows, one.type, start + one.offset) for name, one in heads}
        for name, one in placed.items():
            if one.row_bytes is not None and one.offset + one.rows * one.row_bytes > len(self._content):
                raise DataError(f"{path} is damaged: it ends within {name}")
        return GgufFile(path, metadata, placed, arrays, keys_end)

    def _take(self, types: str) -> tuple[float, ...]:
        values = struct.unpack_from(f"<{types}", self._content, self._position)
        self._position += struct.calcsize(f"<{types}")
        return values

    def _string(self) -> str:
        length = int(self._take("Q")[0])
        if length > len(self._content) - self._position:
            raise ValueError("it ends within a string")
        self._position += length
        return self._content[self._position - length : self._position].decode()

    def _value(self, kind: int) -> Metadata:
        if kind == _STRING:
            return self._string()
        if kind not in _SCALARS:
            raise ValueError(f"a value has the unknown type {kind}")
        return self._take(_SCALARS[kind])[0]

    def _array(self) -> list[Metadata]:
        kind, length = (int(one) for one in self._take("IQ"))
        return [self._value(kind) for _ in range(length)]

    def _skip_array(self) -> None:
        kind, length = (int(one) for one in self._take("IQ"))
        if kind in _SCALARS:
            self._position += length * struct.calcsize(f"<{_SCALARS[kind]}")
            return
        if kind != _STRING:
            raise ValueError(f"an array has the unknown type {kind}")
        for _ in range(length):
            self._position += 8 + int(struct.unpack_from("<Q", self._content, self._position)[0])

    def _tensor(self) -> tuple[str, GgufTensor]:
        name, dimensions = self._string(), int(self._take("I")[0])
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions} dimensions")
        columns, *others = (int(one) for one in self._take("Q" * dimensions))
        kind, offset = (int(one) for one in self._take("IQ"))
        rows = 1
        for one in others:
            rows *= one
        if not columns or not rows:
            raise ValueError(f"{name} is empty")
        if kind in BLOCKS and columns % BLOCKS[kind][0]:
            raise ValueError(f"{name} ends within a block")
        return name, GgufTensor(columns, rows, kind, offset)


_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""From the model types of transformers to the architectures of llama.cpp. Others may store weights differently."""

_PERMUTED = frozenset({"llama"})
"""llama.cpp rotates neighbouring pairs of these models' queries and keys, transformers the halves of each head."""


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """Names and orders of a model's weights in a GGUF file."""

    architecture: str
    layers: int
    heads: int
    key_heads: int
    shares_output: bool = False
    """The output layer has the weights of the embedding."""

    @classmethod
    def of(cls, config: PretrainedConfig) -> GgufLayout:
        """Return the layout of a model from its configuration."""
        kind = str(config.model_type)
        if kind not in _ARCHITECTURES:
            raise OptionError(
                f"GGUF adapters are not supported for models of the type {kind!r}",
                hint=f"they are for {', '.join(_ARCHITECTURES)}",
            )
        heads = int(config.num_attention_heads)
        key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        return cls(
            _ARCHITECTURES[kind], int(config.num_hidden_layers), heads, key_heads, bool(config.tie_word_embeddings)
        )

    def name(self, parameter: str) -> str:
        """Return what llama.cpp calls a weight.

        Example:
            >>> GgufLayout("llama", 2, 4, 2).name("model.layers.1.self_attn.q_proj.weight")
            'blk.1.attn_q.weight'
        """
        name = _map_names(self.architecture, self.layers).get_name(parameter, try_suffixes=(".weight",))
        if name is None or (self.shares_output and name == "output.weight"):
            raise OptionError(f"llama.cpp has no weight of its own for {parameter}")
        return str(name)

    def order(self, parameter: str, rows: int) -> Sequence[int]:
        """Return for each row of a weight in the GGUF file which row of the Hugging Face model it is.

        Example:
            >>> list(GgufLayout("llama", 1, 2, 1).order("model.layers.0.self_attn.q_proj.weight", 8))
            [0, 2, 1, 3, 4, 6, 5, 7]
            >>> GgufLayout("qwen3", 1, 2, 1).order("model.layers.0.self_attn.q_proj.weight", 8)
            range(0, 8)
        """
        layer = parameter.removesuffix(".weight").rpartition(".")[2]
        heads = {"q_proj": self.heads, "k_proj": self.key_heads}.get(layer)
        if heads is None or self.architecture not in _PERMUTED:
            return range(rows)
        half = rows // heads // 2
        return [
            head * 2 * half + part * half + place for head in range(heads) for place in range(half) for part in (0, 1)
        ]


@lru_cache(maxsize=8)
def _map_names(architecture: str, layers: int) -> TensorNameMap:
    try:
        import gguf
    except ImportError as error:
        raise MissingDependencyError("gguf", extra="hf") from error
    kind = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(kind, layers)
