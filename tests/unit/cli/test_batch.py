"""What `--batch` is told, and what a mistake with it is answered with, before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from flip_reward.cli.app import join_values
from flip_reward.cli.batch import describe_batch
from flip_reward.scoring.batch.store import SubmittedBatch
from tests.e2e.command import run, write_rows

BOTH = {"--batch", "--ray"}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("rows.jsonl --batch submit -o out.csv", "rows.jsonl --batch=submit -o out.csv"),
        ("--batch import out rows.jsonl", "--batch=import=out rows.jsonl"),
        ("--batch export", "--batch=export"),
        ("--batch export -o out.csv", "--batch=export -o out.csv"),
        ("--batch=export=out rows.jsonl", "--batch=export=out rows.jsonl"),
        ("--batch", "--batch"),
        ("--ray rows.jsonl", "--ray=local rows.jsonl"),
        ("rows.jsonl --ray", "rows.jsonl --ray=local"),
        ("--ray auto rows.jsonl", "--ray=auto rows.jsonl"),
        ("--ray head-1.example:6379 rows.jsonl", "--ray=head-1.example:6379 rows.jsonl"),
        ("--ray [::1]:6379 rows.jsonl", "--ray=[::1]:6379 rows.jsonl"),
        ("--ray ray://head:10001", "--ray=ray://head:10001"),
        ("--ray s3://bucket/rows-1:2.jsonl", "--ray=local s3://bucket/rows-1:2.jsonl"),
        ("--ray --ray-workers 2 rows.jsonl", "--ray=local --ray-workers 2 rows.jsonl"),
        ("-- --ray --batch export x", "-- --ray --batch export x"),
    ],
)
def test_options_whose_value_typer_cannot_read(given: str, read: str) -> None:
    assert join_values(BOTH, given.split()) == read.split()
    assert join_values((), given.split()) == given.split(), "another command has no such option"


SERVER = "--base-url http://127.0.0.1:9/v1 --model some-model"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--batch sumbit", "'sumbit'"),
        ("--batch export", "--batch export needs a folder"),
        ("--batch import -o out.csv", "--batch import needs a folder"),
        (f"--batch submit=here {SERVER}", "--batch submit has no folder"),
        (f"--wait {SERVER}", "--batch collect"),
        (f"--batch status --wait {SERVER}", "--batch collect"),
        ("--batch submit", "--base-url"),
        ("--batch export requests", "--model"),
        ("--batch submit --model transformers:someone/something", "someone/something (transformers)"),
        ("--batch submit --model scripted", "not for scripted"),
        ("--batch export requests --model scripted", "not for scripted"),
        ("--batch submit -r longest", "'longest' asks no model"),
        (f"--batch submit -r backward-likelihood {SERVER}", "backward-likelihood"),
        (f"--batch submit -r trained {SERVER}", "trained"),
        (f"--batch collect {SERVER}", "has no batches"),
        (f"--batch status {SERVER}", "has no batches"),
        ("--batch import . --model some-model", "has no batches"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_no_folder(arguments: str, said: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": "say a", "response": "this is a"}])
    refused = run(tmp_path, "score", "rows.jsonl", *arguments.split())
    assert refused.returncode == 2
    assert said in refused.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("cache")] == ["rows.jsonl"]


def test_a_dry_run_shows_prompts_as_ever(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": "say a", "response": "this is a"}])
    shown = run(tmp_path, "score", "rows.jsonl", "--dry-run", "--batch", "submit", *SERVER.split())
    assert shown.returncode == 0
    assert "this is a" in shown.stdout


def test_a_batch_in_one_line() -> None:
    batch = SubmittedBatch(number=3, requests=2000, bytes=1, token="t", id="batch_3", state="expired", failed=5)
    assert describe_batch(batch) == "batch 3: expired, 0 of 2,000 answered, 5 failed"
    exported = SubmittedBatch(number=1, requests=9, bytes=1, token="t", id="/data/out", state="exported")
    assert "exported to /data/out" in describe_batch(exported)
    assert "imported" in describe_batch(exported.model_copy(update={"collected": True, "completed": 9}))
