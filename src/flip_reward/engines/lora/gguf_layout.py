"""`GgufLayout`: where the weights of a Hugging Face model are in a GGUF file of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from flip_reward.errors import MissingDependencyError, OptionError

if TYPE_CHECKING:
    from gguf import TensorNameMap
    from transformers import PretrainedConfig

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Kinds of model for transformers, and for llama.cpp. Others may store weights in ways that are not known here."""

_TURNED = frozenset({"llama"})
"""llama.cpp rotates neighbouring pairs of these models' queries and keys, transformers the halves of each head."""


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """Names and orders of a model's weights in a GGUF file.

    Attributes:
        architecture: As llama.cpp calls it.
        layers: How many the model has.
        heads: Attention heads for queries.
        key_heads: Attention heads for keys.
        shares_output: The output layer has the weights of the embedding.
    """

    architecture: str
    layers: int
    heads: int
    key_heads: int
    shares_output: bool = False

    @classmethod
    def of(cls, config: PretrainedConfig) -> GgufLayout:
        """Tell the layout of a model from its configuration.

        Raises:
            OptionError: It is not known for this kind of model.
        """
        kind = str(config.model_type)
        if kind not in _ARCHITECTURES:
            raise OptionError(
                f"adapters for models of the kind {kind!r} cannot be written as GGUF",
                hint=f"that is known for {', '.join(_ARCHITECTURES)}",
            )
        heads = int(config.num_attention_heads)
        key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        return cls(
            _ARCHITECTURES[kind], int(config.num_hidden_layers), heads, key_heads, bool(config.tie_word_embeddings)
        )

    def name(self, parameter: str) -> str:
        """Return what llama.cpp calls a weight.

        Raises:
            OptionError: It has no such weight.
            MissingDependencyError: gguf is not installed.

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
        if heads is None or self.architecture not in _TURNED:
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
