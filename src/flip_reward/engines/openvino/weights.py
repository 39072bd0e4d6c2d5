"""A GGUF file as OpenVINO reads it right: matrices in Q8_0, with the adapter added to them, kept in the cache folder.

OpenVINO rounds the offsets of Q4_1, which changes a mean log-probability by 0.3 to 0.6 nats; Q8_0 has none. Whatever
else is in a file that OpenVINO's reader passes over would change what the model computes, so such a file is refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flip_reward.data.files import atomic_file, storage_error
from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.lora.adapter import ALPHA, LORA_A, LORA_B, GgufAdapter
from flip_reward.engines.lora.gguf import GgufFile, GgufTensor
from flip_reward.errors import DataError, EngineUnavailableError, MissingDependencyError, StorageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""What OpenVINO GenAI reads of GGUF files (`gguf_modeling.cpp`)."""

_READ = re.compile(
    r"(token_embd|output_norm|output"
    r"|blk\.\d+\.(attn_norm|ffn_norm|attn_[qkv]|attn_output|attn_[qk]_norm|ffn_gate|ffn_up|ffn_down))\.(weight|bias)"
)
"""The tensors that it reads."""

_F32, _Q8_0, _BLOCK = 0, 8, 32
_UINT32 = 4
_FILE_TYPE, _MOSTLY_Q8_0 = "general.file_type", 7
_WEIGHTS_AT_ONCE = 1 << 22
_FORMAT = 1
"""Goes into the name of a written file: raise it where the content changes."""


def default_weights_folder() -> Path:
    """Return where written files are kept: below the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("flip-reward") / "openvino"


def locate_weights(source: GgufFile, name: str, adapter: GgufAdapter | None, folder: Path) -> Path:
    """Return the file for OpenVINO of a model and its adapter, written where it is not there yet.

    Raises:
        EngineUnavailableError: OpenVINO cannot run this model.
        StorageError: The file cannot be written.
    """
    check_readable(source, name)
    key = fingerprint_file(source.path) + (f"-{adapter.fingerprint}" if adapter else "")
    target = folder / f"{source.path.stem[:64]}-{key}-{_FORMAT}.gguf"
    if not _is_whole(target):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(target) as file:
                write_in_8_bits(source, adapter, file)
        except (OSError, StorageError) as error:
            said = storage_error(folder, error) if isinstance(error, OSError) else error
            hint = "OpenVINO needs a file of the model there; llama.cpp needs none: llama.cpp:NAME"
            raise StorageError(str(said), hint=hint) from error
    return target


def _is_whole(path: Path) -> bool:
    try:
        GgufFile.read(path)
    except DataError:
        return False
    return True


def check_readable(source: GgufFile, name: str) -> None:
    """Refuse a model of which OpenVINO would leave something out."""
    scaling = source.metadata.get(f"{source.architecture}.rope.scaling.type", "none")
    other = next((tensor for tensor in source.tensors if not _READ.fullmatch(tensor)), None)
    reason = None
    if source.architecture not in ARCHITECTURES:
        reason = f"its architecture is {source.architecture!r}, and not one of {', '.join(ARCHITECTURES)}"
    elif source.metadata.get("tokenizer.ggml.model") != "gpt2":
        reason = "its tokenizer is not a byte-level one"
    elif other is not None or scaling != "none":
        reason = f"it has {other or 'scaled rotary positions'}, which OpenVINO does not read"
    if reason is not None:
        raise EngineUnavailableError(
            f"OpenVINO cannot run {name}: {reason}", hint="llama.cpp may run it, as llama.cpp:NAME"
        )


def write_in_8_bits(source: GgufFile, adapter: GgufAdapter | None, file: BinaryIO) -> None:
    """Write a model with its matrices in Q8_0 and everything else in float32, and its keys as they are."""
    kinds = {
        name: _Q8_0 if one.rows > 1 and one.columns % _BLOCK == 0 else _F32 for name, one in source.tensors.items()
    }
    alignment = int(source.metadata.get("general.alignment", _BLOCK))
    file.write(_write_head(source, kinds, alignment))
    for name, tensor in source.tensors.items():
        file.write(bytes(-file.tell() % alignment))
        write = _round_to_8_bits if kinds[name] == _Q8_0 else _write_plainly
        file.writelines(map(write, _read_merged(source, name, tensor, adapter)))


def _write_head(source: GgufFile, kinds: Mapping[str, int], alignment: int) -> bytes:
    with source.path.open("rb") as file:
        head = file.read(source.keys_end)
    key = struct.pack("<Q", len(_FILE_TYPE)) + _FILE_TYPE.encode() + struct.pack("<I", _UINT32)
    if key in head:
        place = head.index(key) + len(key)
        head = head[:place] + struct.pack("<I", _MOSTLY_Q8_0) + head[place + 4 :]
    else:
        version, tensors, keys = struct.unpack_from("<IQQ", head, 4)
        head = head[:4] + struct.pack("<IQQ", version, tensors, keys + 1) + head[24:]
        head += key + struct.pack("<I", _MOSTLY_Q8_0)
    parts, offset = [head], 0
    for name, tensor in source.tensors.items():
        sizes = (tensor.columns, tensor.rows) if tensor.rows > 1 else (tensor.columns,)
        spelled = name.encode()
        parts.append(struct.pack("<Q", len(spelled)) + spelled + struct.pack("<I", len(sizes)))
        parts.append(struct.pack(f"<{len(sizes)}QIQ", *sizes, kinds[name], offset))
        weights = tensor.rows * tensor.columns
        size = weights * 4 if kinds[name] == _F32 else weights // _BLOCK * (2 + _BLOCK)
        offset += -(-size // alignment) * alignment
    return b"".join(parts)


def _read_merged(
    source: GgufFile, name: str, tensor: GgufTensor, adapter: GgufAdapter | None
) -> Iterator[npt.NDArray[np.float32]]:
    """Read some rows of a tensor after the others, with what the adapter adds to them."""
    first = second = None
    if adapter is not None and name in adapter.targets:
        first, second = (adapter.file.read_rows(name + half) for half in (LORA_A, LORA_B))
        if not (isfinite(first.sum()) and isfinite(second.sum())):
            raise DataError(f"{adapter.path} is damaged: some weights of {name} are no numbers")
        second = second * (float(adapter.file.metadata[ALPHA]) / len(first))
    step = max(1, _WEIGHTS_AT_ONCE // tensor.columns)
    for row in range(0, tensor.rows, step):
        values = source.read_rows(name, row, min(step, tensor.rows - row))
        if first is not None and second is not None:
            values = values + second[row : row + step] @ first
        yield values


def _write_plainly(values: npt.NDArray[np.float32]) -> bytes:
    return values.astype("<f4").tobytes()


def _round_to_8_bits(values: npt.NDArray[np.float32]) -> bytes:
    try:
        import gguf
    except ImportError as error:
        raise MissingDependencyError("gguf", extra="openvino") from error
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0).tobytes()
