"""A tiny policy is trained for a few steps, for real."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from flip_reward import FlipReward, Group, Request, RewardModel, Score, ScriptedEngine
from flip_reward.audit.monitor.alarms import read_alarms
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import (
    DataError,
    EngineConnectionError,
    EngineUnavailableError,
    OptionError,
    RunMismatchError,
    RunStoppedError,
    StorageError,
)
from flip_reward.integrations.trl import TrlReward
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.redact import mask_secrets
from flip_reward.report.training.page import build_training_page
from flip_reward.rewards.judges.listwise import ListwiseJudge
from flip_reward.rewards.options import Settings
from flip_reward.training.common.folder import AlarmEnd, GrpoOutcome, find_last
from flip_reward.training.grpo.config import make_grpo_config
from flip_reward.training.grpo.data import prepare_rows
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.grpo.rewards import GrpoRewards
from flip_reward.training.grpo.train import train_grpo
from flip_reward.training.grpo.trainer import run_grpo
from tests.http.fault_server import FaultServer
from tests.unit.training.grpo_cases import Notes, make_folder, make_recipe

# What torch, transformers and TRL warn each other of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def count_words(response: str, word: str) -> int:
    return response.split().count(word)


class WordReward(RewardModel):
    """Rewards the word "name"; every response with the word "und" is without a score."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine()

    @property
    def settings(self) -> Settings:
        return {"reward": "word"}

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        return tuple(
            Score(None, Outcome.UNPARSEABLE_REPLY)
            if count_words(response, "und")
            else Score(count_words(response, "name") / 8, Outcome.SCORED)
            for response in group.responses
        )


class DyingReward(WordReward):
    """Does so for some groups, and then its server is gone."""

    def __init__(self, calls_left: int) -> None:
        super().__init__()
        self.calls_left = calls_left

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:
        self.calls_left -= 1
        if self.calls_left >= 0:
            return await super().score_responses(group, target)
        return (Score(None, Outcome.ENGINE_FAILURE, detail="the server refuses connections"),) * len(group.responses)


def run(
    folder: Path, reward: RewardModel, output: str, recipe: GrpoRecipe, notes: Notes
) -> GrpoOutcome | AlarmEnd | None:
    """Train with any reward, as `train_grpo` does with those of the catalogue."""
    target = folder / output
    target.mkdir(exist_ok=True)
    (target / "manifest.json").write_text("{}")
    rows = prepare_rows(recipe.data)
    resumed = find_last(target / "checkpoints") is not None
    config = make_grpo_config(recipe, target, evaluate=bool(rows.held_out), resumed=resumed)
    options = TrlOptions(
        max_completion_length=config.max_completion_length,
        num_generations=config.num_generations,
        max_unscored_share=recipe.max_unscored_share,
        outage_poll_seconds=recipe.outage_poll_seconds,
        outage_timeout_seconds=recipe.outage_timeout_seconds,
    )
    wrapped = TrlReward(reward, options, notes.say)
    rewards = GrpoRewards({"general-flip": wrapped}, {})
    return run_grpo(recipe, config, rows, rewards, target, observer=notes, stop=StopSignal())


def read_samples(folder: Path, split: str) -> dict[int, list[dict[str, Any]]]:
    files = sorted((folder / "samples" / split).glob("*.parquet"))
    return {int(file.stem.removeprefix("step-")): pq.read_table(file).to_pylist() for file in files}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model/model.safetensors")
    return found


def assert_same_weights(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
def test_a_rewarded_word_comes_more_often(folder: Path) -> None:
    samples = {"num_generations": 8, "per_device_train_batch_size": 32}
    steps = {"max_steps": 16, "eval_steps": 16, "save_steps": 16}
    recipe = make_recipe(folder, grpo={**samples, **steps}, max_unscored_share=1.0)
    outcome = run(folder, WordReward(), "out", recipe, Notes())
    assert isinstance(outcome, GrpoOutcome)
    losses = [entry["loss"] for entry in read_metrics(folder / "out") if "loss" in entry]
    assert len(losses) == 16
    assert all(map(math.isfinite, losses))
    held_out = read_samples(folder / "out", "held-out")
    before, after = (sum(count_words(row["response"], "name") for row in held_out[step]) for step in (0, 16))
    assert after > before + 5
    assert outcome.held_out_reward is not None
    assert outcome.held_out_reward_before is not None
    assert outcome.held_out_reward > outcome.held_out_reward_before
    rows = [row for step in read_samples(folder / "out", "train").values() for row in step]
    assert len(rows) == 16 * 32
    for row in rows:
        assert (row["reward"] is None) == (count_words(row["response"], "und") > 0)
        assert (row["reward"] is None) == (row["outcome"] == "unparseable_reply")
    assert not {row["prompt"] for row in rows} & {row["prompt"] for row in held_out[0]}


def test_a_recipe_from_start_to_end(folder: Path) -> None:
    recipe = make_recipe(
        folder, held_out_rewards=[{"reward": "backward-likelihood", "model": "scripted", "cache": "off"}]
    )
    notes = Notes()
    manifest = train_grpo(recipe, folder / "out", observer=notes)
    assert manifest.outcome is not None
    assert manifest.outcome.steps == 4
    assert (manifest.rows, manifest.held_out_rows) == (16, 4)
    assert manifest.grpo["num_generations"] == 4
    assert manifest.grpo["beta"] == 0.0
    assert manifest.sessions[0].versions["trl"]
    assert "scripted" in str(manifest.configuration.settings["general-flip.engine"])
    assert json.loads((folder / "out/checkpoints/checkpoint-4/manifest.json").read_text())["kind"] == "grpo"
    evaluations = [entry for entry in read_metrics(folder / "out") if "eval_reward" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 2, 4]
    assert all(entry["eval_held_out_rewards/backward-likelihood"] < 0 for entry in evaluations)
    assert all("eval_general-flip/mean" in entry for entry in evaluations)
    [first, *_] = read_samples(folder / "out", "held-out")[0]
    assert json.loads(first["held_out_rewards"])["backward-likelihood"] < 0
    assert len(read_samples(folder / "out", "held-out")[4]) == 4 * 2
    assert notes.progress[-1].step == notes.progress[-1].steps == 4
    assert notes.progress[-1].figures.keys() == {"reward", "held out"}
    assert notes.progress[-1].seconds_left == 0
    again = Notes()
    assert train_grpo(recipe, folder / "out", observer=again).outcome == manifest.outcome
    assert again.said == ["It is finished already"]
    with pytest.raises(RunMismatchError, match=r"grpo\.learning_rate"):
        train_grpo(make_recipe(folder, grpo={"learning_rate": 1e-3}), folder / "out")


def test_figures_of_held_out_prompts_are_means_over_samples_where_the_last_batch_is_smaller(folder: Path) -> None:
    data = {"source": str(folder / "rows.jsonl"), "held_out": 0.25}
    recipe = make_recipe(folder, grpo={"max_steps": 1}, data=data, held_out_rewards=[{"reward": "longest"}])
    manifest = train_grpo(recipe, folder / "out")
    before, after = (entry for entry in read_metrics(folder / "out") if "eval_reward" in entry)
    for entry, samples in zip([before, after], read_samples(folder / "out", "held-out").values(), strict=True):
        lengths = [json.loads(sample["held_out_rewards"])["longest"] for sample in samples]
        assert len(lengths) == 5 * 2
        assert entry["eval_held_out_rewards/longest"] == pytest.approx(fmean(lengths))
        rewards = [sample["reward"] for sample in samples if sample["reward"] is not None]
        assert entry["eval_reward"] == entry["eval_general-flip/mean"] == pytest.approx(fmean(rewards))
    assert manifest.outcome is not None
    assert manifest.outcome.held_out_reward == after["eval_reward"]


def test_marks_of_thinking_that_are_special_tokens_reach_the_reward(folder: Path) -> None:
    """TRL decodes completions without special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder / "tiny")
    tokenizer.add_special_tokens({"extra_special_tokens": ["[THINK]", "[/THINK]"]})
    model.resize_token_embeddings(len(tokenizer))
    model.lm_head.weight.data[-1] = model.lm_head.weight.data[tokenizer.convert_tokens_to_ids("yell")]  # often drawn
    tokenizer.save_pretrained(folder / "tiny")
    model.save_pretrained(folder / "tiny")
    recipe = make_recipe(folder, max_unscored_share=1.0, grpo={"eval_strategy": "no"})
    train_grpo(recipe, folder / "out")
    samples = [sample for step in read_samples(folder / "out", "train").values() for sample in step]
    assert any("[/THINK]" in sample["response"] for sample in samples)


def test_no_password_or_key_is_written_down(folder: Path) -> None:
    secret = "hunter2"
    with FaultServer() as server:
        address = server.base_url.replace("://", f"://bob:{secret}@")
        extra_body = {"api_key": secret, "top_k": 5, "proxy": [{"authorization": secret}]}
        served = {
            "model": server.model,
            "base_url": address,
            "extra_body": extra_body,
            "cache": "off",
        }
        recipe = make_recipe(
            folder, reward=served, rewards={"general-quality": served | {"reward": "pointwise"}},
            held_out_rewards=[served], grpo={"max_steps": 1, "save_steps": 1},
        )  # fmt: skip
        manifest = train_grpo(recipe, folder / "out")
    written = manifest.recipe["reward"]
    assert isinstance(written, dict)
    assert written["base_url"] == server.base_url
    assert written["extra_body"] == mask_secrets(extra_body)
    assert {name: written[name] for name in ("reward", "model", "cache")} == {
        "reward": "flip",
        "model": server.model,
        "cache": "off",
    }
    assert build_training_page(folder / "out").exists()
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".html", ".json", ".jsonl", ".parquet", ".bin", ".safetensors"}
    for path in files:
        content = str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()
        assert secret.encode() not in content, path


def test_an_adapter_is_trained_in_place_of_all_weights(folder: Path) -> None:
    recipe = make_recipe(folder, lora={"rank": 4, "alpha": 8}, grpo={"max_steps": 2, "learning_rate": 0.1})
    manifest = train_grpo(recipe, folder / "out")
    assert manifest.outcome is not None
    assert manifest.outcome.steps == 2
    assert not (folder / "out/model/model.safetensors").exists()
    saved = json.loads((folder / "out/model/adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"]) == (4, 8)
    adapter: dict[str, torch.Tensor] = load_file(folder / "out/model/adapter_model.safetensors")
    ends = [value for name, value in adapter.items() if "lora_B" in name]  # they begin at 0
    assert any(bool(value.abs().max() > 0) for value in ends)
    assert (folder / "out/model/tokenizer.json").exists()


def test_a_constant_reward_moves_nothing(folder: Path) -> None:
    recipe = make_recipe(
        folder,
        reward={"reward": "constant"},
        data={"source": str(folder / "rows.jsonl"), "switch_to": "general-constant"},
        grpo={"max_steps": 2},
    )
    train_grpo(recipe, folder / "out")
    start: dict[str, torch.Tensor] = load_file(folder / "tiny/model.safetensors")
    assert all(torch.equal(start[name], value) for name, value in weights(folder / "out").items())


@pytest.mark.slow
def test_stopped_and_resumed_like_undisturbed_across_epochs(folder: Path) -> None:
    """Six prompts make an epoch of three steps, so that the order of the second epoch matters."""
    data = {"source": str(folder / "rows.jsonl"), "rows": 6, "held_out": 0.2}
    recipe = make_recipe(folder, data=data, grpo={"max_steps": 8, "save_steps": 1, "eval_steps": 3})

    class StopAt(Notes):
        def advanced(self, progress: Any) -> None:
            if progress.step == self.step - 1:  # the step that is going on is finished
                stop.requested = True

        step = 0

    train_grpo(recipe, folder / "undisturbed")
    for step in (2, 5):
        stop, notes = StopSignal(), StopAt()
        notes.step = step
        assert train_grpo(recipe, folder / "out", observer=notes, stop=stop).outcome is None
        assert find_last(folder / "out/checkpoints") == folder / f"out/checkpoints/checkpoint-{step}"
    last = Notes()
    train_grpo(recipe, folder / "out", observer=last)
    assert "Going on from step 5" in last.said
    assert {path.name for path in (folder / "out/checkpoints").iterdir()} == {"checkpoint-7", "checkpoint-8"}
    assert_same_weights(folder / "undisturbed", folder / "out")
    assert read_samples(folder / "out", "train") == read_samples(folder / "undisturbed", "train")
    assert [entry["step"] for entry in read_metrics(folder / "out")] == [
        entry["step"] for entry in read_metrics(folder / "undisturbed")
    ]


@pytest.mark.slow
def test_killed_behind_the_last_step_it_takes_no_step_more(folder: Path) -> None:
    recipe = make_recipe(folder)  # four steps of an epoch of eight
    out = folder / "out"
    finished = train_grpo(recipe, out)
    expected = weights(out)
    kept = {
        path: path.stat().st_mtime_ns for part in ("samples", "checkpoints") for path in (out / part).rglob("*.*")
    }
    shutil.rmtree(out / "model")
    finished.model_copy(update={"outcome": None}).write(out)
    manifest = train_grpo(recipe, out)
    assert manifest.outcome == finished.outcome
    assert manifest.outcome is not None
    assert manifest.outcome.steps == 4
    assert all(torch.equal(value, weights(out)[name]) for name, value in expected.items())
    assert kept == {
        path: path.stat().st_mtime_ns for part in ("samples", "checkpoints") for path in (out / part).rglob("*.*")
    }


def test_what_began_before_there_was_a_copy_guard_goes_on_without(folder: Path) -> None:
    recipe, out, notes = make_recipe(folder, grpo={"max_steps": 1}), folder / "out", Notes()
    finished = train_grpo(recipe.without_guard(), out)
    with pytest.raises(RunMismatchError, match="copy_guard"):
        train_grpo(recipe, out)
    earlier = json.loads((out / "manifest.json").read_text())
    for name in ("copy_guard", "copy_guard_share"):
        del earlier["recipe"]["reward"][name]
    (out / "manifest.json").write_text(json.dumps(earlier))
    assert train_grpo(recipe, out, observer=notes).outcome == finished.outcome
    assert any("copy guard" in said for said in notes.said)


@pytest.mark.slow
def test_the_only_checkpoint_goes_when_the_next_one_is_whole(folder: Path) -> None:
    class SpoilNext(Notes):
        def advanced(self, progress: Any) -> None:
            if progress.step == 3:  # a checkpoint holds the manifest, and is whole when it is there
                (folder / "out/manifest.json").unlink(missing_ok=True)

    recipe = make_recipe(folder, grpo={"save_total_limit": 1, "eval_strategy": "no"})
    with pytest.raises(StorageError, match="checkpoint-4") as caught:
        run(folder, WordReward(), "out", recipe, SpoilNext())
    assert caught.value.hint == "checkpoint-2 is kept, and the same command goes on from it"
    assert [path.name for path in (folder / "out/checkpoints").iterdir()] == ["checkpoint-2"]
    assert run(folder, WordReward(), "out", recipe, Notes()) is not None
    assert [path.name for path in (folder / "out/checkpoints").iterdir()] == ["checkpoint-4"]


@pytest.mark.parametrize(
    ("grpo", "before", "after"),
    [
        ({"eval_strategy": "no"}, False, False),
        ({"eval_strategy": "no", "eval_on_start": True}, True, False),
        ({"eval_on_start": False, "eval_steps": 1}, False, True),
    ],
)
def test_a_held_out_reward_is_of_before_or_after(
    folder: Path, grpo: dict[str, object], *, before: bool, after: bool
) -> None:
    recipe = make_recipe(folder, max_unscored_share=1.0, grpo={"max_steps": 2, **grpo})
    outcome = run(folder, WordReward(), "out", recipe, Notes())
    assert isinstance(outcome, GrpoOutcome)
    assert (outcome.held_out_reward_before is not None) == before
    assert (outcome.held_out_reward is not None) == after
    steps = ([0] if before else []) + ([1, 2] if after else [])
    assert list(read_samples(folder / "out", "held-out")) == steps


def test_another_number_of_processes_is_another_training(folder: Path) -> None:
    recipe = make_recipe(folder, grpo={"max_steps": 1, "eval_strategy": "no"})
    manifest = train_grpo(recipe, folder / "out")
    configuration = manifest.configuration
    of_two = configuration.model_copy(update={"settings": {**configuration.settings, "processes": 2}})
    manifest.model_copy(update={"configuration": of_two, "outcome": None}).write(folder / "out")
    with pytest.raises(RunMismatchError, match="processes"):
        train_grpo(recipe, folder / "out")


@pytest.mark.slow
def test_no_room_for_the_policy(folder: Path) -> None:
    recipe, out = make_recipe(folder, grpo={"max_steps": 2, "eval_strategy": "no"}), folder / "out"
    out.mkdir()
    (out / "model").touch()  # a file where the policy should be
    with pytest.raises(StorageError, match="model") as caught:
        train_grpo(recipe, out)
    assert caught.value.hint == "checkpoint-2 is kept, and the same command goes on from it"
    (out / "model").unlink()
    assert train_grpo(recipe, out).outcome is not None
    assert (out / "model/config.json").exists()


@pytest.mark.slow
def test_a_model_that_dies_stops_the_training_with_a_checkpoint(folder: Path) -> None:
    recipe = make_recipe(
        folder,
        outage_poll_seconds=0.01,
        outage_timeout_seconds=0.05,
        grpo={"max_steps": 6, "save_steps": 100, "eval_steps": 100},
    )
    reward, notes = DyingReward(calls_left=12), Notes()
    with pytest.raises(RunStoppedError, match="engine_failure 8") as caught:
        run(folder, reward, "out", recipe, notes)
    assert "the server refuses connections" in str(caught.value)
    assert any("does not answer" in line for line in notes.said)
    last = find_last(folder / "out/checkpoints")
    assert last is not None
    assert last.name in str(caught.value.hint)
    run(folder, WordReward(), "out", recipe, Notes())
    run(folder, WordReward(), "undisturbed", recipe, Notes())
    assert_same_weights(folder / "undisturbed", folder / "out")


class UnevenReward(WordReward):
    """Rewards every other response, and can do so by so much that a gradient, or an advantage, has no number."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        return tuple(
            Score(self.most if number % 2 else 0.0, Outcome.SCORED) for number, _ in enumerate(group.responses)
        )


@pytest.mark.parametrize(
    ("reward", "grpo", "message"),
    [
        (UnevenReward(3e37), {"save_steps": 1}, "the gradient of step 1 is not a number"),
        (UnevenReward(3e38), {"save_steps": 1}, "the loss of step 1 is not a number"),
        (UnevenReward(3e38), {"save_steps": 1, "logging_steps": 10}, "after step 1 weights are not numbers"),
        (UnevenReward(3e38), {"save_strategy": "no", "max_steps": 1, "logging_steps": 10}, "after step 1 weights"),
        (UnevenReward(1.0), {"learning_rate": 1e30, "max_grad_norm": 0.0}, "probabilities are not numbers any more"),
    ],
)
def test_spoilt_weights_are_no_checkpoint(
    folder: Path, reward: RewardModel, grpo: dict[str, object], message: str
) -> None:
    recipe = make_recipe(folder, grpo={"eval_strategy": "no", "scale_rewards": "none", **grpo})
    with pytest.raises(RunStoppedError, match=message) as caught:
        run(folder, reward, "out", recipe, Notes())
    assert "grpo.learning_rate" in str(caught.value.hint)
    assert find_last(folder / "out/checkpoints") is None
    assert not (folder / "out/model").exists()


def test_a_reward_that_is_down_at_the_start_stops_before_the_policy_is_loaded(folder: Path) -> None:
    recipe = make_recipe(
        folder,
        model=str(folder / "no-such-policy"),
        reward={"model": "judge", "base_url": "http://127.0.0.1:9/v1", "cache": "off"},
    )
    with pytest.raises(EngineUnavailableError, match="general-flip") as caught:
        train_grpo(recipe, folder / "out")
    assert "base_url" in str(caught.value.hint)
    assert not (folder / "out").exists()


def test_a_listwise_reward_in_a_training(folder: Path) -> None:
    judge = ListwiseJudge(ScriptedEngine(lambda _: '{"BEST_RESPONSE_INDEX": 0}'))
    recipe = make_recipe(folder, grpo={"max_steps": 1})
    run(folder, judge, "out", recipe, Notes())
    [rows] = read_samples(folder / "out", "train").values()
    assert sum(row["reward"] or 0 for row in rows) == 2.0


def test_no_place_for_checkpoints(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/checkpoints").write_text("in the way")
    with pytest.raises(StorageError, match="checkpoints"):
        train_grpo(make_recipe(folder), folder / "out")


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"grpo": {"per_device_train_batch_size": 6}}, OptionError, "num_generations"),
        ({"grpo": {"report_to": "wandbb"}}, OptionError, "wandbb"),
        ({"grpo": {"per_device_train_batch_size": 800}}, DataError, "200 different prompts"),
        ({"grpo": {"loss_type": "dap"}}, OptionError, "Unknown loss type: dap"),
        ({"grpo": {"model_init_kwargs": {"foo": 1}}}, OptionError, "'foo'"),
        ({"model": "no/such/policy"}, EngineUnavailableError, "no/such/policy"),
        ({"reward": {"reward": "pointwise", "model": "scripted"}}, OptionError, "'pointwise'"),
        (
            {"held_out_rewards": [{"reward": "operator:truediv"}]},
            EngineUnavailableError,
            "fails: operator:truediv raised",
        ),
        ({"reward": {"reward": "flop"}}, OptionError, "unknown reward 'flop' in reward.reward; did you mean 'flip'?"),
    ],
)
def test_mistakes(folder: Path, changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        train_grpo(make_recipe(folder, **changes), folder / "out")
    assert message in str(caught.value)


def test_a_folder_where_nothing_was_learned_takes_another_recipe(folder: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="no/such/policy"):
        train_grpo(make_recipe(folder, model="no/such/policy"), folder / "out")
    (folder / "out/samples/train").mkdir(parents=True)
    (folder / "out/samples/train/step-000009.parquet").write_text("of the recipe before")
    manifest = train_grpo(make_recipe(folder, grpo={"max_steps": 1, "eval_strategy": "no"}), folder / "out")
    assert manifest.recipe["model"] == str(folder / "tiny")
    assert len(manifest.sessions) == 1
    assert list(read_samples(folder / "out", "train")) == [1]


def test_rows_without_a_user_turn_end_it_before_it_begins(folder: Path) -> None:
    with (folder / "rows.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "assistant", "content": "Hi"}], "ground_truth": "", "dataset": "x"}\n')
    with pytest.raises(DataError, match="line 21"):
        train_grpo(make_recipe(folder), folder / "out")
    data = {"source": str(folder / "rows.jsonl"), "held_out": 0.1, "skip_bad_rows": True}
    rows = prepare_rows(make_recipe(folder, data=data).data)
    assert (len(rows.train), len(rows.held_out), rows.left_out) == (18, 2, 1)
    assert len({row.instruction for row in (*rows.train, *rows.held_out)}) == 20


def test_prompts_in_another_encoding(folder: Path) -> None:
    (folder / "prompts.csv").write_bytes("prompt\nGrüße die Bäckerin!\n".encode("cp1252"))
    data = {"source": str(folder / "prompts.csv"), "switch_to": "general-flip"}
    with pytest.raises(DataError, match="not UTF-8"):
        prepare_rows(make_recipe(folder, data=data).data)
    recipe = make_recipe(folder, data={**data, "encoding": "cp1252"})
    [row] = prepare_rows(recipe.data).train
    assert row.instruction == "Grüße die Bäckerin!"
    assert recipe.settings() == make_recipe(folder, data=data).settings()  # so that older trainings go on


def test_an_engine_error_of_flip_is_an_outcome_and_not_a_crash(folder: Path) -> None:
    def fail(_: Request) -> str:
        raise EngineConnectionError("cut off")

    recipe = make_recipe(folder, outage_poll_seconds=0.01, outage_timeout_seconds=0.0, grpo={"eval_strategy": "no"})
    with pytest.raises(RunStoppedError, match="engine_failure") as caught:
        run(folder, FlipReward(ScriptedEngine(fail)), "out", recipe, Notes())
    assert "nothing was learned yet" in str(caught.value.hint)


class TestAlarms:
    """The reward is the length, which the policy learns at once."""

    @staticmethod
    def make(folder: Path, **changes: Any) -> GrpoRecipe:
        return make_recipe(
            folder,
            grpo={"max_steps": 10, "num_generations": 8, "per_device_train_batch_size": 16, "eval_steps": 10},
            data={"source": str(folder / "rows.jsonl"), "held_out": 0.2, "switch_to": "general-longest"},
            reward={"reward": "longest"},
            monitor={"early_steps": 1, "patience_steps": 1, "smoothing": 1.0},
            **changes,
        )

    def test_a_paused_training_goes_on_as_if_undisturbed(self, folder: Path) -> None:
        notes = Notes()
        assert train_grpo(self.make(folder), folder / "warned", observer=notes).ended_by is None
        [alarm] = read_alarms(folder / "warned")
        assert alarm.mechanism == "length"
        assert f"Warning: {alarm.message}" in notes.said
        steps = [entry for entry in read_metrics(folder / "warned") if "audit/length" in entry]
        assert [entry["step"] for entry in steps] == [*range(1, 11)]
        assert steps[-1]["audit/divergence"] > 0.5

        paused = train_grpo(self.make(folder, on_alarm="pause"), folder / "paused")
        assert paused.ended_by is not None
        assert (paused.outcome, paused.ended_by.step) == (None, alarm.step)
        assert not (folder / "paused/model").exists()
        last = find_last(folder / "paused/checkpoints")
        assert last is not None
        assert last.name == f"checkpoint-{alarm.step}"
        gone_on = train_grpo(self.make(folder, on_alarm="pause"), folder / "paused")
        assert gone_on.outcome is not None
        assert gone_on.ended_by is None
        assert read_alarms(folder / "paused") == [alarm]
        assert_same_weights(folder / "paused", folder / "warned")

    def test_a_stopped_training_goes_on_only_with_another_key(self, folder: Path) -> None:
        stopped = train_grpo(self.make(folder, on_alarm="stop"), folder / "out")
        assert stopped.ended_by is not None
        again = Notes()
        assert train_grpo(self.make(folder, on_alarm="stop"), folder / "out", observer=again) == stopped
        assert again.progress == []
        assert train_grpo(self.make(folder, on_alarm="warn"), folder / "out").outcome is not None

    def test_held_out_rewards_of_some_samples_to_learn_from(self, folder: Path) -> None:
        recipe = make_recipe(folder, held_out_rewards=[{"reward": "copy"}], compared_samples=3)
        train_grpo(recipe, folder / "out")
        for rows in read_samples(folder / "out", "train").values():
            known = [json.loads(row["held_out_rewards"]) for row in rows]
            assert [*map(len, known)] == [1] * 4 + [0] * 4, "a group is whole"
