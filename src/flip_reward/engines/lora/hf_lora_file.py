"""Add a LoRA adapter in a GGUF file to a Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from flip_reward.engines.lora.gguf_layout import GgufLayout
from flip_reward.engines.lora.lora_file import A, B, LoraFile
from flip_reward.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
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
    base = _HfBase(network, name, fingerprint)
    file.check(base)
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
        return float(self.matrices[tensor][self.order(tensor)[row], column])
