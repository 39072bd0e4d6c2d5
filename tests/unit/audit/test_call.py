"""Auditing from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from datasets import Dataset

from flip_reward import FlipOptions, FlipReward, ScriptedEngine, audit_rewards, audit_rollouts
from flip_reward.audit.call import AuditedBy
from flip_reward.errors import DataError, InputError, OptionError, RunStoppedError
from flip_reward.rewards.config import RewardConfig
from tests.e2e.command import write_rows

ROWS = [
    {"prompt": f"Name {n} red fruits.", "chosen": f"{n} apples.", "rejected": "I would rather not."} for n in range(6)
]


def shortness(_prompt: str, response: str) -> float:
    return -len(response)


def test_names_models_and_functions_from_rows_and_from_a_file(tmp_path: Path) -> None:
    flip = RewardConfig(model="scripted").load(ScriptedEngine())
    rewards: list[AuditedBy] = ["copy", flip, shortness]
    folder = tmp_path / "audit"
    results = audit_rewards(ROWS, rewards, attacks=["copy.before", "length"], run_folder=folder)
    labels = ["copy", "flip @ scripted", f"{__name__}:shortness"]
    assert [reward.label for reward in results.rewards] == labels
    assert (results.prompts, results.responses, results.labelled) == (6, 12, 6)
    before = [one for one in results.results if one.attack == "copy.before"]
    wins = {one.reward: one.win_rate.value for one in before if one.win_rate is not None}
    assert (wins["copy"], wins[labels[2]]) == (1.0, 0.0)
    source = write_rows(tmp_path / "rows.jsonl", ROWS)
    more = audit_rewards(source, "longest", attacks=["copy.before", "length"], run_folder=folder)
    assert [reward.label for reward in more.rewards] == [*labels, "longest"]
    assert (folder / "results.json").exists()


def test_the_same_call_finds_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for reward in ("copy", "longest"):
        audit_rewards(ROWS, reward, attacks=["key"], limit=3)
    [folder] = (tmp_path / "audits").iterdir()
    assert {run.name for run in (folder / "runs").iterdir()} == {"copy", "longest"}


@pytest.mark.parametrize(
    ("rewards", "options", "said"),
    [
        ("flipp", {}, "did you mean 'flip'"),
        (shortness, {"model": "scripted"}, "model has no effect"),
        ("copy", {"attacks": ["copi"]}, "did you mean 'copy'"),
        ("copy", {"modell": "scripted"}, "modell"),
        ([], {}, "name at least one reward"),
        (None, {}, "not NoneType"),
        ("copy", {"limit": 0}, "at least 1"),
        ("copy", {"limit": "5"}, "at least 1"),
        ("copy", {"columns": "prompt=q"}, "is no mapping"),
        ("copy", {"attacks": 5}, "neither a function"),
        ("copy", {"attacks": shortness}, "instruction, response, seed"),
        (len, {}, "prompt, response"),
        ([shortness, shortness], {}, "two rewards called"),
    ],
)
def test_mistakes(rewards: object, options: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=said):
        audit_rewards(ROWS, rewards, run_folder=tmp_path / "a", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("data", [[("p", "r")], None, {"prompt": ["p"]}, 5])
def test_rows_that_are_none(data: Any) -> None:
    with pytest.raises(DataError, match="mappings"):
        audit_rewards(data, "copy")
    with pytest.raises(DataError, match="mappings"):
        audit_rollouts(data)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, Dataset.from_list])
def test_tables_are_audited_as_their_rows_are(make: Callable[[object], Any], tmp_path: Path) -> None:
    found, expected = (
        audit_rewards(data, "copy", attacks=["copy.alone"], run_folder=tmp_path / name)
        for name, data in (("table", make(ROWS)), ("rows", ROWS))
    )
    assert found.results == expected.results
    options: dict[str, Any] = {"columns": {"response": "answer"}, "reward_columns": "won", "other_columns": "gold"}
    watched = audit_rollouts(make(log_rows()), **options)
    assert (watched.steps, watched.not_trained_on) == (audit_rollouts(log_rows(), **options).steps, ["gold"])


def test_a_function_that_ends_the_process_ends_the_audit(tmp_path: Path) -> None:
    def leave(_prompt: str, _response: str) -> float:
        raise SystemExit

    with pytest.raises(RunStoppedError, match=r"the reward failed .* SystemExit"):
        audit_rewards(ROWS * 4, leave, attacks=["copy"], run_folder=tmp_path / "a")


def log_rows(steps: int = 9) -> list[dict[str, object]]:
    return [{"step": n, "prompt": "Name a fruit.", "answer": "A pear.", "won": 0.5, "gold": n} for n in range(steps)]


def test_rollouts_from_rows_a_path_and_several_paths(tmp_path: Path) -> None:
    whole, *halves = (
        write_rows(tmp_path / name, rows)
        for name, rows in (("all.jsonl", log_rows()), ("a.jsonl", log_rows()[:4]), ("b.jsonl", log_rows()[4:]))
    )
    options = {"columns": {"response": "answer"}, "reward_columns": ["won"], "other_columns": ["gold"]}
    for number, logs in enumerate((log_rows(), whole, str(whole), halves)):
        folder = tmp_path / str(number)
        found = audit_rollouts(logs, run_folder=folder, **options)  # type: ignore[arg-type]
        assert [one.step for one in found.steps] == list(range(9))
        assert (found.samples, found.not_trained_on) == (9, ["gold"])
        assert (folder / "rollouts.json").exists()


@pytest.mark.parametrize(
    ("logs", "columns", "named"),
    [
        (["a.jsonl", {"step": 1}], None, "paths or rows"),
        ([], None, "no rows"),
        (log_rows(), {"reward": "won"}, "reward"),
        (log_rows(), {"step": "when"}, "when"),
        (log_rows(), {"step": 0}, "the name 0 is no text"),
        (log_rows(), "step=when", "is no mapping"),
    ],
)
def test_logs_that_cannot_be_used(logs: list[object], columns: dict[str, str] | None, named: str) -> None:
    with pytest.raises(InputError, match=named):
        audit_rollouts(logs, columns=columns)  # type: ignore[arg-type]


def test_rewards_of_one_kind_are_told_apart(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    options = (FlipOptions(), FlipOptions(template="direct"), FlipOptions(copy_guard=True))
    given = [FlipReward(engine, one) for one in options]
    found = audit_rewards(ROWS * 4, given, attacks=["copy.alone"], run_folder=tmp_path / "a")
    assert [one.label for one in found.audited] == [
        "flip @ scripted", "flip @ scripted (2)", "flip copy-guard @ scripted",
    ]  # fmt: skip
