from __future__ import annotations

from pathlib import Path

import pytest

from flip_reward.errors import DataError, OptionError, TemplateError
from flip_reward.training.common.folder import TUNING_KEYS
from flip_reward.training.inferrer.recipe import InferrerRecipe, TuningMethod

RECIPES = Path(__file__).parents[4] / "recipes"


def read(tmp_path: Path, text: str, *overrides: str) -> InferrerRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return InferrerRecipe.read(path, overrides)


BASE = "model: tiny\ndata: [{source: rows.jsonl}]\n"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("tune_inferrer_*.yaml")), ids=lambda path: path.name)
def test_the_recipes_of_the_package(path: Path) -> None:
    recipe = InferrerRecipe.read(path)
    weights = {one.source: one.weight for one in recipe.data}
    assert weights["oasst1_en.jsonl.gz"] == max(weights.values()), "benchmarks have long responses, as it does"
    assert not recipe.load_completion_prompt().is_completion


def test_both_stages_hold_out_the_same_prompts() -> None:
    first, second = (InferrerRecipe.read(RECIPES / f"tune_inferrer_{name}cpu.yaml") for name in ("", "contrast_"))
    assert (first.seed, first.held_out) == (second.seed, second.held_out)


def test_overrides(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        BASE,
        "sft.learning_rate=1e-4",
        "lora.rank=4",
        "method=full",
        "exclude=[a.jsonl, b.jsonl]",
        "rows=null",
    )
    assert recipe.sft == {"learning_rate": 1e-4}
    assert (recipe.lora.rank, recipe.lora.alpha) == (4, 32)
    assert recipe.method is TuningMethod.FULL
    assert recipe.exclude == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "sft: {learning_rat: 1}", "did you mean 'learning_rate'?"),
        (BASE + "lora: {rnk: 4}", "did you mean 'rank'?"),
        ("model: tiny\ndata: [{source: a, wieght: 2}]", "did you mean 'weight'?"),
        (BASE + "zzz: 4", "unknown key 'zzz'\nhint: keys are model, "),
        (BASE + "sft: {num_train_epochs: 0}", "num_train_epochs"),
        (BASE + "sft: {max_length: 9}", "'max_length'"),
        (BASE + "sft: {hub_token: secret}", "'hub_token'"),
        *((BASE + f"{old}: 1", f"'{old}' is now '{new}'") for old, new in TUNING_KEYS.items()),
        ("model: tiny\ndata: []", "data: "),
        ("data: [{source: a}]", "model: "),
        ("- a", r"recipe\.yaml"),
        ("a: [", r"recipe\.yaml"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_mistakes_in_overrides(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="key=value"):
        read(tmp_path, BASE, "seed")
    with pytest.raises(OptionError, match="exclude"):
        read(tmp_path, BASE, "exclude=[")
    with pytest.raises(OptionError, match=r"model\.name"):
        read(tmp_path, BASE, "model.name=a")
    with pytest.raises(DataError, match="did you mean 'seed'"):
        read(tmp_path, BASE, "sed=1")
    with pytest.raises(DataError, match=r"missing\.yaml"):
        InferrerRecipe.read(tmp_path / "missing.yaml")


def test_files_are_looked_for_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    recipe = read(tmp_path, BASE, f"data_folder={tmp_path}")
    assert recipe.locate("rows.jsonl") == str(tmp_path / "rows.jsonl")
    assert recipe.locate("owner/name:train") == "owner/name:train"


def test_what_the_result_depends_on(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE + "output: here").settings()
    assert settings["sft.learning_rate"] == 2e-4
    assert settings["lora.rank"] == 16
    assert settings["data 1 weight"] == 1.0
    assert "output" not in settings
    assert "lora.rank" not in read(tmp_path, BASE + "method: full").settings()


def test_a_frame_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "FRAME_USER.prompt").write_text("{response} answers: {instruction}")
    assert (
        read(tmp_path, BASE, f"template_dir={tmp_path}")
        .load_completion_prompt()
        .template.user.startswith("{response} answers")
    )
    assert read(tmp_path, BASE).load_completion_prompt().template.name == "tuned"


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="answr"):
        read(tmp_path, BASE + "template: answr").load_completion_prompt()
