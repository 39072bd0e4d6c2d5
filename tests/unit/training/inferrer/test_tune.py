from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from flip_reward.core.conversation import Group
from flip_reward.engines.config import EngineConfig, find_tuning
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.engines.lora.shipped import Tuning
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import DataError, OptionError, RunMismatchError, RunStoppedError, StorageError
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodOptions, BackwardLikelihoodReward
from flip_reward.training.common.folder import TuningManifest, find_last
from flip_reward.training.common.progress import Progress
from flip_reward.training.common.recipe import LoraOptions
from flip_reward.training.inferrer.recipe import DataSource, InferrerRecipe, SavedAs, TuningMethod
from flip_reward.training.inferrer.tune import tune_inferrer
from tests.hf_models import save_model

FRUITS = ("Apples", "pears", "plums", "fruits", "trees", "sentence", "question", "name")
ROWS = [
    {"prompt": f"Name {one} and {other}, please.", "response": f"{one} and {other} grow on trees. {one}, {other}."}
    for one in FRUITS
    for other in FRUITS
    if one != other
]


class Watcher:
    """Remembers what it is told, and does something at a step."""

    def __init__(self, at_step: int | None = None, do: Callable[[], None] | None = None) -> None:
        self.said: list[str] = []
        self.progress: list[Progress] = []
        self._at_step, self._do = at_step, do

    def say(self, message: str, *, warning: bool = False) -> None:
        self.said.append(("Warning: " if warning else "") + message)

    def advanced(self, progress: Progress) -> None:
        self.progress.append(progress)
        if progress.step == self._at_step and self._do is not None:
            do, self._do = self._do, None
            do()


class Killed(BaseException):
    """Ends a tuning as a kill does: nothing is written after it."""


def killed() -> None:
    raise Killed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe(model: Path, rows: Path) -> InferrerRecipe:
    return InferrerRecipe(
        model=str(model),
        data=[DataSource(source=str(rows))],
        keep_near_duplicates=True,
        held_out=0.15,
        lora=LoraOptions(rank=8, dropout=0.1),
        sft={
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "num_train_epochs": 1.5,
            "bf16": False,
            "use_cpu": True,
            "save_steps": 3,
            "eval_steps": 4,
            "logging_steps": 1,
        },
    )


def change_sft(recipe: InferrerRecipe, **changes: object) -> InferrerRecipe:
    return recipe.model_copy(update={"sft": recipe.sft | changes})


@pytest.fixture(scope="module")
def undisturbed(recipe: InferrerRecipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuningManifest]:
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    return folder, tune_inferrer(recipe, folder, observer=Watcher())


def read_metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def score(model: Path | str) -> float:
    engine = TransformersEngine(str(model), dtype="float32", device="cpu")
    try:
        reward = BackwardLikelihoodReward(engine, BackwardLikelihoodOptions("tuned"))
        groups = [Group.of(row["prompt"], row["response"]) for row in ROWS[:10]]
        return sum(one.value or 0.0 for [one] in reward.score_sync(groups)) / len(groups)
    finally:
        engine.close()


@pytest.mark.slow
def test_the_loss_falls_and_scoring_sees_it(
    undisturbed: tuple[Path, TuningManifest], model: Path, recipe: InferrerRecipe
) -> None:
    folder, manifest = undisturbed
    outcome = manifest.outcome
    assert outcome is not None
    assert outcome.held_out_loss is not None
    assert outcome.held_out_loss_before is not None
    assert outcome.held_out_loss < outcome.held_out_loss_before - 1
    assert score(folder) > score(model) + 1
    metrics = read_metrics(folder)
    assert [line["step"] for line in metrics if "train_loss" in line] == list(range(1, outcome.steps + 1))
    assert metrics[0]["step"] == 0
    assert load_hf_model(str(folder), device="cpu").name == "tiny+adapter"
    assert str(recipe.model) == str(model)


def test_the_manifest_says_from_what_and_how(
    undisturbed: tuple[Path, TuningManifest], recipe: InferrerRecipe
) -> None:
    folder, manifest = undisturbed
    assert TuningManifest.read(folder) == manifest
    [source] = manifest.sources
    assert (source.rows, source.removed) == (56, {})
    assert source.kept + source.held_out == 56
    assert manifest.configuration.inputs[0].name == "rows.jsonl"
    assert len(manifest.configuration.inputs[0].fingerprint or "") == 64
    assert manifest.configuration.settings["sft.learning_rate"] == recipe.sft["learning_rate"]
    assert {"torch", "trl", "peft", "transformers"} <= manifest.sessions[0].versions.keys()
    assert manifest.outcome is not None
    assert manifest.outcome.steps == -(-round(source.kept * 1.5) // 8)
    text = (folder / "manifest.json").read_text()
    assert str(folder.parent.parent) not in text, "it tells about this machine"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "adapter.gguf",
        "adapter_config.json",
        "adapter_model.safetensors",
        "base_model.json",
        "chat_template.jinja",
        "inferrer.json",
        "manifest.json",
        "metrics.jsonl",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.slow
def test_a_killed_tuning_ends_as_if_it_had_not_been(
    undisturbed: tuple[Path, TuningManifest], recipe: InferrerRecipe, tmp_path: Path
) -> None:
    folder, manifest = undisturbed
    with pytest.raises(Killed):
        tune_inferrer(recipe, tmp_path / "again", observer=Watcher(5, killed))
    partial = tmp_path / "again/checkpoints/checkpoint-99"
    partial.mkdir()  # as of a process that was killed while it wrote
    watcher = Watcher()
    resumed = tune_inferrer(recipe, tmp_path / "again", observer=watcher)
    assert "Going on from step 3" in watcher.said
    assert min(one.step for one in watcher.progress) == 3
    assert list(watcher.progress[-1].figures) == ["tokens/s", "loss", "held out"]
    assert watcher.progress[-1].seconds_left == 0
    assert resumed.outcome == manifest.outcome
    assert len(resumed.sessions) == 2
    assert read_metrics(tmp_path / "again") == read_metrics(folder)
    for name in ("adapter_model.safetensors", "adapter_config.json", "adapter.gguf"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_killed_behind_the_last_step_it_takes_no_step_more(recipe: InferrerRecipe, tmp_path: Path) -> None:
    cut = change_sft(recipe, max_steps=4)
    expected = tune_inferrer(cut, tmp_path / "undisturbed")
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "adapter_config.json").mkdir()  # a folder where a file should be
    with pytest.raises(StorageError, match=str(folder)):
        tune_inferrer(cut, folder)
    (folder / "adapter_config.json").rmdir()
    watcher = Watcher()
    assert tune_inferrer(cut, folder, observer=watcher).outcome == expected.outcome
    assert "Going on from step 4" in watcher.said
    assert max(one.step for one in watcher.progress) == 4
    weights, others = (load_file(one / "adapter_model.safetensors") for one in (folder, tmp_path / "undisturbed"))
    assert all((weights[name] == others[name]).all() for name in others)


@pytest.mark.slow
def test_a_request_to_stop_leaves_a_checkpoint(
    undisturbed: tuple[Path, TuningManifest], recipe: InferrerRecipe, tmp_path: Path
) -> None:
    stop = StopSignal()

    def request() -> None:
        stop.requested = True

    stopped = tune_inferrer(recipe, tmp_path / "again", observer=Watcher(3, request), stop=stop)
    assert stopped.outcome is None
    watcher = Watcher()
    resumed = tune_inferrer(recipe, tmp_path / "again", observer=watcher)
    assert "Going on from step 4" in watcher.said
    weights, expected = (
        load_file(path / "adapter_model.safetensors") for path in (tmp_path / "again", undisturbed[0])
    )
    assert all((weights[name] == expected[name]).all() for name in expected)
    assert resumed.outcome == undisturbed[1].outcome


def test_a_finished_tuning_is_left_as_it_is(undisturbed: tuple[Path, TuningManifest], recipe: InferrerRecipe) -> None:
    folder, manifest = undisturbed
    watcher = Watcher()
    assert tune_inferrer(recipe, folder, observer=watcher) == manifest
    assert watcher.said == ["It is finished already"]
    with pytest.raises(RunMismatchError, match=r"sft\.learning_rate"):
        tune_inferrer(change_sft(recipe, learning_rate=0.02), folder)


def test_all_weights(recipe: InferrerRecipe, model: Path, tmp_path: Path) -> None:
    whole = change_sft(recipe, bf16=True, max_steps=4, gradient_checkpointing=True).model_copy(
        update={"method": TuningMethod.FULL, "saved_as": SavedAs.BFLOAT16, "held_out": 0.0}
    )
    manifest = tune_inferrer(whole, tmp_path / "whole")
    assert manifest.outcome is not None
    assert (manifest.outcome.steps, manifest.outcome.held_out_loss) == (4, None)
    assert score(tmp_path / "whole") > score(model) + 0.5
    weights = load_file(tmp_path / "whole/model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.bfloat16"}
    assert not (tmp_path / "whole/.unfinished").exists()
    assert find_tuning(EngineConfig(f"transformers:{tmp_path / 'whole'}"), {}) == Tuning(
        whole.load_completion_prompt().template.name
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only for this user")
def test_a_folder_that_cannot_be_written(recipe: InferrerRecipe, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StorageError):
        tune_inferrer(recipe, tmp_path / "closed/model")


@pytest.mark.slow
def test_no_room_for_the_tuned_model(
    undisturbed: tuple[Path, TuningManifest], recipe: InferrerRecipe, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    blocked = folder / "adapter_model.safetensors"  # a folder where the weights should be
    steps = undisturbed[1].outcome.steps if undisturbed[1].outcome else 0
    with pytest.raises(StorageError, match=str(folder)) as caught:
        tune_inferrer(recipe, folder, observer=Watcher(steps, lambda: (blocked / "in the way").mkdir(parents=True)))
    assert "the last checkpoint is kept" in str(caught.value.hint)
    assert not (folder / "adapter_config.json").exists(), "nothing may look like a model"
    shutil.rmtree(blocked)
    tune_inferrer(recipe, folder)
    assert blocked.read_bytes() == (undisturbed[0] / blocked.name).read_bytes()


@pytest.mark.slow
def test_no_room_for_a_checkpoint(recipe: InferrerRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def block() -> None:
        (folder / "checkpoints/checkpoint-6").touch()  # a file where the next checkpoint should be

    with pytest.raises(StorageError, match="checkpoint-6") as caught:
        tune_inferrer(recipe, folder, observer=Watcher(5, block))
    assert caught.value.hint == "checkpoint-3 is kept, and the same command goes on from it"
    assert not (folder / "adapter_config.json").exists()
    (folder / "checkpoints/checkpoint-6").unlink()
    assert tune_inferrer(recipe, folder).outcome is not None


@pytest.mark.parametrize(
    ("changes", "held_out", "message"),
    [
        ({"logging_steps": 10}, 0.15, "after step 3 weights are not numbers"),
        ({"logging_steps": 1, "eval_steps": 1}, 0.15, "the loss of held-out rows of step 1 is not a number"),
        ({"logging_steps": 1}, 0.0, "the loss of step 2 is not a number"),
    ],
)
def test_spoilt_weights_are_no_checkpoint(
    recipe: InferrerRecipe, tmp_path: Path, changes: dict[str, object], held_out: float, message: str
) -> None:
    spoilt = change_sft(recipe, learning_rate=1e30, warmup_steps=0, **changes)
    spoilt = spoilt.model_copy(update={"held_out": held_out})
    with pytest.raises(RunStoppedError, match=message) as caught:
        tune_inferrer(spoilt, tmp_path / "out")
    assert "another folder with --output" in str(caught.value.hint)
    assert find_last(tmp_path / "out/checkpoints") is None


class TestMistakes:
    def test_no_chat_template(self, recipe: InferrerRecipe, tmp_path: Path) -> None:
        plain = save_model(tmp_path / "plain", chat_template=None)
        with pytest.raises(OptionError, match="tuned"):
            tune_inferrer(recipe.model_copy(update={"model": str(plain)}), tmp_path / "out")

    def test_missing_files(self, recipe: InferrerRecipe, tmp_path: Path) -> None:
        missing = recipe.model_copy(update={"data": [DataSource(source=str(tmp_path / "rws.jsonl"))]})
        with pytest.raises(DataError, match=r"rws\.jsonl"):
            tune_inferrer(missing, tmp_path / "out")
        with pytest.raises(DataError, match=r"llmbar\.jsonl"):
            tune_inferrer(recipe.model_copy(update={"exclude": [str(tmp_path / "llmbar.jsonl")]}), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("sft", "name"),
        [({"report_to": "wandbb"}, "wandbb"), ({"eval_strategy": "steps"}, "held-out"), ({"optim": "adamm"}, "sft")],
    )
    def test_a_section_that_trl_does_not_take(
        self, recipe: InferrerRecipe, tmp_path: Path, sft: dict[str, object], name: str
    ) -> None:
        with pytest.raises(OptionError, match=name):
            tune_inferrer(change_sft(recipe, **sft).model_copy(update={"held_out": 0.0}), tmp_path / "out")

    def test_an_adapter_is_no_base(
        self, recipe: InferrerRecipe, undisturbed: tuple[Path, TuningManifest], tmp_path: Path
    ) -> None:
        with pytest.raises(OptionError, match=undisturbed[0].name):
            tune_inferrer(recipe.model_copy(update={"model": str(undisturbed[0])}), tmp_path / "out")

    def test_prompts_of_evaluations_are_left_out(self, recipe: InferrerRecipe, tmp_path: Path) -> None:
        evaluation = tmp_path / "pairs.jsonl"
        evaluation.write_text(json.dumps({"prompt": ROWS[0]["prompt"].upper()}) + "\n")
        wanted = change_sft(recipe, max_steps=1).model_copy(update={"exclude": [str(evaluation)], "held_out": 0.0})
        manifest = tune_inferrer(wanted, tmp_path / "out")
        assert manifest.sources[0].removed["evaluated"] == 1
        assert manifest.evaluated_prompts == 1
        assert [one.name for one in manifest.configuration.inputs] == ["rows.jsonl", "pairs.jsonl"]
