"""The folder above shards: what may begin there, and what is done."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError, EngineUnavailableError, OptionError, RunError, RunMismatchError
from flip_reward.redact import current_arguments
from flip_reward.rewards.flip import FlipReward
from flip_reward.scoring.files import score_file
from flip_reward.scoring.folders import FolderKind, recognise
from flip_reward.scoring.job import ScoringJob, find_finished
from flip_reward.scoring.listing import RunState, list_runs, remove_run
from flip_reward.scoring.output import Output
from flip_reward.scoring.run_folder import locked, read_records
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.shards.merge import merge
from flip_reward.scoring.shards.parent import Shards
from flip_reward.scoring.shards.spec import ShardSpec
from tests.unit.scoring.shards.runs import infer, score, score_all, write_rows


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "rows.jsonl", [{"instruction": f"say {i}", "response": f"it is {i}"} for i in range(12)]
    )


def job(source: Path, parent: Path | None, shard: str = "1/3") -> ScoringJob:
    spec = ShardSpec.parse(shard, {})
    return ScoringJob(FlipReward(ScriptedEngine(infer)), [str(source)], parent, shard=spec)


def done(parent: Path) -> list[int]:
    return sorted(Shards.read(parent).find_marks(parent))


def test_shards_that_start_at_once_share_a_folder(source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: score(source, tmp_path / "p", f"{number}/8"), range(1, 9)))
    assert done(tmp_path / "p") == list(range(1, 9))


def test_more_shards_than_rows_leave_only_marks(tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", [{"instruction": "say hi", "response": "hi"}])
    score_all(one, tmp_path / "p", 5)
    assert [path.name for path in (tmp_path / "p/shards").iterdir() if path.is_dir()] == ["0001"]
    assert done(tmp_path / "p") == [1, 2, 3, 4, 5]
    assert [record.instruction for record in read_records(merge(tmp_path / "p"))] == ["say hi"]


def test_a_mark_is_there_only_while_the_shard_is_whole(source: Path, tmp_path: Path) -> None:
    parent = tmp_path / "p"

    def fail(_request: Request) -> str:
        raise EngineServerError("broken")

    score(source, parent, "1/3", fail)
    assert done(parent) == []
    score(source, parent, "1/3", limit=6)
    assert find_finished(replace(job(source, parent), limit=6), "scripted")
    assert find_finished(job(source, parent), "scripted") is None, "more rows are wanted"
    score(source, parent, "1/3")
    folder = find_finished(job(source, parent), "scripted")
    assert folder == parent / "shards/0001"
    assert find_finished(replace(job(source, parent), limits=RunLimits(retry_refused=True)), "scripted") is None
    assert find_finished(job(source, parent), "another-model") is None
    assert find_finished(job(source, parent, "2/3"), "scripted") is None
    shutil.rmtree(folder)
    assert find_finished(job(source, parent), "scripted") is None, "its records are gone"


def test_a_finished_shard_is_found_below_runs(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    score(source, None, "2/3")
    [parent] = Path("runs").iterdir()
    assert parent.name.endswith("-shards")
    assert find_finished(job(source, None, "2/3"), "scripted") == parent / "shards/0002"
    with pytest.raises(RunMismatchError, match="shards: 3 there, 1 now") as caught:
        score(source, None, "1/1")  # a task of an array that is queued again alone
    assert "--shard I/3" in str(caught.value.hint)


def test_what_is_not_the_same_run_is_refused(source: Path, tmp_path: Path) -> None:
    parent = tmp_path / "p"
    score(source, parent, "1/3")
    with pytest.raises(RunMismatchError, match="shards: 3 there, 4 now"):
        score(source, parent, "2/4")
    with pytest.raises(RunMismatchError, match="groups"):
        score(source, parent, "2/3", group_by="response")
    with source.open("a") as file:
        file.write('{"instruction": "a", "response": "b"}\n')
    with pytest.raises(RunMismatchError, match="input 1 content"):
        score(source, parent, "2/3")
    assert find_finished(job(source, parent), "scripted") is None
    assert done(parent) == [1]


def test_a_run_that_never_began_stands_in_nobodys_way(source: Path, tmp_path: Path) -> None:
    def refuse(_request: Request) -> str:
        raise EngineUnavailableError("no such model")

    with pytest.raises(EngineUnavailableError):
        score(source, tmp_path / "p", "1/3", refuse, columns={"instruction": "response", "response": "instruction"})
    score(source, tmp_path / "p", "1/3")
    assert done(tmp_path / "p") == [1]


def test_a_parent_is_no_run_and_a_run_no_parent(source: Path, tmp_path: Path) -> None:
    score(source, tmp_path / "run")
    score(source, tmp_path / "p", "1/3")
    assert (recognise(tmp_path / "p"), recognise(tmp_path / "p/shards/0001")) == (FolderKind.SHARDS, FolderKind.SHARD)
    with pytest.raises(RunError, match="holds no shards"):
        score(source, tmp_path / "run", "1/3")
    with pytest.raises(RunError, match="score --shard") as caught:
        score(source, tmp_path / "p")
    assert "flip-reward merge" in str(caught.value.hint)
    with pytest.raises(RunMismatchError, match="shard: '1/3' there, 'all rows' now"):
        score(source, tmp_path / "p/shards/0001")


def test_what_shards_cannot_do_is_refused(source: Path, tmp_path: Path) -> None:
    for wrong in (
        replace(job(source, tmp_path / "p"), output=Output(tmp_path / "out.csv")),
        replace(job(source, tmp_path / "p"), inputs=["-"]),
        replace(job(source, Path("s3://bucket/run"))),
    ):
        with pytest.raises(OptionError):
            find_finished(wrong, "scripted")
    with pytest.raises(OptionError, match="s3://bucket/run is an address"):
        score(source, Path("s3://bucket/run"))
    with pytest.raises(OptionError, match="s3://bucket/run is an address"):
        merge(Path("s3://bucket/run"))


def test_the_command_of_a_shard_has_the_folder_and_the_limit_of_now(source: Path, tmp_path: Path) -> None:
    words = ("flip-reward", "score", "my rows.jsonl", "--limit=5", "--shard", " 1 / 3", "--run-folder", "old")
    before = current_arguments.set(words)
    score(source, tmp_path / "p", "1/3", limit=6)
    current_arguments.reset(before)
    shards, shard, new = Shards.read(tmp_path / "p"), ShardSpec(number=3, count=3), Path("new")
    said = "flip-reward score 'my rows.jsonl'"
    assert shards.name_command(new, shard) == f"{said} --limit=5 --shard 3/3 --run-folder new"
    like = shards.find_marks(tmp_path / "p")[1]
    assert shards.name_command(new, shard, like) == f"{said} --shard 3/3 --run-folder new --limit 6"
    assert "--limit" not in shards.name_command(new, shard, like.model_copy(update={"limit": None}))


def test_a_shard_is_scored_from_python(source: Path, tmp_path: Path) -> None:
    summaries = [score_file(source, run_folder=tmp_path / "p", shard=f"{n}/3", model="scripted") for n in (1, 2, 3)]
    assert sum(summary.rows or 0 for summary in summaries) == 12
    assert done(tmp_path / "p") == [1, 2, 3]
    with pytest.raises(OptionError, match="no output"):
        score_file(source, tmp_path / "out.csv", shard="1/3", model="scripted")


def test_shards_are_listed_as_one_and_removed_with_all_that_is_theirs(source: Path, tmp_path: Path) -> None:
    parent = tmp_path / "runs/p"
    for number in (1, 3):
        score(source, parent, f"{number}/3")
    [listed] = list_runs(tmp_path / "runs")
    assert (listed.kind, listed.state, listed.shards) == (FolderKind.SHARDS, RunState.INTERRUPTED, (2, 3))
    score(source, parent, "2/3")
    merge(parent)
    names = {run.name: (run.state, run.rows, run.shards) for run in list_runs(tmp_path / "runs")}
    assert names == {"p": (RunState.COMPLETE, 12, (3, 3)), "p/merged": (RunState.COMPLETE, 12, None)}
    (parent / "mine.txt").touch()
    with locked(parent / "shards/0002"), pytest.raises(RunError):
        remove_run(parent)
    assert (parent / "shards/0001").is_dir()
    assert remove_run(parent) == ["mine.txt"]
    assert [path.name for path in parent.iterdir()] == ["mine.txt"]
