"""Folders of trainings that were begun before go on or are refused, and the right checkpoints are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flip_reward.errors import RunError, RunMismatchError
from flip_reward.scoring.manifest import InputIdentity, RunConfiguration
from flip_reward.training.common.folder import TuningManifest, drop_oldest, find_last, mark_whole
from flip_reward.training.inferrer.recipe import DataSource, InferrerRecipe

pytestmark = pytest.mark.filterwarnings("default")

INPUTS = [InputIdentity(name="rows.jsonl", fingerprint="1")]
OLD_TUNING: dict[str, Any] = {
    "model": "tiny", "model_fingerprint": "2", "frame_sha256": "3", "start": None, "frame": "compact",
    "no_thinking": False, "method": "lora", "saved_as": "float32", "rows": None, "held_out": 0.15,
    "keep_near_duplicates": True, "max_tokens": 1024, "max_instruction_tokens": 256, "seed": 4, "epochs": 1.5,
    "max_steps": None, "batch_rows": 4, "accumulate": 2, "learning_rate": 0.01, "schedule": "cosine", "warmup": 0.03,
    "weight_decay": 0.0, "max_gradient_norm": 1.0, "precision": "float32", "device": "cpu",
    "gradient_checkpointing": False, "checkpoint_every": 3, "evaluate_every": 4, "log_every": 1, "lora.rank": 8,
    "lora.alpha": 32.0, "lora.dropout": 0.1, "lora.modules": "all-linear", "data 1 weight": 1.0, "data 1 columns": "",
}  # fmt: skip
"""Settings as they were written before recipes had a section `sft`."""


def write_old(folder: Path, settings: dict[str, Any], **others: Any) -> None:
    configuration = {
        "settings": settings,
        "inputs": [one.model_dump() for one in INPUTS],
        "columns": {},
        "limit": None,
    }
    manifest = {"format": 1, "configuration": configuration, "sessions": [], "outcome": None, **others}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    checkpoint = folder / "checkpoints/checkpoint-3"
    checkpoint.mkdir(parents=True, exist_ok=True)
    mark_whole(checkpoint)


def configure_tuning(**sft: object) -> RunConfiguration:
    recipe = InferrerRecipe(
        model="tiny", data=[DataSource(source="rows.jsonl")], template="compact", held_out=0.15,
        keep_near_duplicates=True, seed=4, lora={"rank": 8, "dropout": 0.1},  # type: ignore[arg-type]
        sft={"num_train_epochs": 1.5, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
             "learning_rate": 0.01, "use_cpu": True, "save_steps": 9, **sft},
    )  # fmt: skip
    settings = {"model": "tiny", "model_fingerprint": "2", "template_sha256": "3", "start": None}
    return RunConfiguration(settings={**settings, **recipe.settings(), "sft.bf16": False}, inputs=INPUTS)


def test_a_tuning_from_before_the_section_sft_goes_on(tmp_path: Path) -> None:
    write_old(tmp_path, OLD_TUNING, sources=[], evaluated_prompts=0, tokens_in_an_epoch=9)
    manifest = TuningManifest.read_for(tmp_path, configure_tuning())
    assert manifest is not None
    manifest.write(tmp_path)
    assert TuningManifest.read_for(tmp_path, configure_tuning()) == manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.02}, r"sft\.learning_rate: 0\.01 there, 0\.02 now"),
        ({"max_steps": 7}, r"sft\.max_steps: -1 there, 7 now"),
        ({"adam_beta2": 0.9}, r"sft\.adam_beta2: None there, 0\.9 now"),
    ],
)
def test_another_tuning_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_old(tmp_path, OLD_TUNING, sources=[], evaluated_prompts=0, tokens_in_an_epoch=9)
    with pytest.raises(RunMismatchError, match=message):
        TuningManifest.read_for(tmp_path, configure_tuning(**changes))


def test_other_manifests_are_not_read(tmp_path: Path) -> None:
    tuning: dict[str, Any] = {"sources": [], "evaluated_prompts": 0, "tokens_in_an_epoch": 9}
    for changes in ({"kind": "grpo"}, {"format": 2}, {"more": 1}):
        write_old(tmp_path, OLD_TUNING, **tuning, **changes)
        with pytest.raises(RunError, match=r"manifest\.json"):
            TuningManifest.read(tmp_path)
    assert TuningManifest.read(tmp_path / "nowhere") is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark_whole(tmp_path / f"checkpoint-{step}")
    return tmp_path


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, {10}),
        (2, None, {8, 10}),
        (9, None, {2, 4, 6, 8, 10}),
        (1, 4, {4, 10}),
        (2, 10, {8, 10}),
        (3, 4, {4, 8, 10}),
    ],
)
def test_the_last_and_the_best_are_kept(folder: Path, keep: int, best: int | None, left: set[int]) -> None:
    drop_oldest(folder, keep, best=folder / f"checkpoint-{best}" if best else None)
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{step}" for step in left}
    assert find_last(folder) == folder / "checkpoint-10"


def test_nothing_to_drop(tmp_path: Path) -> None:
    drop_oldest(tmp_path, 1)
