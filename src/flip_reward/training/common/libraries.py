"""TRL, transformers and PEFT: whether they are there, quiet, and configured as the installed versions want it."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from flip_reward.errors import MissingDependencyError, OptionError
from flip_reward.training.common.recipe import LoraOptions

if TYPE_CHECKING:
    from peft import LoraConfig

_Config = TypeVar("_Config")

TRACKERS = ("none", "tensorboard", "wandb", "trackio")
"""Names for `report_to` in the sections `grpo` and `sft`."""


def require_libraries(*names: str) -> None:
    """Make sure that libraries of the extra "train" are installed."""
    for name in names:
        if find_spec(name) is None:
            raise MissingDependencyError(name, extra="train")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show no warnings, notes or bars of transformers, TRL and PEFT while the block runs.

    TRL also prints a whole sample at each step that has one without a reward.
    """
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    trl_logger = logging.getLogger("trl")
    trl_level = trl_logger.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    trl_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        trl_logger.setLevel(trl_level)
        if bars:
            transformers_logging.enable_progress_bar()


def make_trl_config(
    config: type[_Config],
    values: Mapping[str, Any],
    *,
    section: str,
    explain: Callable[[str], str | None] = lambda _: None,
) -> _Config:
    """Make a configuration of TRL from a recipe's section; `explain` makes a hint of what TRL complains about."""
    _check_trackers(values.get("report_to"), section)
    if values.get("deepspeed") and find_spec("deepspeed") is None:
        # transformers would notice with the configuration half set, and load no model after that.
        raise OptionError(
            f"{section}.deepspeed needs deepspeed, which is not installed", hint="pip install deepspeed"
        )
    try:
        return config(**name_checkpointing(config, values))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())
        raise OptionError(f"TRL does not take the section {section}: {reason}", hint=explain(reason)) from error


def _check_trackers(chosen: object, section: str) -> None:
    for name in chosen if isinstance(chosen, list) else [chosen]:
        if name not in TRACKERS:
            hint = f"trackers are {', '.join(TRACKERS)}"
            raise OptionError(f"unknown tracker {name!r} in {section}.report_to", hint=hint)
        libraries = {"none": (), "tensorboard": ("tensorboard", "tensorboardX")}.get(name, (name,))
        if libraries and not any(map(find_spec, libraries)):
            raise OptionError(f"the tracker {name} is not installed", hint=f"pip install {name}")


_NAME, _OLD_NAME = "activation_checkpointing", "gradient_checkpointing"


def name_checkpointing(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a configuration of TRL with the option's name in the installed transformers.

    From transformers 5.24 on it is called activation_checkpointing. TRL 1.16 knows the name from before, which stops
    working with transformers 6, and has a default of its own for it.

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


def make_lora_config(options: LoraOptions) -> LoraConfig:
    """Make PEFT's configuration of an adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.modules,
        task_type="CAUSAL_LM",
    )
