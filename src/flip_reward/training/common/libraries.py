"""Keep what libraries say about each other from a user who cannot do anything about it.

How a trainer is told to compute activations again rather than keep them, which saves memory.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show no warnings, notes or bars of transformers, TRL and PEFT while the block runs."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


_NAME, _OLD_NAME = "activation_checkpointing", "gradient_checkpointing"


def name_checkpointing(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a configuration of TRL with the option's name in the installed transformers.

    From transformers 5.24 on it is called activation_checkpointing. TRL 1.16 knows the name from before, which stops
    working with transformers 6, and has a default of its own for it.

    Args:
        config: A dataclass such as GRPOConfig.
        values: What it is to be made of. A value for the new name counts before one for the old.

    Example:
        >>> @dataclasses.dataclass
        ... class Config:
        ...     gradient_checkpointing: bool = True
        ...     activation_checkpointing: bool | None = None
        >>> name_checkpointing(Config, {"seed": 1})
        {'seed': 1, 'activation_checkpointing': True}
        >>> name_checkpointing(Config, {"gradient_checkpointing": False})
        {'activation_checkpointing': False}
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    if _NAME not in fields:
        return dict(values)
    given = dict(values)
    old = given.pop(_OLD_NAME, fields[_OLD_NAME].default if _OLD_NAME in fields else None)
    if given.get(_NAME) is None:
        given[_NAME] = old
    return given
