"""The configurations of accelerate are such that the installed one takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from flip_reward.training.grpo.recipe import GrpoRecipe

RECIPES = Path(__file__).parents[3] / "recipes"
RESPONSES = 24 * 8
"""Of a step in the paper's setting."""


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_it_and_it_fits_the_recipes(path: Path) -> None:
    config = load_config_from_file(str(path))
    options = {action.dest for action in launch_command_parser()._actions}
    assert {*config.fsdp_config, *config.deepspeed_config} <= options
    assert (config.distributed_type.value == "FSDP") == path.stem.endswith("fsdp2")
    assert (config.num_machines > 1) == path.stem.startswith("several_nodes")
    grpo = GrpoRecipe.read(RECIPES / "grpo_flip.yaml").grpo
    share, responses = RESPONSES // config.num_processes, grpo["per_device_train_batch_size"]
    assert isinstance(responses, int)
    assert RESPONSES % (config.num_processes * responses) == 0
    if config.num_machines == 1:
        assert share == responses * int(str(grpo["gradient_accumulation_steps"]))
    else:
        guide = (RECIPES.parent / "docs/guides/training.md").read_text()
        assert f"grpo.gradient_accumulation_steps={share // responses}    # {config.num_processes} processes" in guide
