"""Makes TRL's GRPOConfig of a recipe. Imported late, since it is heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from trl import GRPOConfig

from flip_reward.errors import OptionError
from flip_reward.training.common.folder import CHECKPOINTS
from flip_reward.training.common.libraries import make_trl_config
from flip_reward.training.grpo.recipe import GrpoRecipe

_WAIT_SECONDS = 1800
"""How long processes wait for each other where none waits for a reward's model; the trainer's default."""


def make_grpo_config(recipe: GrpoRecipe, folder: Path, *, evaluate: bool, resumed: bool) -> GRPOConfig:
    """Make the configuration of the trainer. A resumed training does not evaluate at its start again."""
    wanted = {"report_to": "none", **recipe.grpo}
    on_cpu = bool(wanted.get("use_cpu")) or not torch.cuda.is_available()
    looks = evaluate and wanted.get("eval_strategy", "steps") not in ("no", None)
    defaults: dict[str, object] = {
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_total_limit": 2,
        "eval_strategy": "steps" if evaluate else "no",
        "eval_on_start": looks,
        # A process that has its rewards waits for the slowest one.
        "ddp_timeout": _WAIT_SECONDS + math.ceil(recipe.outage_timeout_seconds + recipe.outage_poll_seconds),
        # bfloat16 is slow on most processors, and their memory is large.
        **({"use_cpu": True, "bf16": False, "dataloader_pin_memory": False} if on_cpu else {}),
    }
    values = {**defaults, **wanted, "output_dir": str(folder / CHECKPOINTS), "remove_unused_columns": False}
    if not evaluate and values["eval_strategy"] not in ("no", None):
        raise OptionError(
            "there are no held-out prompts to evaluate on",
            hint="set data.held_out, data.held_out_source or grpo.eval_strategy=no",
        )
    values["eval_on_start"] = bool(values["eval_on_start"]) and evaluate and not resumed
    _check_bounds(values)
    return make_trl_config(GRPOConfig, values, section="grpo", explain=_explain_batch)


def find_stop_strings(config: GRPOConfig) -> frozenset[str]:
    """Return the strings at which generation stops, by the name that vLLM or transformers has for them."""
    generation = config.generation_kwargs if isinstance(config.generation_kwargs, dict) else {}
    found = generation.get("stop" if config.use_vllm else "stop_strings") or ()
    return frozenset([found] if isinstance(found, str) else found)


def find_unsafe_saving(config: GRPOConfig) -> str | None:
    """Say why a resumed training may differ from an undisturbed one; None where it may not."""
    every = config.steps_per_generation * config.num_iterations
    steps = math.lcm(every, config.gradient_accumulation_steps) // config.gradient_accumulation_steps
    if steps == 1 or config.save_steps % steps == 0:
        return None
    return (
        f"Samples are used for {steps} steps, and checkpoints are written every {config.save_steps:g}: a resumed "
        f"training draws new samples. Set grpo.save_steps to a multiple of {steps} to avoid it"
    )


def _check_bounds(values: Mapping[str, object]) -> None:
    """Refuse what TRL would refuse only after the policy is loaded."""
    length = values.get("max_completion_length", GRPOConfig.max_completion_length)
    if not isinstance(length, int) or length < 1:
        raise OptionError(f"grpo.max_completion_length must be at least 1 token, not {length}")
    for name in ("num_iterations", "steps_per_generation"):
        count = values.get(name)
        if isinstance(count, int) and count < 1:
            raise OptionError(f"grpo.{name} must be at least 1, not {count}")
    temperature = values.get("temperature", GRPOConfig.temperature)
    if not isinstance(temperature, float) or not temperature > 0:
        raise OptionError(
            f"grpo.temperature must be more than 0, not {temperature}: the samples of a group have to differ"
        )


def _explain_batch(reason: str) -> str | None:
    if "divisible" not in reason:
        return None
    if "eval" in reason:
        return "a batch of held-out prompts is processes x per_device_eval_batch_size"
    return (
        "a batch is processes x per_device_train_batch_size x gradient_accumulation_steps (or steps_per_generation)"
    )
