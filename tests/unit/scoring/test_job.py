"""Runs through the whole scoring path with a scripted engine, in process."""

import asyncio
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome, Score
from flip_reward.core.similarity import TokenF1
from flip_reward.data.rows import RawRow
from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import (
    DataError,
    EngineError,
    EngineServerError,
    EngineUnavailableError,
    OptionError,
    RequestRefusedError,
    RunError,
    RunLockedError,
    RunMismatchError,
    RunStoppedError,
)
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.rewards.options import Settings
from flip_reward.scoring.files import score_file, score_file_async
from flip_reward.scoring.job import ScoringJob, open_job, reopen_inputs
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration
from flip_reward.scoring.output import Output
from flip_reward.scoring.rescore import rescore_run
from flip_reward.scoring.run_folder import RunFolder, default_folder, read_records, read_records_in_input_order
from flip_reward.scoring.runner import FAILURES_BEFORE_STOP, RunLimits
from flip_reward.scoring.summary import Summary

Row = dict[str, object]


def write_rows(path: Path, rows: Sequence[Row | str]) -> str:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def simple_rows(count: int) -> list[Row]:
    return [{"id": f"r{i}", "instruction": f"say word{i}", "response": f"word{i}"} for i in range(count)]


class Inferrer:
    """Infers "say" and the response's last word; fails on demand; remembers what it was asked."""

    def __init__(self, *failing: str) -> None:
        self.failing = set(failing)
        self.error: EngineError = EngineServerError("broken")
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Request) -> str:
        word = request.messages[-1].content.split()[-1]
        self.asked[word] += 1
        if word in self.failing:
            raise self.error
        return json.dumps({"REASONING": "scripted", "INFERRED INSTRUCTION": f"say {word}"})


def job_for(inferrer: Callable[[Request], str], folder: Path, *inputs: str, **options: object) -> ScoringJob:
    return ScoringJob(FlipReward(ScriptedEngine(inferrer)), inputs, folder, **options)  # type: ignore[arg-type]


def run(job: ScoringJob, *, stop: StopSignal | None = None, observer: object = None) -> Summary:
    opened = open_job(job)
    try:
        return asyncio.run(opened.run(stop=stop, observer=observer))  # type: ignore[arg-type]
    finally:
        opened.folder.close()


def rewards(folder: Path) -> dict[str, float | None]:
    return {record.id: record.score.value for record in read_records_in_input_order(folder)}


def test_a_run_from_rows_to_records(tmp_path: Path) -> None:
    rows: list[Row | str] = [
        {"id": "one", "instruction": "say hello", "response": "hello"},
        {"prompt": "say hello there", "responses": ["hello", "", "<think>never"]},
        {"messages": [{"role": "user", "content": "say bye"}, {"role": "assistant", "content": "bye"}]},
    ]
    summary = run(job_for(Inferrer(), tmp_path / "run", write_rows(tmp_path / "rows.jsonl", rows)))
    assert summary.complete
    assert summary.outcomes == {"scored": 3, "empty_response": 1, "unfinished_thinking": 1}
    assert rewards(tmp_path / "run") == {
        "one": 1.0,
        "row-1#0": 0.8,
        "row-1#1": None,
        "row-1#2": None,
        "row-2": 1.0,
    }
    first = json.loads((tmp_path / "run/records.jsonl").read_text().splitlines()[0])
    assert set(first) >= {
        "id", "group_id", "response_index", "outcome", "reward", "precision", "recall", "inferred_instruction",
        "reasoning", "raw_reply", "usage", "attempts", "latency_seconds",
    }  # fmt: skip
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["configuration"]["settings"]["engine"] == "scripted/scripted"
    assert json.loads((tmp_path / "run/summary.json").read_text()) == summary.model_dump()


def test_the_same_job_again_asks_nothing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(20))
    inferrer = Inferrer()
    first = run(job_for(inferrer, tmp_path / "run", source))
    records = (tmp_path / "run/records.jsonl").read_bytes()
    second = run(job_for(inferrer, tmp_path / "run", source))
    assert set(inferrer.asked.values()) == {1}
    assert (second.resumed_responses, second.outcomes, second.rewards) == (20, first.outcomes, first.rewards)
    assert (tmp_path / "run/records.jsonl").read_bytes() == records


def test_failures_are_tried_again_and_nothing_else(tmp_path: Path) -> None:
    rows: list[Row | str] = [*simple_rows(3), {"prompt": "say x", "responses": ["a1", "b1", "c1"]}]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    inferrer = Inferrer("word1", "b1")
    summary = run(job_for(inferrer, tmp_path / "run", source))
    assert not summary.complete
    assert summary.outcomes == {"scored": 4, "engine_failure": 2}
    inferrer.failing.clear()
    summary = run(job_for(inferrer, tmp_path / "run", source))
    assert summary.complete
    assert summary.outcomes == {"scored": 6}
    assert inferrer.asked == {"word0": 1, "word1": 2, "word2": 1, "a1": 1, "b1": 2, "c1": 1}
    assert list(rewards(tmp_path / "run")) == ["r0", "r1", "r2", "row-3#0", "row-3#1", "row-3#2"]
    assert None not in rewards(tmp_path / "run").values()


def test_a_half_written_record_is_dropped_and_scored_again(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(5))
    run(job_for(Inferrer(), tmp_path / "run", source))
    path = tmp_path / "run/records.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    inferrer = Inferrer()
    opened = open_job(job_for(inferrer, tmp_path / "run", source))
    assert opened.folder.dropped_bytes > 0
    assert asyncio.run(opened.run()).responses == 5
    opened.folder.close()
    assert inferrer.asked.total() == 1
    assert len(rewards(tmp_path / "run")) == 5


def test_bad_rows_are_listed_and_the_rest_is_scored(tmp_path: Path) -> None:
    rows: list[Row | str] = [
        "not json",
        {"instruction": "say a", "response": "a"},
        {"instruction": "say b"},
        {"id": "twice", "instruction": "say c", "response": "c"},
        {"id": ["odd"], "instruction": "say d", "response": "d"},
        {"messages": [{"role": "system", "content": "x"}], "response": "e"},
    ]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    for _ in range(2):  # a resumed run lists them once
        summary = run(job_for(Inferrer(), tmp_path / "run", source))
        assert (summary.responses, summary.rejected_rows) == (3, 3)
        listed = [json.loads(line) for line in (tmp_path / "run/rejected_rows.jsonl").read_text().splitlines()]
        assert [row["line"] for row in listed] == [1, 3, 6]
        assert {row["input"] for row in listed} == {"rows.jsonl"}


def test_strict_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [*simple_rows(2), "{", *simple_rows(9)[2:]])
    job = job_for(Inferrer(), tmp_path / "run", source, limits=RunLimits(workers=1, strict=True))
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3"):
        run(job)
    assert len(rewards(tmp_path / "run")) == 2


def test_several_inputs_and_a_limit(tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", [{"instruction": "say a", "response": "a"}, "broken"])
    two = write_rows(tmp_path / "two.jsonl", [{"instruction": f"say {w}", "response": w} for w in "bcd"])
    run(job_for(Inferrer(), tmp_path / "run", one, two, limit=4))
    assert [record.row for record in read_records_in_input_order(tmp_path / "run")] == [0, 2, 3]
    inferrer = Inferrer()
    summary = run(job_for(inferrer, tmp_path / "run", one, two, limit=4))
    assert (summary.responses, summary.rejected_rows, inferrer.asked.total()) == (3, 1, 0)


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(1))
    run(job_for(Inferrer(), tmp_path / "run", source))
    other = FlipReward(ScriptedEngine(Inferrer()), FlipOptions("direct"))
    with pytest.raises(RunMismatchError, match="template: 'reasoned'"):
        run(ScoringJob(other, [source], tmp_path / "run"))
    write_rows(tmp_path / "rows.jsonl", simple_rows(2))
    with pytest.raises(RunMismatchError, match="input 1 content"):
        run(job_for(Inferrer(), tmp_path / "run", source))


def test_a_folder_is_written_to_by_one_process_only(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(1))
    opened = open_job(job_for(Inferrer(), tmp_path / "run", source))
    with pytest.raises(RunLockedError):
        open_job(job_for(Inferrer(), tmp_path / "run", source))
    opened.folder.close()
    run(job_for(Inferrer(), tmp_path / "run", source))


def test_a_request_to_stop_finishes_what_is_in_flight(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(50))
    stop = StopSignal()
    inferrer = Inferrer()

    class StopAfterTen:
        count = 0

        def scored(self, scores: tuple[Score, ...]) -> None:
            self.count += len(scores)
            stop.requested = self.count >= 10

        def rejected(self, row: object) -> None:
            raise AssertionError(row)

    summary = run(
        job_for(inferrer, tmp_path / "run", source, limits=RunLimits(workers=4)), stop=stop, observer=StopAfterTen()
    )
    assert not summary.complete
    assert 10 <= summary.responses == inferrer.asked.total() < 50
    assert run(job_for(inferrer, tmp_path / "run", source)).complete
    assert set(inferrer.asked.values()) == {1}


def test_a_lost_engine_ends_the_run_and_keeps_what_is_finished(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(500))
    inferrer = Inferrer(*(f"word{i}" for i in range(100, 500)))
    with pytest.raises(RunStoppedError, match="broken"):
        run(job_for(inferrer, tmp_path / "run", source, limits=RunLimits(workers=8)))
    assert inferrer.asked.total() <= 100 + FAILURES_BEFORE_STOP + 8
    inferrer.failing.clear()
    assert run(job_for(inferrer, tmp_path / "run", source)).outcomes == {"scored": 500}
    assert max(inferrer.asked.values()) == 2


def test_an_engine_that_is_not_there_ends_the_run_at_once(tmp_path: Path) -> None:
    def refuse(_request: Request) -> str:
        raise EngineUnavailableError("nobody listens")

    source = write_rows(tmp_path / "rows.jsonl", simple_rows(500))
    engine = ScriptedEngine(refuse, latency_seconds=0.001)
    with pytest.raises(EngineUnavailableError):
        run(ScoringJob(FlipReward(engine), [source], tmp_path / "run", limits=RunLimits(workers=4)))
    assert engine.requests <= 4
    assert not (tmp_path / "run").exists()


def test_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        run(job_for(Inferrer(), tmp_path / "run", write_rows(tmp_path / "empty.jsonl", [])))
    with pytest.raises(OptionError):
        open_job(job_for(Inferrer(), tmp_path / "run"))


class WholeGroups(RewardModel):
    """A reward that looks at all responses of a group together, as a listwise judge does."""

    independent = False

    def __init__(self) -> None:
        self.engine = ScriptedEngine()
        self.sizes: list[int] = []
        self.broken = True

    @property
    def settings(self) -> Settings:
        return {"reward": "whole"}

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        self.sizes.append(len(group.responses))
        if self.broken:
            return (Score(1.0, Outcome.SCORED), *(Score(None, Outcome.ENGINE_FAILURE) for _ in group.responses[1:]))
        return tuple(Score(0.5, Outcome.SCORED) for _ in group.responses)


def test_a_reward_over_whole_groups_is_asked_for_whole_groups_again(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"prompt": "p", "responses": ["a", "b", "c"]}])
    reward = WholeGroups()
    run(ScoringJob(reward, [source], tmp_path / "run"))
    reward.broken = False
    summary = run(ScoringJob(reward, [source], tmp_path / "run"))
    assert reward.sizes == [3, 3]
    assert (summary.responses, summary.resumed_responses) == (3, 0)
    assert set(rewards(tmp_path / "run").values()) == {0.5}


def configuration(fingerprint: str | None) -> RunConfiguration:
    return RunConfiguration(settings={"a": 1}, inputs=[InputIdentity(name="x.jsonl", fingerprint=fingerprint)])


def test_default_folders_say_what_is_in_them() -> None:
    assert default_folder(configuration("h")) == default_folder(configuration("h"))
    assert default_folder(configuration("h")) != default_folder(configuration("i"))
    settings: Settings = {"reward": "flip"}
    inputs = [InputIdentity(name=name, fingerprint="h") for name in ("owner/a set:train", "b.csv")]
    path = default_folder(RunConfiguration(settings=dict(settings), inputs=inputs), "Qwen/Qwen3-4B")
    assert path.parent == Path("runs")
    assert re.fullmatch(r"owner-a-set-train\+1-flip-Qwen3-4B-[0-9a-f]{8}", path.name)


def test_a_folder_with_the_name_and_the_limit_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(6))
    run(job_for(Inferrer(), Path("runs/rows-0123abcd"), source, limit=2))
    manifest = json.loads(Path("runs/rows-0123abcd/manifest.json").read_text())
    manifest["configuration"]["limit"] = 2
    Path("runs/rows-0123abcd/manifest.json").write_text(json.dumps(manifest))
    run(job_for(Inferrer(), Path("runs/rows-ffffffff"), write_rows(tmp_path / "other.jsonl", simple_rows(1))))
    inferrer = Inferrer()
    opened = open_job(ScoringJob(FlipReward(ScriptedEngine(inferrer)), [source]))
    assert asyncio.run(opened.run()).responses == 6
    opened.folder.close()
    assert opened.folder.path == Path("runs/rows-0123abcd")
    assert inferrer.asked.total() == 4


def test_the_folder_of_a_limited_run_takes_the_rest_and_its_parts(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(9))
    inferrer = Inferrer()
    first = run(job_for(inferrer, tmp_path / "run", source, limit=3))
    assert (first.responses, first.limit, first.rows, first.complete) == (3, 3, 3, True)
    whole = run(job_for(inferrer, tmp_path / "run", source))
    assert (whole.responses, whole.limit, whole.resumed_responses) == (9, None, 3)
    opened = open_job(job_for(inferrer, tmp_path / "run", source, limit=2, output=Output(tmp_path / "two.jsonl")))
    again = asyncio.run(opened.run())
    opened.write_output()
    opened.folder.close()
    assert (again.responses, again.limit) == (9, None), "the folder still holds the whole"
    assert [json.loads(line)["id"] for line in (tmp_path / "two.jsonl").read_text().splitlines()] == ["r0", "r1"]
    assert set(inferrer.asked.values()) == {1}


def test_a_limit_does_not_hide_that_rows_form_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_rows(tmp_path / "rows.jsonl", [{"instruction": "say a", "response": text} for text in "aab"])
    inferrer = Inferrer()
    for limit, responses in ((1, 1), (2, 2), (None, 3)):
        opened = open_job(ScoringJob(FlipReward(ScriptedEngine(inferrer)), [source], limit=limit))
        assert asyncio.run(opened.run()).responses == responses
        opened.folder.close()
    assert len(list(Path("runs").iterdir())) == 1
    records = read_records_in_input_order(opened.folder.path)
    assert [(record.row, record.response_index) for record in records] == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("limits", [[1, 4, None], [10, 3, None]])
def test_a_group_that_a_limit_cut_is_finished_by_the_rest(
    tmp_path: Path, limits: Sequence[int | None], *, scattered: bool
) -> None:
    rows: list[Row] = [
        {"instruction": f"say word{group}", "response": f"{take} word{group}"} for group in range(4) for take in "abc"
    ]
    if scattered:
        rows = [{"id": row["instruction"], **row} for take in range(3) for row in rows[take::3]]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    inferrer = Inferrer()
    for limit in limits:
        summary = run(job_for(inferrer, tmp_path / "run", source, limit=limit))
    assert (summary.responses, summary.complete, summary.rows) == (12, True, 4)
    assert [record.response_index for record in read_records_in_input_order(tmp_path / "run")] == [0, 1, 2] * 4
    assert set(inferrer.asked.values()) == {3}, "each response once"


def test_a_run_that_never_began_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_rows(tmp_path / "rows.jsonl", [{"instruction": " ", "response": "nothing was asked"}])
    summary = score_file(FlipReward(ScriptedEngine()), source)
    assert (summary.rejected_rows, summary.responses) == (1, 0)
    assert not Path("runs").exists()
    Path("killed").mkdir()
    Path("killed/.lock").touch()
    Path("killed/records.jsonl").touch()
    score_file(FlipReward(ScriptedEngine()), source, run_folder="killed")
    assert not Path("killed").exists(), "a process that was killed before its first record began nothing either"
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("kept")
    with pytest.raises(RunError, match=r"other files, such as notes\.txt"):
        score_file(FlipReward(ScriptedEngine()), source, run_folder="mine")
    assert [one.name for one in Path("mine").iterdir()] == ["notes.txt"]


def test_a_folder_with_records_stays_whatever_happens_to_a_later_session(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(2))
    run(job_for(Inferrer(), tmp_path / "run", source, limit=1))
    failing = Inferrer("word1")
    failing.error = EngineUnavailableError("nobody listens")
    with pytest.raises(EngineUnavailableError):
        run(job_for(failing, tmp_path / "run", source))
    assert len(rewards(tmp_path / "run")) == 1


def test_many_runs_that_fail_at_once_in_one_folder_neither_collide_nor_leave_it(tmp_path: Path) -> None:
    def open_and_close(_number: int) -> str:
        try:
            RunFolder(tmp_path / "runs/one", configuration("h")).close()
        except RunLockedError:
            return "locked"
        return "closed"

    with ThreadPoolExecutor(8) as pool:
        assert "closed" in set(pool.map(open_and_close, range(200)))
    open_and_close(0)
    assert not (tmp_path / "runs/one").exists()


def test_a_session_says_what_was_called(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(1))
    score_file(FlipReward(ScriptedEngine(Inferrer())), source, run_folder=tmp_path / "run")
    [session] = Manifest.read(tmp_path / "run/manifest.json").sessions
    assert (session.command, session.model) == ("score_file", "scripted")


def test_standard_input_is_never_resumed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", configuration(None))
    folder.begin()
    folder.close()
    with pytest.raises(RunMismatchError, match="standard input"):
        RunFolder(tmp_path / "run", configuration(None))


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=str(tmp_path)):
        list(read_records(tmp_path))
    (tmp_path / "records.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="no manifest"):
        RunFolder(tmp_path, configuration("h"))
    assert (tmp_path / "records.jsonl").read_text() == "{}\n"
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="manifest"):
        RunFolder(tmp_path, configuration("h"))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(RunError, match="line 1"):
        list(read_records(tmp_path))


def test_a_refused_request_is_completed_and_does_not_end_the_run(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(300))
    inferrer = Inferrer(*(f"word{i}" for i in range(100, 200)))
    inferrer.error = RequestRefusedError("filtered", status=400)
    summary = run(job_for(inferrer, tmp_path / "run", source))
    assert summary.complete
    assert summary.outcomes == {"scored": 200, "request_refused": 100}
    run(job_for(inferrer, tmp_path / "run", source))
    assert set(inferrer.asked.values()) == {1}


def test_half_a_character_in_a_reply_is_replaced(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(1))
    reply = '{"REASONING": "\\ud83d", "INFERRED INSTRUCTION": "say \\ud83d"} \ud83d'
    assert run(job_for(lambda _request: reply, tmp_path / "run", source)).responses == 1
    [record] = read_records(tmp_path / "run")
    assert (record.score.raw_reply or "").endswith("\ufffd")


def test_an_output_that_would_overwrite_something_is_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(1))
    for output in (Path(source), tmp_path / "run/records.jsonl"):
        with pytest.raises(OptionError):
            open_job(job_for(Inferrer(), tmp_path / "run", source, output=Output(output)))
    assert len(Path(source).read_text().splitlines()) == 1


def test_rescoring_a_killed_run_says_that_it_is_not_complete(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(4))
    run(job_for(Inferrer(), tmp_path / "run", source))
    (tmp_path / "run/summary.json").unlink()
    path = tmp_path / "run/records.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    folder, summary = rescore_run(tmp_path / "run", TokenF1("multilingual"))
    assert (summary.responses, summary.complete) == (3, False)
    assert len(rewards(folder)) == 3
    opened = open_job(job_for(Inferrer(), tmp_path / "run", source))
    with pytest.raises(RunLockedError):
        rescore_run(tmp_path / "run", TokenF1())
    opened.folder.close()


def test_a_file_is_scored_with_one_call_and_the_same_call_asks_nothing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"q": "say a", "a": "a"}, {"q": "say b", "a": "b"}, {"q": "say c"}])
    inferrer = Inferrer()
    columns = {"instruction": "q", "response": "a"}
    for number in range(2):
        summary = score_file(
            FlipReward(ScriptedEngine(inferrer)), source, tmp_path / f"{number}.jsonl", run_folder=tmp_path / "run",
            columns=columns, limit=3, workers=2,
        )  # fmt: skip
        assert (summary.outcomes, summary.rejected_rows) == ({"scored": 2}, 1)
        lines = (tmp_path / f"{number}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [(json.loads(line)["q"], json.loads(line)["reward"]) for line in lines] == [
            ("say a", 1),
            ("say b", 1),
            ("say c", None),
        ]
    assert inferrer.asked.total() == 2
    with pytest.raises(DataError):
        score_file(
            FlipReward(ScriptedEngine(inferrer)), source, run_folder=tmp_path / "b", columns=columns, strict=True
        )


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("rows.jsonl", {"limit": -1}, "limit is -1"),
        ("rows.jsonl", {"limit": 0}, "limit is 0"),
        ("rows.jsonl", {"limit": "5"}, "limit is '5'"),
        ("rows.jsonl", {"limit": 1.5}, "limit is 1.5"),
        ("rows.jsonl", {"workers": 0}, "workers is 0"),
        ("rows.jsonl", {"limitt": 1}, "did you mean 'limit'"),
        ("rows.jsonl", {"columns": "instruction=prompt"}, "is no mapping"),
        ([], {}, "none is named"),
        ([{"prompt": "a", "response": "b"}], {}, "reads files, and not dict"),
        (pl.DataFrame({"prompt": ["a"], "response": ["b"]}), {}, "reads files, and not DataFrame"),
        (None, {}, "reads files, and not NoneType"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(
    source: Any, options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"prompt": "Say hi.", "response": "Hi!"}')
    with pytest.raises(OptionError, match=said) as caught:
        score_file(FlipReward(ScriptedEngine()), source, **options)
    assert "\n" not in str(caught.value)
    assert not Path("runs").exists()


def test_several_files_are_scored_with_one_call(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        file.write_text('{"prompt": "Say hi.", "response": "Hi!"}')
    output = tmp_path / "scored.csv"
    assert score_file(files, output, run_folder=tmp_path / "run", reward="longest").responses == 2
    assert len(output.read_text().splitlines()) == 3


async def test_a_file_is_scored_below_a_running_event_loop(tmp_path: Path) -> None:
    source = Path(write_rows(tmp_path / "rows.jsonl", simple_rows(3)))
    reward = FlipReward(ScriptedEngine(Inferrer()))
    one = await score_file_async(reward, source, run_folder=tmp_path / "one")
    other = score_file(reward, source, run_folder=tmp_path / "other")
    assert one.outcomes == other.outcomes == {"scored": 3}
    assert rewards(tmp_path / "one") == rewards(tmp_path / "other")


async def test_a_file_is_scored_by_a_reward_of_a_name(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(2))
    for folder in (tmp_path / "one", tmp_path / "other"):
        summary = score_file(source, folder.with_suffix(".jsonl"), run_folder=folder, model="scripted", samples=2,
                             temperature=0.5, seed=1)  # fmt: skip
        assert summary.outcomes == {"scored": 2}
    named = await score_file_async(source=source, run_folder=tmp_path / "a", reward="longest", limit=1)
    given = score_file(reward=FlipReward(ScriptedEngine()), source=source, run_folder=tmp_path / "b", limit=1)
    assert named.responses == given.responses == 1
    with pytest.raises(OptionError, match="'samples'"):
        score_file(source, model="scripted", sample=2)


def test_the_rows_of_a_run_are_found_again(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Say hi.", "response": "Hi!"}\n')
    score_file(FlipReward(ScriptedEngine()), rows, run_folder=tmp_path / "run")
    [found] = reopen_inputs(tmp_path / "run")
    assert len(list(found.rows())) == 1
    rows.write_text('{"prompt": "Say hi.", "response": "Ho!"}\n')
    with pytest.raises(RunError, match=r"rows\.jsonl has changed"):
        reopen_inputs(tmp_path / "run")
    rows.unlink()
    with pytest.raises(RunError, match="are gone"):
        reopen_inputs(tmp_path / "run")


def grouped_rows() -> list[Row]:
    return [
        {"instruction": f"say {n % 3}", "response": f"say {n % 3}" + " no" * (n // 3), "t": n % 3} for n in range(9)
    ]


@pytest.mark.parametrize("independent", [True, False])
def test_a_run_over_gathered_rows_goes_on_where_it_stopped(tmp_path: Path, independent: bool) -> None:
    source = write_rows(tmp_path / "rows.jsonl", grouped_rows())
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.messages[-1].content)
        if len(asked) == 4:
            raise EngineServerError("broken")
        return json.dumps({"REASONING": "scripted", "INFERRED INSTRUCTION": "say 0"})

    job = job_for(answer, tmp_path / "run", source, group_by="t", limits=RunLimits(workers=1))
    job.reward.independent = independent
    first = run(job)
    assert (first.responses, first.complete) == (9, False)
    before = len(asked)
    assert run(job).complete
    assert len(asked) - before == (1 if independent else 3)
    records = list(read_records_in_input_order(tmp_path / "run"))
    assert [(record.row, record.response_index, record.group_size) for record in records] == [
        (row, index, 3) for row in range(3) for index in range(3)
    ]
    with pytest.raises(RunMismatchError, match="groups"):
        run(job_for(answer, tmp_path / "run", source, group_by="instruction"))


def test_a_run_without_groups_has_the_configuration_it_always_had(tmp_path: Path) -> None:
    opened = open_job(job_for(Inferrer(), tmp_path / "run", write_rows(tmp_path / "rows.jsonl", simple_rows(3))))
    opened.folder.begin()
    opened.folder.close()
    configuration = json.loads((tmp_path / "run/manifest.json").read_text())["configuration"]
    assert sorted(configuration) == ["columns", "inputs", "settings"]


def test_comparing_needs_several_responses_to_something(tmp_path: Path) -> None:
    inferrer = Inferrer()
    source = write_rows(tmp_path / "rows.jsonl", simple_rows(3))
    with pytest.raises(OptionError) as caught:
        open_job(job_for(inferrer, tmp_path / "run", source, compares=True))
    assert "--group-by" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()
    enough = write_rows(tmp_path / "enough.jsonl", [*simple_rows(3), *grouped_rows()[:1] * 2])
    open_job(job_for(inferrer, tmp_path / "run", enough, compares=True)).folder.close()


def test_rows_of_standard_input_form_groups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in grouped_rows())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    score_file(FlipReward(ScriptedEngine(Inferrer())), "-", run_folder=tmp_path / "run", group_by="t")
    assert {record.group_size for record in read_records(tmp_path / "run")} == {3}


def test_the_rows_of_a_run_are_read_again_in_their_encoding(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes("prompt,response\nSag Grüß Gott.,Grüß Gott!\n".encode("cp1252"))
    score_file(FlipReward(ScriptedEngine()), rows, run_folder=tmp_path / "run", encoding="cp1252")
    [found] = reopen_inputs(tmp_path / "run")
    [row] = found.rows()
    assert isinstance(row, RawRow)
    assert row.values["response"] == "Grüß Gott!"


def test_standard_input_is_resumed_but_not_read_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for resumed in (0, 1):
        content = b'{"prompt": "Say hi.", "response": "Hi!"}\n'
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        summary = score_file(FlipReward(ScriptedEngine()), "-", run_folder=tmp_path / "run")
        assert summary.resumed_responses == resumed
    with pytest.raises(RunError, match="were not kept"):
        reopen_inputs(tmp_path / "run")


def test_the_key_in_an_address_is_not_kept_and_a_pattern_is(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    rows = b'{"prompt": "Say hi.", "response": "Hi!"}\n'
    files.pipe({"/keys/a.jsonl?key=hunter2": rows, "/parts/part-1.jsonl": rows, "/parts/part-2.jsonl": rows})
    for name, address in (("key", "memory://keys/a.jsonl?key=hunter2"), ("pattern", "memory://parts/part-?.jsonl")):
        score_file(address, tmp_path / f"{name}.csv", run_folder=tmp_path / name, reward="longest")
    written = [path.read_text() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(written) > 6
    assert not [text for text in written if "hunter2" in text]
    assert Manifest.read(tmp_path / "key" / "manifest.json").sessions[0].sources == ["memory://keys/a.jsonl"]
    [found] = reopen_inputs(tmp_path / "pattern")
    assert len(list(found.rows())) == 2


def test_only_scores_from_python(tmp_path: Path) -> None:
    source, output = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    source.write_text('{"prompt": "Say hi.", "response": "Hi!"}\n')
    score_file(source, output, run_folder=tmp_path / "run", reward="longest", only_scores=True)
    [record] = map(json.loads, output.read_text().splitlines())
    assert record["group_id"] == "row-0"
    assert "prompt" not in record
    with pytest.raises(OptionError, match="push"):
        score_file(source, run_folder=tmp_path / "other", reward="longest", push_to_hub="no owner")
