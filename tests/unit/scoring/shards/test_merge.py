"""What shards make together is what one process makes."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError, OptionError, RunError, RunLockedError
from flip_reward.rewards.flip import FlipReward
from flip_reward.rewards.similarities import load_similarity
from flip_reward.scoring.folders import FolderKind, recognise
from flip_reward.scoring.job import ScoringJob, open_job, reopen_rows, write_run_output
from flip_reward.scoring.listing import list_runs, remove_run
from flip_reward.scoring.output import Output
from flip_reward.scoring.rescore import rescore_run
from flip_reward.scoring.run_folder import locked, read_records, read_summary
from flip_reward.scoring.shards.merge import merge
from flip_reward.scoring.shards.spec import ShardSpec
from tests.unit.scoring.shards.runs import infer, read_without_time, score, score_all, write_rows

Row = dict[str, object]


def make_rows(count: int, *, same: int = 1) -> list[Row | str]:
    """Rows of which so many follow each other with one instruction, and every fifth id comes again."""
    return [
        {"id": f"r{i % 5}", "instruction": f"say word{i // same}", "response": f"is it word{i}"} for i in range(count)
    ]


def outputs(folder: Path, *, limit: int | None = None) -> list[list[dict[str, object]]]:
    found = []
    for only_scores in (False, True):
        path = folder.parent / f"{folder.name}.jsonl"
        write_run_output(Output(path, only_scores), folder, limit=limit)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found.append([{key: value for key, value in row.items() if key != "latency_seconds"} for row in rows])
    return found


def test_merged_shards_equal_an_undisturbed_run(tmp_path: Path) -> None:
    rows = make_rows(60)
    rows[7], rows[31], rows[32] = "{half", '{"instruction": "no response"}', "[]"
    source = write_rows(tmp_path / "rows.jsonl", rows)
    whole = score(source, tmp_path / "whole")
    parts = score_all(source, tmp_path / "parts", 7)
    folder = merge(tmp_path / "parts")
    assert recognise(folder) is FolderKind.SCORE
    assert read_without_time(folder) == read_without_time(tmp_path / "whole")
    assert outputs(folder) == outputs(tmp_path / "whole")
    assert (folder / "rejected_rows.jsonl").read_text() == (tmp_path / "whole/rejected_rows.jsonl").read_text()
    found = read_summary(folder)
    assert found is not None
    assert (found.complete, found.rows, found.rejected_rows) == (True, 57, 3)
    assert (found.outcomes, found.rewards, found.prompt_tokens) == (
        whole.outcomes,
        whole.rewards,
        whole.prompt_tokens,
    )
    assert sum(part.responses for part in parts) == whole.responses


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 24), st.integers(1, 6), st.integers(1, 4), st.sampled_from([None, "group"]), st.none() | st.just(9)
)
def test_any_number_of_shards_holds_every_row_once(
    rows: int, count: int, same: int, column: str | None, limit: int | None
) -> None:
    made = [row | {"group": i % 4} for i, row in enumerate(make_rows(rows, same=same)) if isinstance(row, dict)]
    if column:
        made = [row | {"instruction": f"say word{i % 4}"} for i, row in enumerate(made)]
    with TemporaryDirectory() as name:
        source, parts = write_rows(Path(name, "rows.jsonl"), made), Path(name, "parts")
        score(source, Path(name, "whole"), group_by=column, limit=limit)
        score_all(source, parts, count, group_by=column, limit=limit)
        whole, merged = read_without_time(Path(name, "whole")), merge(parts)
        assert read_without_time(merged) == whole
        assert sum(1 for _ in read_records(merged)) == len(whole)
        assert outputs(merged, limit=limit) == outputs(Path(name, "whole"), limit=limit)


def test_rejected_rows_of_inputs_with_one_name_keep_their_order(tmp_path: Path) -> None:
    sources = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sources.append(str(write_rows(tmp_path / name / "rows.jsonl", [*make_rows(4), *["{half"] * 8])))
    for number in (None, 1, 2, 3):
        shard = None if number is None else ShardSpec(number=number, count=3)
        folder = tmp_path / ("parts" if shard else "whole")
        opened = open_job(ScoringJob(FlipReward(ScriptedEngine(infer)), sources, folder, shard=shard))
        with closing(opened.folder):
            asyncio.run(opened.run())
    rejected = merge(tmp_path / "parts") / "rejected_rows.jsonl"
    assert rejected.read_text() == (tmp_path / "whole/rejected_rows.jsonl").read_text()


def test_an_output_overwrites_no_input(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", make_rows(6))
    score_all(source, tmp_path / "parts", 2)
    folder, before = merge(tmp_path / "parts"), source.read_text()
    with pytest.raises(OptionError, match="is an input"):
        write_run_output(Output(source), folder)
    assert source.read_text() == before


def test_more_shards_than_files_can_be_open(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", ["{half", *make_rows(300), "{half"])
    score(source, tmp_path / "whole")
    score_all(source, tmp_path / "parts", 140)
    folder = merge(tmp_path / "parts")
    assert read_without_time(folder) == read_without_time(tmp_path / "whole")
    assert (folder / "rejected_rows.jsonl").read_text() == (tmp_path / "whole/rejected_rows.jsonl").read_text()
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == []


def test_what_is_missing_and_unfinished_is_named(tmp_path: Path) -> None:
    source, parent = write_rows(tmp_path / "rows.jsonl", make_rows(40)), tmp_path / "parts"

    def fail(request: Request) -> str:
        if "word1" in request.messages[-1].content:
            raise EngineServerError("broken")
        return infer(request)

    score(source, parent, "1/4", fail)
    score(source, parent, "2/4")
    with pytest.raises(RunError, match="3 of 4 shards are not done: 3, 4 missing; 1 unfinished"):
        merge(parent)
    assert not (parent / "merged").exists()
    score(source, parent, "1/4")
    score(source, parent, "3/4")
    score(source, parent, "4/4", limit=39)
    with pytest.raises(RunError, match="1 of 4 shards are not done: 4 of fewer rows"):
        merge(parent)
    score(source, parent, "4/4")
    assert read_summary(merge(parent)) is not None


def test_only_the_first_missing_shards_are_named(tmp_path: Path) -> None:
    score(write_rows(tmp_path / "rows.jsonl", make_rows(4)), tmp_path / "parts", "1/99")
    with pytest.raises(RunError, match=r"98 of 99 shards are not done: 2, .*, 21 and 78 more missing"):
        merge(tmp_path / "parts")


def test_a_shard_that_has_lost_records_is_named(tmp_path: Path) -> None:
    source, parent = write_rows(tmp_path / "rows.jsonl", make_rows(20)), tmp_path / "parts"
    score_all(source, parent, 2)
    before = read_without_time(merge(parent))
    records = parent / "shards/0002/records.jsonl"
    kept = records.read_bytes()
    records.write_bytes(kept[: kept.index(b"\n") + 1])
    with pytest.raises(RunError, match="0002 holds 1 rows"):
        merge(parent)
    assert read_without_time(parent / "merged") == before
    (parent / "shards/0002.done").unlink()
    score(source, parent, "2/2")
    assert read_without_time(merge(parent)) == before


def test_a_merged_run_is_merged_again_and_keeps_what_was_made_of_it(tmp_path: Path) -> None:
    source, parent = write_rows(tmp_path / "rows.jsonl", make_rows(20)), tmp_path / "parts"
    score_all(source, parent, 3, limit=10)
    folder = merge(parent)
    rescored, _ = rescore_run(folder, load_similarity("rouge-l"))
    score_all(source, parent, 3)
    summary = read_summary(merge(parent))
    assert summary is not None
    assert (summary.rows, summary.limit) == (20, None)
    assert rescored.is_dir()
    with locked(folder), pytest.raises(RunLockedError):
        merge(parent)


def test_a_merged_run_that_was_gone_on_with_is_not_replaced(tmp_path: Path) -> None:
    source, parent = write_rows(tmp_path / "rows.jsonl", make_rows(20)), tmp_path / "parts"
    score_all(source, parent, 2, limit=10)
    folder = merge(parent)
    score(source, folder)
    with pytest.raises(RunError, match="holds more than the shards"):
        merge(parent)
    assert len(read_without_time(folder)) == 20
    score_all(source, parent, 2)
    assert len(read_without_time(merge(parent))) == 20


def test_a_shard_is_read_again_without_the_rows_of_others(tmp_path: Path) -> None:
    source, parent = write_rows(tmp_path / "rows.jsonl", [*make_rows(20), "{half"]), tmp_path / "parts"
    score_all(source, parent, 3)
    rows = [0] * 3
    for number in range(3):
        folder = parent / f"shards/000{number + 1}"
        scored = list(reopen_rows(folder).read_scored(folder))
        assert all(row.scores or row.rejected for row in scored)
        rows[number] = len(scored)
    assert (sum(rows), 0 in rows) == (21, False)


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no shards"):
        merge(tmp_path)
    source = write_rows(tmp_path / "rows.jsonl", make_rows(3))
    score(source, tmp_path / "run")
    with pytest.raises(RunError, match="'flip-reward score', and holds no shards"):
        merge(tmp_path / "run")


def test_what_a_killed_merge_left_is_no_run_and_goes(tmp_path: Path) -> None:
    source, parent = write_rows(tmp_path / "rows.jsonl", make_rows(6)), tmp_path / "parts"
    score_all(source, parent, 2)
    left = parent / "merged/.joined"
    left.mkdir(parents=True)
    (left / "records.jsonl").write_text("{half")
    assert [run.name for run in list_runs(tmp_path)] == ["parts"]
    merge(parent)
    assert not left.exists()
    left.mkdir()
    assert remove_run(parent) == []
    assert not parent.exists()
