"""The user's rows with their scores beside them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flip_reward import FlipReward, Group, ScriptedEngine
from flip_reward.core.score import Outcome, Score
from flip_reward.data.groups import PlacedRow, SourceRow
from flip_reward.data.rows import InvalidRow, RawRow
from flip_reward.data.shapes import Shape
from flip_reward.engines.base import Request
from flip_reward.errors import OptionError, RunError, RunStoppedError
from flip_reward.scoring.files import score_file
from flip_reward.scoring.job import reopen_rows, write_run_output
from flip_reward.scoring.output import Output, ScoreColumns, open_output, read_scored_rows, settle
from flip_reward.scoring.records import Record

LINES: list[dict[str, object]] = [
    {"id": 1, "prompt": "say a", "response": "a", "big": 2**70, "tags": ["x", {"y": None}], "reward": "mine"},
    {"prompt": "", "response": "b"},
    {"prompt": "say c", "response": "", "extra": 0.5},
    {"prompt": [{"role": "system", "content": "be kind"}], "response": "d"},
]


def infer(request: Request) -> str:
    word = request.messages[-1].content.split()[-1]
    return json.dumps({"REASONING": "scripted", "INFERRED INSTRUCTION": f"say {word}"})


REWARD = FlipReward(ScriptedEngine(infer))


def write_lines(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def read_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_rows_come_back_in_order_with_their_columns(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [*LINES, "no json"])
    score_file(REWARD, source, tmp_path / "out.jsonl", run_folder=tmp_path / "run")
    rows = read_lines(tmp_path / "out.jsonl")
    assert [{name: row[name] for name in line} for line, row in zip(LINES, rows, strict=False)] == LINES
    outcomes = ["scored", "rejected", "empty_response", "rejected", "rejected"]
    assert [row["outcome"] for row in rows] == outcomes
    assert [row["flip_reward"] for row in rows] == [1.0, None, None, None, None]
    assert (rows[0]["inferred_instruction"], rows[0]["reasoning"], rows[0]["recall"]) == ("say a", "scripted", 1.0)
    assert "empty" in str(rows[1]["detail"])  # told when the row is read,
    assert "no user message" in str(rows[3]["detail"])  # when it is scored,
    assert "rows.jsonl, line 5" in str(rows[4]["detail"])  # and where nothing of it is known
    opened, names = open_output(tmp_path / "run", reopen_rows(tmp_path / "run"))
    found = list(opened.rows())
    assert [row.values for row in found if isinstance(row, RawRow)] == [rows[0], rows[2]]
    assert [row.line for row in found if isinstance(row, InvalidRow)] == [2, 4, 5]
    assert (names["reward"], names["outcome"]) == ("flip_reward", "outcome")


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl.zst", "xlsx", "tsv.gz"])
def test_every_format_takes_every_row(tmp_path: Path, ending: str) -> None:
    source = write_lines(tmp_path / "rows.jsonl", LINES)
    score_file(REWARD, source, tmp_path / f"out.{ending}", run_folder=tmp_path / "run")
    assert (tmp_path / f"out.{ending}").stat().st_size > 100


def test_texts_of_a_csv_file_stay_as_they_were_typed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,prompt,response,price\n007,say a,a,1.50\n008,say b,b,\n")
    for ending in ("csv", "parquet"):
        score_file(REWARD, tmp_path / "rows.csv", tmp_path / f"out.{ending}", run_folder=tmp_path / "run")
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["price"], row["reward"]) for row in rows] == [("007", "1.50", "1.0"), ("008", "", "1.0")]
    assert pq.read_table(tmp_path / "out.parquet")["price"].to_pylist() == ["1.50", ""]


def test_a_list_of_responses_has_lists_and_rows_of_both_kinds_go_together(tmp_path: Path) -> None:
    lines = [{"prompt": "say a", "responses": ["a", "b"]}, {"prompt": "say c", "response": "c"}, {"prompt": "say"}]
    source = write_lines(tmp_path / "rows.jsonl", lines)
    for ending in ("jsonl", "parquet"):
        score_file(REWARD, source, tmp_path / f"out.{ending}", run_folder=tmp_path / "run")
    rows = read_lines(tmp_path / "out.jsonl")
    assert [row["reward"] for row in rows][:2] == [[1.0, pytest.approx(2 / 3)], [1.0]]
    assert [row["outcome"] for row in rows] == [["scored", "scored"], ["scored"], ["rejected"]]
    assert pq.read_table(tmp_path / "out.parquet")["reward"].to_pylist() == [row["reward"] for row in rows]


def test_the_rows_of_a_run_that_stopped_are_written_by_the_next(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"prompt": f"say {i}", "response": f"{i}"} for i in range(100)])

    def fail(_request: Request) -> str:
        raise ConnectionError

    with pytest.raises((RunStoppedError, ConnectionError)):
        score_file(FlipReward(ScriptedEngine(fail)), source, tmp_path / "out.jsonl", run_folder=tmp_path / "run")
    assert not (tmp_path / "out.jsonl").exists()
    score_file(REWARD, source, tmp_path / "out.jsonl", run_folder=tmp_path / "run")
    assert [row["reward"] for row in read_lines(tmp_path / "out.jsonl")] == [1.0] * 100


def test_a_finished_run_is_written_again_from_its_input(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", LINES)
    score_file(REWARD, source, run_folder=tmp_path / "run", limit=2)
    [note] = write_run_output(Output(tmp_path / "out.jsonl"), tmp_path / "run")
    assert "flip_reward" in note
    assert [row["outcome"] for row in read_lines(tmp_path / "out.jsonl")] == ["scored", "rejected", None, None]
    with pytest.raises(OptionError, match="run folder"):
        write_run_output(Output(tmp_path / "run" / "out.jsonl"), tmp_path / "run")
    source.write_text("{}\n")
    with pytest.raises(RunError, match="has changed"):
        write_run_output(Output(tmp_path / "out.jsonl"), tmp_path / "run")


def place(responses: Sequence[str], *, own: Sequence[tuple[int, int]]) -> Iterator[PlacedRow]:
    """Rows that hold parts of one group, each from one index on so many."""
    for position, (first, count) in enumerate(own):
        group = SourceRow(0, "rows.csv", 1, Group.of("say it", responses[first : first + count], id="g"))
        yield PlacedRow(RawRow(position, position + 2, {"n": position}), "rows.csv", group, first, count)


def write_records(folder: Path, values: Sequence[float | None]) -> None:
    folder.mkdir(exist_ok=True)
    records = (Record(0, "g", len(values), index, "say it", _score(value)) for index, value in enumerate(values))
    (folder / "records.jsonl").write_bytes(b"".join(record.to_line() for record in records))


def _score(value: float | None) -> Score:
    return Score(None, Outcome.EMPTY_REPLY) if value is None else Score(value, Outcome.SCORED)


def test_a_group_of_several_rows_gives_each_its_own_score(tmp_path: Path) -> None:
    write_records(tmp_path, [0.25, None, 0.75])
    rows = list(read_scored_rows(tmp_path, place(["a", "b", "c"], own=[(2, 1), (0, 1), (1, 1)])))
    added = ScoreColumns(Shape())
    assert [added.add(row)["reward"] for row in rows] == [0.75, 0.25, None]
    assert [row.group_size for row in rows] == [3, 3, 3]


def test_candidates_in_columns_of_their_own_have_rewards_of_their_own(tmp_path: Path) -> None:
    write_records(tmp_path, [0.25, 0.75])
    shape = Shape(candidate_columns=("chosen", "rejected"))
    [row] = read_scored_rows(tmp_path, place(["a", "b"], own=[(0, 2)]))
    assert ScoreColumns(shape).add(row)["reward_rejected"] == 0.75
    assert settle(shape, tmp_path, lambda: place(["a", "b"], own=[(0, 2)])) == shape
    assert settle(shape, tmp_path, lambda: place(["a", "b", "c"], own=[(0, 3)])).many
    assert not settle(Shape(), tmp_path, lambda: place(["a", "b"], own=[(0, 1), (1, 1)])).many


def test_what_is_rescored_is_not_written_into_the_run(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", LINES)
    score_file(REWARD, source, run_folder=tmp_path / "run")
    with pytest.raises(OptionError, match="overwritten"):
        write_run_output(Output(tmp_path / "run" / "out.csv"), tmp_path / "run", tmp_path / "again")
