"""Inputs that can be read more than once, standard input among them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from flip_reward.data.input import Input
from flip_reward.data.readers import open_input
from flip_reward.errors import StorageError


@contextmanager
def rereadable_inputs() -> Iterator[Callable[[str], Input]]:
    """Open inputs as `open_input` does, but keep standard input in a temporary file while the block runs.

    What was kept has a fingerprint, so that a run over standard input is resumed when the same rows come again.
    """
    with TemporaryDirectory(prefix="flip-reward-") as folder:

        def open_rereadable(source: str) -> Input:
            if source != "-":
                return open_input(source)
            kept = Path(folder) / "stdin.jsonl"
            try:
                with kept.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
            except OSError as error:
                raise StorageError(
                    f"cannot keep standard input: {error.strerror or error}", hint="set TMPDIR to a disk with room"
                ) from error
            return replace(open_input(str(kept)), name="stdin")

        yield open_rereadable
