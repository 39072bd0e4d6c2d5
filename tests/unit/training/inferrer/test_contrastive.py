from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from flip_reward.engines.huggingface.inference import score_rows
from flip_reward.engines.huggingface.loading import load_hf_model
from flip_reward.engines.huggingface.text import ScoredRow
from flip_reward.errors import DataError, EngineUnavailableError, OptionError, RunMismatchError
from flip_reward.training.common.recipe import LoraOptions
from flip_reward.training.inferrer.contrastive import check_score_group, score_group
from flip_reward.training.inferrer.recipe import ContrastOptions, DataSource, InferrerRecipe
from flip_reward.training.inferrer.text import TuningText
from flip_reward.training.inferrer.tune import tune_inferrer
from tests.hf_models import save_model

GROUP = [
    TuningText([5, 6, 7, 8, 20, 21, 2], learned=3),
    TuningText([5, 6, 9, 30, 2], learned=2),
    TuningText([5, 6, 7, 7, 7, 40, 41, 42, 43, 2], learned=5),
]
ROWS = [
    {"prompt": f"{verb} {fruit}, please.", "response": f"{fruit} {fruit} {verb}: {fruit} grow on trees."}
    for fruit in ("Apples", "Pears", "Plums", "Birnen", "Äpfel", "Pflaumen")
    for verb in ("Name", "Which", "What is", "Answer")
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def network(tiny: Path) -> LlamaForCausalLM:
    return load_hf_model(str(tiny), dtype="float32", device="cpu").network


@torch.no_grad()
def test_a_group_is_scored_as_every_text_alone(network: LlamaForCausalLM) -> None:
    scores = score_group(network, GROUP, network)
    for own, text in enumerate(GROUP):
        instruction = text.tokens[-text.learned : -1]
        for other, response in enumerate(GROUP):
            prefix = response.tokens[: len(response.tokens) - response.learned]
            [alone] = score_rows(network, [ScoredRow([*prefix, *instruction], len(instruction))])
            assert float(scores.instructions[own, other]) == pytest.approx(sum(alone), abs=1e-4)
        [alone] = score_rows(network, [ScoredRow(text.tokens, text.learned)])
        assert float(scores.ends[own]) == pytest.approx(alone[-1], abs=1e-5)


@torch.no_grad()
def test_the_losses_are_those_of_the_formula(network: LlamaForCausalLM) -> None:
    scores = score_group(network, GROUP, network)
    table = scores.instructions.double()
    expected = sum(float(torch.logsumexp(table[own], 0) - table[own, own]) for own in range(3))
    assert float(scores.contrast) == pytest.approx(expected, rel=1e-5)
    assert float(scores.likelihood) == pytest.approx(-float(table.trace() + scores.ends.sum()), rel=1e-5)
    assert scores.ranked_right == sum(int(table[own].argmax()) == own for own in range(3))


def test_a_model_that_has_no_places_for_it_is_refused(network: LlamaForCausalLM) -> None:
    check_score_group(network, GROUP)
    small = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2}
    check_score_group(GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **small)), GROUP)
    recurrent = MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, **small))
    with pytest.raises(OptionError, match="contrast"):
        check_score_group(recurrent, GROUP)


SFT: dict[str, object] = {
    "learning_rate": 1e-2, "per_device_train_batch_size": 4, "bf16": False, "use_cpu": True, "logging_steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def likelihood(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> InferrerRecipe:
    rows = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return InferrerRecipe(
        model=str(tiny),
        data=[DataSource(source=str(rows))],
        keep_near_duplicates=True,
        held_out=0.0,
        lora=LoraOptions(rank=8),
        sft=SFT,
    )


@pytest.fixture(scope="module")
def started(likelihood: InferrerRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "likelihood"
    tune_inferrer(likelihood, folder)
    return folder


def read_metric(folder: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.mark.slow
def test_contrast_raises_instructions_above_those_after_other_responses(
    likelihood: InferrerRecipe, started: Path, tmp_path: Path
) -> None:
    recipe = likelihood.model_copy(
        update={"start": started, "contrast": ContrastOptions(), "sft": SFT | {"num_train_epochs": 12.0}}
    )
    manifest = tune_inferrer(recipe, tmp_path / "contrast")
    assert manifest.outcome is not None
    losses = read_metric(tmp_path / "contrast", "contrast_loss")
    assert len(losses) == manifest.outcome.steps
    early, late = sum(losses[:6]) / 6, sum(losses[-6:]) / 6
    assert late < early - 0.3, "four responses told apart by chance have a loss of ln 4"
    right = read_metric(tmp_path / "contrast", "ranked_right")
    assert sum(right[-6:]) > sum(right[:6])
    assert read_metric(tmp_path / "contrast", "train_loss")[0] < read_metric(started, "train_loss")[0] + 1.5
    settings = manifest.configuration.settings
    assert settings["contrast.alike"] == 4
    assert isinstance(settings["start"], str)
    assert "lora.rank" not in settings


def test_mistakes(likelihood: InferrerRecipe, started: Path, tmp_path: Path) -> None:
    def wanted(**changes: object) -> InferrerRecipe:
        return InferrerRecipe.model_validate(likelihood.model_dump() | changes)

    with pytest.raises(ValueError, match=r"contrast\.alike"):
        wanted(contrast={"alike": 3})
    with pytest.raises(ValueError, match="method"):
        wanted(start=started, method="full")
    with pytest.raises(OptionError, match="start"):
        tune_inferrer(wanted(start=tmp_path), tmp_path / "out")
    other = save_model(tmp_path / "other", seed=7)
    with pytest.raises(EngineUnavailableError, match="tiny"):
        tune_inferrer(wanted(start=started, model=str(other)), tmp_path / "out")
    damaged = shutil.copytree(started, tmp_path / "damaged")
    (damaged / "adapter_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EngineUnavailableError, match="cannot be added to") as caught:
        tune_inferrer(wanted(start=damaged), tmp_path / "out")
    assert "damaged" in str(caught.value.hint)


def test_a_recipe_that_came_to_nothing_is_mended_in_the_same_folder(
    likelihood: InferrerRecipe, started: Path, tmp_path: Path
) -> None:
    alike = likelihood.model_copy(
        update={
            "start": started,
            "contrast": ContrastOptions(alike=64),
            "sft": SFT | {"per_device_train_batch_size": 64},
        }
    )
    with pytest.raises(DataError):
        tune_inferrer(alike, tmp_path / "out")
    mended = likelihood.model_copy(
        update={"start": started, "contrast": ContrastOptions(), "sft": SFT | {"max_steps": 2}}
    )
    manifest = tune_inferrer(mended, tmp_path / "out")
    assert manifest.outcome is not None
    with pytest.raises(RunMismatchError):
        tune_inferrer(alike, tmp_path / "out")
