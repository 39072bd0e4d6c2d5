from importlib.util import find_spec
from pathlib import Path

import pytest

from flip_reward.errors import OptionError
from flip_reward.training.common.libraries import TRACKERS
from flip_reward.training.grpo.config import find_unsafe_saving, make_grpo_config
from tests.unit.training.grpo_cases import make_recipe

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize(
    ("grpo", "message"),
    [
        ({"max_completion_length": None}, "grpo.max_completion_length"),
        ({"max_completion_length": 0}, "grpo.max_completion_length"),
        ({"temperature": 0}, "grpo.temperature"),
        ({"num_iterations": 0}, "grpo.num_iterations"),
        ({"steps_per_generation": 0}, "grpo.steps_per_generation"),
        ({"deepspeed": "zero3.json"}, "needs deepspeed"),
        ({"per_device_train_batch_size": 6}, "divisible by num_generations"),
        ({"per_device_eval_batch_size": 3}, "divisible by the number of generations"),
        ({"report_to": "wandbb"}, "wandbb"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, grpo: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_grpo_config(make_recipe(tmp_path, grpo=grpo), tmp_path, evaluate=True, resumed=False)
    assert message in str(caught.value)
    if "divisible" in message:
        assert "a batch " in str(caught.value.hint)


def test_rewards_that_are_not_scaled_as_older_recipes_say_it(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, grpo={"scale_rewards": False})
    assert make_grpo_config(recipe, tmp_path, evaluate=False, resumed=False).scale_rewards == "none"


@pytest.mark.parametrize("tracker", TRACKERS)
def test_trackers_by_name(tmp_path: Path, tracker: str) -> None:
    """Each is taken where it is installed, and otherwise the command says how to install it."""
    recipe = make_recipe(tmp_path, grpo={"report_to": [tracker]})
    libraries = ["tensorboard", "tensorboardX"] if tracker == "tensorboard" else [tracker]
    if tracker == "none" or any(map(find_spec, libraries)):
        config = make_grpo_config(recipe, tmp_path, evaluate=False, resumed=False)
        assert config.report_to == ([] if tracker == "none" else [tracker])
    else:
        with pytest.raises(OptionError, match=tracker) as caught:
            make_grpo_config(recipe, tmp_path, evaluate=False, resumed=False)
        assert caught.value.hint == f"pip install {tracker}"


def test_processes_wait_for_one_that_waits_for_its_rewards(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, outage_timeout_seconds=7200.0, outage_poll_seconds=60.0)
    assert make_grpo_config(recipe, tmp_path, evaluate=False, resumed=False).ddp_timeout > 7260
    chosen = make_recipe(tmp_path, grpo={"ddp_timeout": 9})
    assert make_grpo_config(chosen, tmp_path, evaluate=False, resumed=False).ddp_timeout == 9


@pytest.mark.parametrize("wanted", [True, False, None])
@pytest.mark.filterwarnings("error:.*gradient_checkpointing.*:FutureWarning")
def test_activation_checkpointing_by_the_name_that_trl_has_for_it(tmp_path: Path, *, wanted: bool | None) -> None:
    recipe = make_recipe(tmp_path)
    others = {name: value for name, value in recipe.grpo.items() if name != "gradient_checkpointing"}
    grpo = others if wanted is None else others | {"gradient_checkpointing": wanted}
    config = make_grpo_config(recipe.model_copy(update={"grpo": grpo}), tmp_path, evaluate=False, resumed=False)
    assert config.gradient_checkpointing is (True if wanted is None else wanted)


def test_checkpoints_amid_samples_that_are_used_again_are_warned_of(tmp_path: Path) -> None:
    twice = make_recipe(tmp_path, grpo={"num_iterations": 2, "save_steps": 3})
    warning = find_unsafe_saving(make_grpo_config(twice, tmp_path, evaluate=False, resumed=False))
    assert "a multiple of 2" in str(warning)
    even = make_recipe(tmp_path, grpo={"num_iterations": 2, "save_steps": 4})
    assert find_unsafe_saving(make_grpo_config(even, tmp_path, evaluate=False, resumed=False)) is None
