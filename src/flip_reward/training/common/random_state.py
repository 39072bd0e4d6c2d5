"""`RandomState`: every generator that a training draws from, to be put back later."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RandomState:
    """What Python, numpy and torch would draw next."""

    def __init__(self) -> None:
        self._python: Any = random.getstate()
        self._numpy: Any = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def restore(self) -> None:
        """Put the generators back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


@contextmanager
def drawing_apart(seed: int) -> Iterator[None]:
    """Draw from generators with this seed while the block runs, and then go on as if it had not been."""
    before = RandomState()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        before.restore()
