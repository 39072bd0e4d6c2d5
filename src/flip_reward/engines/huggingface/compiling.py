"""`CompiledLayers`: a model's layers compiled for reading on a GPU, once enough was read that it pays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from flip_reward.engines.huggingface.batching import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMPILE_AFTER_TOKENS = 1 << 21
"""Compiling takes about as long as reading this many tokens without it, on an H100 a quarter of a minute."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class CompiledLayers:
    """Runs work with the layers of a network compiled, or as they are where that does not pay or does not work.

    Without it most of the time of a small model on a GPU goes into norms and activations, which read and write
    everything several times; compiled they are a kernel each. All layers share one program, for any batch and length.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        after_tokens: int | None = None,
        backend: str | Callable[..., object] = "inductor",
    ) -> None:
        kinds = set(network._no_split_modules or ())  # noqa: SLF001 - what transformers calls its layers
        self._layers = [module for module in network.modules() if type(module).__name__ in kinds]
        self._backend = backend
        self._compiled: list[Callable[..., object]] = []
        if after_tokens is None and network.device.type == "cuda":
            after_tokens = COMPILE_AFTER_TOKENS
        self._tokens_left = float("inf") if after_tokens is None or not self._layers else after_tokens

    def run(self, work: Callable[[], T], tokens: int) -> T:
        """Do work that reads so many tokens."""
        self._tokens_left -= tokens
        if self._tokens_left >= 0:
            return work()
        try:
            with self._in_place():
                return work()
        except Exception as error:  # whatever the compiler raises
            if is_out_of_memory(error):
                raise
            logger.warning("the model's layers are not compiled: %s", " ".join(str(error).split())[:200])
            self._tokens_left = float("inf")
        return work()

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Put compiled layers in place of the network's own while the block runs: generating recompiles too often."""
        if not self._compiled:
            self._compiled = [
                torch.compile(layer.forward, dynamic=True, backend=self._backend) for layer in self._layers
            ]
        for layer, forward in zip(self._layers, self._compiled, strict=True):
            layer.forward = forward
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward
