"""Evaluations as files."""

from pathlib import Path

import pytest

from flip_reward.core.score import Aggregation
from flip_reward.engines.config import EngineConfig
from flip_reward.errors import DataError, OptionError
from flip_reward.evaluation.benchmarks.catalogue import BenchmarkName
from flip_reward.evaluation.grid import load_rewards
from flip_reward.evaluation.recipe import Recipe, RecipeModel
from flip_reward.rewards.config import RewardConfig

RECIPES = Path(__file__).parents[3] / "recipes"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe(tmp_path: Path) -> None:
    text = """
    benchmarks: ["llmbar:natural"]
    rewards: [flip, listwise]
    models:
      - {model: a, base_url: "http://localhost:1/v1", extra_body: {top_k: 1}}
      - {model: b}
    reward: {temperature: 0.5, max_tokens: 9, samples: 4, aggregation: median, orders: 2}
    runs: 2
    """
    recipe = Recipe.read(write(tmp_path / "r.yaml", text))
    assert recipe.reward == RewardConfig(
        temperature=0.5, max_tokens=9, samples=4, aggregation=Aggregation.MEDIAN, orders=2
    )
    shared = EngineConfig(base_url="http://shared/v1", extra_body={"min_p": 0.1}, concurrency=3)
    one, other = (model.to_engine_config(shared) for model in recipe.models)
    assert (one.model, one.base_url, one.extra_body) == ("a", "http://localhost:1/v1", {"min_p": 0.1, "top_k": 1})
    assert (other.model, other.base_url, other.concurrency) == ("b", "http://shared/v1", 3)


def test_a_recipe_is_narrowed_by_the_command_line_and_not_changed() -> None:
    recipe = Recipe(benchmarks=["llmbar"], rewards=["flip"], models=[RecipeModel(model="a"), RecipeModel(model="b")])
    narrowed = recipe.joined(Recipe(models=[RecipeModel(model="b")], limit=9))
    assert ([model.model for model in narrowed.models], narrowed.limit) == (["b"], 9)
    assert recipe.joined(Recipe()) == recipe
    with pytest.raises(OptionError, match="the recipe has no model 'c'"):
        recipe.joined(Recipe(models=[RecipeModel(model="c")]))
    with pytest.raises(OptionError, match="runs"):
        recipe.joined(Recipe(runs=5))
    with pytest.raises(OptionError, match="temperature"):
        recipe.joined(Recipe(reward=RewardConfig(temperature=0.5)))
    reached = recipe.joined(Recipe(reward=RewardConfig(base_url="http://h/v1", concurrency=3)))
    assert (reached.reward.engine.base_url, reached.reward.engine.concurrency) == ("http://h/v1", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rewards: [flip", "is not YAML"),
        ("- flip", "holds no keys and values"),
        ("benchmark: [llmbar]", "unknown key 'benchmark'; did you mean 'benchmarks'"),
        ("reward: {aggregation: sum}", "reward.aggregation: Input should be 'mean', 'max' or 'median'"),
        ("runs: 0", "runs: Input should be greater"),
        ("models: [{modell: a}]", "unknown key 'models.0.modell'; did you mean 'model'"),
        ("reward: {top_p: 2}", "reward.top_p: Input should be less"),
        ("samples: 4", "unknown key 'samples'; did you mean 'reward.samples'"),
        ("reward: {tempature: 2}", "unknown key 'reward.tempature'; did you mean 'temperature'"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Recipe.read(write(tmp_path / "r.yaml", text))


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Recipe.read(tmp_path / "r.yaml")


def test_the_papers_recipe() -> None:
    recipe = Recipe.read(RECIPES / "paper_table.yaml")
    assert (len(recipe.models), recipe.runs, recipe.reward.flip.sampling.max_tokens) == (13, 5, 512)
    assert recipe.rewards == ["flip", "pointwise", "pairwise", "listwise"]
    [benchmark] = map(BenchmarkName.parse, recipe.benchmarks)
    assert benchmark == BenchmarkName("rewardbench2", None, ("Factuality", "Precise IF", "Math", "Focus"))
    rewards = load_rewards(
        recipe.rewards,
        [model.to_engine_config(EngineConfig()) for model in recipe.models],
        recipe.reward,
        runs=recipe.runs,
    )
    assert len(rewards) == 4 * 13
    assert {len(reward.runs) for reward in rewards} == {5}
    text = (RECIPES / "paper_table.yaml").read_text()
    assert all(f"vllm serve {model.model} " in text for model in recipe.models)


def test_a_recipe_names_the_encoding_of_its_files(tmp_path: Path) -> None:
    recipe = Recipe.read(write(tmp_path / "r.yaml", "{benchmarks: [pairs.csv], rewards: [flip], encoding: cp1252}"))
    assert recipe.encoding == "cp1252"
    with pytest.raises(OptionError, match="encoding is set by the recipe"):
        recipe.joined(Recipe(encoding="utf-16"))
