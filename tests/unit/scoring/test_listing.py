"""Runs listed, found by their names, and removed."""

import os
from pathlib import Path

import pytest

from flip_reward import audit_rollouts
from flip_reward.core.similarity import TokenF1
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import RunError, RunLockedError
from flip_reward.rewards.flip import FlipReward
from flip_reward.scoring.files import score_file
from flip_reward.scoring.folders import FolderKind
from flip_reward.scoring.listing import ListedRun, RunState, find_run, list_runs, remove_run
from flip_reward.scoring.rescore import rescore_run
from flip_reward.scoring.run_folder import locked


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, of which one covers the first two of three rows."""
    rows = "".join(f'{{"prompt": "Say it.{" " * n}", "response": "it"}}\n' for n in range(3)) + "broken\n"
    (tmp_path / "rows.jsonl").write_text(rows)
    reward = FlipReward(ScriptedEngine(lambda _request: '{"INFERRED INSTRUCTION": "Say it."}'))
    for name, limit in (("alpha-one", None), ("alpha-two", 2)):
        score_file(reward, tmp_path / "rows.jsonl", run_folder=tmp_path / "runs" / name, limit=limit)
    return tmp_path / "runs"


def listed(folder: Path) -> dict[str, ListedRun]:
    return {run.name: run for run in list_runs(folder)}


def test_runs_at_a_glance(runs: Path) -> None:
    rescore_run(runs / "alpha-one", TokenF1("multilingual"))
    (runs / "not-a-run").mkdir()
    (runs / "a-link").symlink_to(runs / "alpha-one")
    found = listed(runs)
    assert set(found) == {"alpha-one", "alpha-two", "alpha-one/rescored/f1-multilingual"}
    one = found["alpha-one"]
    assert (one.state, one.rows, one.rejected, one.mean, one.limit) == (RunState.COMPLETE, 3, 1, 1.0, None)
    assert (one.command, one.inputs, one.reward, one.model) == ("score_file", ("rows.jsonl",), "flip", "scripted")
    assert (found["alpha-two"].rows, found["alpha-two"].limit) == (2, 2)
    assert found["alpha-one/rescored/f1-multilingual"].kind is FolderKind.RESCORE
    assert list_runs(runs / "nowhere") == []


def test_a_run_that_goes_on_or_was_killed_is_counted_from_its_records(runs: Path) -> None:
    with locked(runs / "alpha-one"):
        assert listed(runs)["alpha-one"].state is RunState.RUNNING
    (runs / "alpha-one/summary.json").unlink()
    records = runs / "alpha-one/records.jsonl"
    records.write_bytes(records.read_bytes()[:-5] + b"\n[]\n{}\n")
    one = listed(runs)["alpha-one"]
    assert (one.state, one.rows, one.mean, one.rejected) == (RunState.INTERRUPTED, 2, 1.0, 1)
    summary = runs / "alpha-two/summary.json"
    os.utime(summary, (0, 0))
    assert listed(runs)["alpha-two"].state is RunState.INTERRUPTED, "records came after the summary"
    (runs / "alpha-two/manifest.json").write_text('{"configuration": 7}')
    assert listed(runs)["alpha-two"].state is RunState.DAMAGED


def test_names_may_be_cut_where_they_stay_unique(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    assert find_run(runs, "alpha-o") == find_run(runs, "alpha-one") == runs / "alpha-one"
    assert find_run(Path("runs"), "runs/alpha-one/") == Path("runs/alpha-one")
    with pytest.raises(RunError, match="alpha-one, alpha-two"):
        find_run(runs, "alpha")
    (runs.parent / "elsewhere").symlink_to(runs / "alpha-one")
    for name in ("", "..", "nothing", "../elsewhere", "elsewhere"):
        with pytest.raises(RunError):
            find_run(runs, name)
    with pytest.raises(RunError) as caught:
        find_run(Path("other"), "runs/alpha-one")
    assert "--folder runs" in str(caught.value.hint)


def test_only_what_a_run_wrote_is_removed(runs: Path) -> None:
    folder, _ = rescore_run(runs / "alpha-one", TokenF1("multilingual"))
    assert remove_run(folder) == []
    rescore_run(runs / "alpha-one", TokenF1("multilingual"))
    assert remove_run(runs / "alpha-one") == []
    assert not (runs / "alpha-one").exists()
    outside = runs.parent / "outside"
    outside.mkdir()
    (outside / "precious.txt").touch()
    (runs / "alpha-two/link").symlink_to(outside)
    (runs / "alpha-two/rescored").symlink_to(outside)
    assert remove_run(runs / "alpha-two") == ["link", "rescored"]
    assert (outside / "precious.txt").exists()
    assert sorted(entry.name for entry in (runs / "alpha-two").iterdir()) == ["link", "rescored"]


def test_what_is_no_run_or_in_use_is_not_removed(runs: Path) -> None:
    (runs / "link").symlink_to(runs / "alpha-one")
    for path in (runs, runs / "link", runs / "nothing"):
        with pytest.raises(RunError, match="not a run folder"):
            remove_run(path)
    with locked(runs / "alpha-one"), pytest.raises(RunLockedError):
        remove_run(runs / "alpha-one")
    assert (runs / "alpha-one/records.jsonl").exists()


def test_what_was_found_in_rollouts_is_listed_and_removed(runs: Path) -> None:
    rows = [{"step": n, "prompt": "Say it.", "response": "it", "reward": 0.5} for n in range(9)]
    for name in ("watched", "damaged"):
        audit_rollouts(rows, run_folder=runs / name)
    (runs / "damaged/rollouts.json").write_text('{"logs": []}')
    (runs / "watched/notes.txt").touch()
    found = listed(runs)
    one = found["watched"]
    assert (one.kind, one.state, one.rows) == (FolderKind.ROLLOUTS, RunState.COMPLETE, 9)
    assert (one.inputs, one.reward, one.model) == (("rows",), "reward", "none")
    assert found["damaged"].state is RunState.DAMAGED
    assert remove_run(find_run(runs, "watch")) == ["notes.txt"]
    assert [entry.name for entry in (runs / "watched").iterdir()] == ["notes.txt"]
