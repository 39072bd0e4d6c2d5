from pathlib import Path

import pytest

from flip_reward.errors import DataError, FlipRewardError
from flip_reward.training.grpo.config import find_unsafe_saving, make_grpo_config
from flip_reward.training.grpo.recipe import GrpoRecipe
from tests.unit.training.grpo_cases import make_recipe

RECIPES = sorted((Path(__file__).parents[4] / "recipes").glob("grpo_*.yaml"))
SMALL = "model: tiny\ndata: {source: rows.jsonl}\ngrpo: {learning_rate: 1e-6, report_to: none}\n"

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves_against_the_installed_trl(path: Path, tmp_path: Path) -> None:
    recipe = GrpoRecipe.read(path, ["grpo.use_cpu=true", "grpo.bf16=false", "grpo.use_vllm=false"])
    config = make_grpo_config(recipe, tmp_path, evaluate=True, resumed=False)
    for name, value in recipe.grpo.items():
        if name not in ("eval_strategy", "save_strategy", "lr_scheduler_type", "report_to"):
            assert getattr(config, name) == value
    assert config.eval_on_start
    assert find_unsafe_saving(config) is None


def test_recipes_of_the_paper_differ_in_the_reward_alone() -> None:
    flip, judge = (GrpoRecipe.read(path) for path in RECIPES if path.stem in ("grpo_flip", "grpo_judge"))
    assert flip.grpo == judge.grpo
    assert flip.model == judge.model
    assert flip.without_guard().reward.model_copy(update={"reward": "pointwise"}) == judge.reward
    assert flip.data.model_copy(update={"source": "", "switch_to": None}) == judge.data.model_copy(
        update={"source": "", "switch_to": None}
    )
    assert flip.held_out_rewards != judge.held_out_rewards


@pytest.mark.parametrize("name", ["grpo_flip", "grpo_judge"])
def test_recipes_of_the_paper_have_its_numbers(name: str) -> None:
    """Of arXiv 2602.13551, whatever the recipes agree on."""
    recipe = GrpoRecipe.read(RECIPES[0].with_name(f"{name}.yaml"))
    expected = {
        "num_generations": 8,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "temperature": 1.0,
        "max_completion_length": 16384,
        "generation_kwargs": {"stop": ["</answer>"], "include_stop_str_in_output": True},
        "epsilon_high": 0.272,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 2.0,
        "mask_truncated_completions": True,
        "seed": 1,
        "save_steps": 50,
        "eval_steps": 50,
    }
    assert {key: recipe.grpo[key] for key in expected} == expected
    batch = [recipe.grpo[key] for key in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    assert batch == [1, 32]  # on six processes 192 responses: 24 prompts x 8
    assert recipe.model == "allenai/Olmo-3-7B-Think-DPO"
    assert recipe.mask_truncated_completions
    assert (recipe.data.max_prompt_tokens, recipe.data.seed) == (2048, 1)
    assert (recipe.reward.engine.model, recipe.reward.engine.no_thinking) == ("Qwen/Qwen3-4B", True)
    assert recipe.reward.part.sampling.max_tokens == 2048
    [other] = recipe.held_out_rewards
    assert {recipe.reward.reward, other.reward} == {"flip", "pointwise"}
    assert (recipe.reward.reward == "flip") == (name == "grpo_flip")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["modle=x"], "did you mean 'model'?"),
        (["grpo.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["grpo.num_generations=many"], "num_generations"),
        (["grpo.output_dir=x"], "'output_dir'"),
        (["grpo.hub_token=hf_secret"], "'hub_token'"),
        (["grpo.model_init_kwargs={token: hf_secret}"], "'model_init_kwargs.token'"),
        (
            ["grpo.vllm_server_base_url=http://bob:hf_secret@host:8000"],
            "'vllm_server_base_url'",
        ),
        (["reward.modl=x"], "did you mean 'model'?"),
        (
            ["rewards.general-qualty.model=x"],
            "did you mean 'general-qual",
        ),
        (
            ["rewards.general-quality={reward: flip}"],
            "'general-quality'",
        ),
        (["grpo.trust_remote_code=true"], "'trust_remote_code'"),
        (["grpo.model_init_kwargs={trust_remote_code: true}"], "'model_init_kwargs.trust_remote_code'"),
        (["evaluation.rewards=[]"], "'evaluation' is now 'held_out_rewards'"),
        (["truncated=leave_out"], "'truncated' is now 'mask_truncated_completions'"),
        (["patience_seconds=1"], "'patience_seconds' is now 'outage_timeout_seconds'"),
        (["data.held_out=0.1", "data.held_out_source=x"], "held_out_source"),
        (["data.hold_out=0.1"], "did you mean 'held_out'?"),
        (["max_unscored_share=2"], "max_unscored_share"),
        (["outage_timeout_seconds=.inf"], "outage_timeout_seconds"),
        (["grpo=fast"], "grpo: "),
        (["data=rows.jsonl"], "data: "),
    ],
)
def test_mistakes(tmp_path: Path, overrides: list[str], message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALL)
    with pytest.raises(FlipRewardError) as caught:
        GrpoRecipe.read(path, overrides)
    assert message in str(caught.value)
    assert isinstance(caught.value, DataError)
    assert "hf_secret" not in str(caught.value)


def test_a_section_of_rewards_has_the_reward_of_its_name(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, rewards={"general-quality": {"model": "m"}, "general-flip": {"reward": "flip"}})
    assert {name: section.reward for name, section in recipe.rewards.items()} == {
        "general-quality": "pointwise",
        "general-flip": "flip",
    }
    assert recipe.rewards["general-quality"].engine.model == "m"


def test_numbers_that_yaml_takes_for_texts(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALL)
    assert GrpoRecipe.read(path).grpo["learning_rate"] == 1e-6


def test_rewards_hold_copies_against_a_response() -> None:
    given = {"model": "m", "data": {"source": "prompts.jsonl"}}
    likelihood = {"reward": "backward-likelihood", "model": "embedded"}
    recipe = GrpoRecipe.model_validate(
        given | {"held_out_rewards": [likelihood], "rewards": {"general-flip": {}, "general-quality": {}}}
    )
    assert recipe.reward.flip.copy_guard
    assert recipe.rewards["general-flip"].flip.copy_guard
    assert recipe.held_out_rewards[0].backward_likelihood.copy_guard
    assert not recipe.without_guard().held_out_rewards[0].backward_likelihood.copy_guard
    assert "copy_guard" not in recipe.rewards["general-quality"].changed()
    off = {"copy_guard": False}
    recipe_without = GrpoRecipe.model_validate(given | {"reward": off, "held_out_rewards": [likelihood | off]})
    assert not recipe_without.reward.flip.copy_guard
    assert not recipe_without.held_out_rewards[0].backward_likelihood.copy_guard
    assert GrpoRecipe.model_validate(given | {"reward": likelihood}).reward.backward_likelihood.copy_guard
    assert GrpoRecipe.model_validate(given | {"reward": {"reward": "min(flip, copy)"}}).reward.flip.copy_guard
    assert recipe.without_guard().rewards["general-flip"] == recipe.rewards["general-flip"].updated(copy_guard=False)
