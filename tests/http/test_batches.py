"""Runs by batches against a server that behaves as documented, and fails in every way that is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from flip_reward.core.score import Outcome
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.scripted import echo_last_words
from flip_reward.scoring.records import Record
from tests.e2e.command import read, run, write_rows
from tests.http.batch_server import BatchFault, BatchServer
from tests.http.fault_server import Fault, FaultServer, at_first, by_chance, from_then_on
from tests.unit.rewards.scripted_judges import ScriptedJudge, shown_responses

ROWS = [{"id": f"row-{i}", "instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(12)]
GROUPS = [
    {"instruction": f"say word{i}", "responses": [f"it is {'very ' * j}word{i}" for j in range(4)]} for i in range(3)
]
COPIES = [
    {
        "instruction": f"Write about word{i} and more words",
        "response": f"Write about word{i} and more words, {'very ' * i}told",
    }
    for i in range(4)
]
MOST_ROUNDS = 8


def answer(request: Request) -> str | Completion:
    """Judge or infer, by what stands in the prompt alone."""
    text = request.messages[-1].content
    prompt = "".join(message.content for message in request.messages)
    if "yes or no" in prompt:
        return "Yes"
    if shown_responses(request):
        return ScriptedJudge(lambda shown: max(range(len(shown)), key=lambda place: len(shown[place])))(request)
    if "SCORE" in prompt:
        return json.dumps({"REASONING": "It is fine.", "SCORE": f"{len(text) % 10 + 1}/10"})
    return echo_last_words(request)


class Batched:
    """A run by batches in a folder of its own, and the live run that it has to equal."""

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, object]] = ROWS, *options: str) -> None:
        self.folder = folder
        self.options = options
        write_rows(folder / "rows.jsonl", rows)

    def step(self, server: FaultServer, *step: str, **variables: str) -> CompletedProcess[str]:
        """Take one step."""
        options = ["--base-url", server.base_url, "--model", server.model, "--run-folder", "run", *self.options]
        return run(self.folder, "score", "rows.jsonl", *options, "--cache", "off", "--batch", *step, **variables)

    def finish(self, server: BatchServer) -> int:
        """Submit and collect until every row is scored; return how often that took."""
        for number in range(1, MOST_ROUNDS + 1):
            submitted = self.step(server, "submit")
            assert submitted.returncode == 0, submitted.stderr
            collected = self.step(server, "collect", "--wait")
            if collected.returncode == 0:
                return number
            assert collected.returncode == 3, collected.stderr
        raise AssertionError(f"rows are left after {MOST_ROUNDS} rounds: {collected.stdout}")

    def live(self) -> list[Record]:
        """Return the records of a run without batches."""
        with FaultServer(script=answer, most_choices=8) as server:
            options = ["--base-url", server.base_url, "--model", server.model, "--run-folder", "live", *self.options]
            scored = run(self.folder, "score", "rows.jsonl", *options, "--cache", "off")
            assert scored.returncode == 0, scored.stderr
        return without_time(read(self.folder / "live"))

    @property
    def records(self) -> list[Record]:
        """What is recorded."""
        return without_time(read(self.folder / "run"))

    @property
    def lines(self) -> int:
        """How many records were ever written."""
        return (self.folder / "run/records.jsonl").read_bytes().count(b"\n")


def without_time(records: Sequence[Record]) -> list[Record]:
    return [
        replace(
            record,
            score=replace(
                record.score, cost=replace(record.score.cost, latency_seconds=0.0, attempts=1, cached=False)
            ),
        )
        for record in records
    ]


@pytest.mark.parametrize(
    ("rows", "options", "rounds"),
    [
        (ROWS, "", 1),
        (ROWS, "--samples 3 --temperature 0.7 --seed 1", 1),
        (COPIES, "--copy-guard", 2),
        (ROWS, "-r pointwise", 1),
        (GROUPS, "-r pairwise", 1),
        (GROUPS, "-r pairwise --tournament knockout", 2),
        (GROUPS, "-r listwise", 1),
        (ROWS, "-r logit-pointwise", 1),
        (ROWS, "-r 0.5*flip+0.5*pointwise", 1),
    ],
)
def test_batches_give_the_records_of_a_live_run(
    rows: Sequence[Mapping[str, object]], options: str, rounds: int, tmp_path: Path
) -> None:
    batched = Batched(tmp_path, rows, *options.split())
    with BatchServer(script=answer, looks=0, most_choices=8) as server:
        assert batched.finish(server) <= rounds
        assert set(server.custom_ids.values()) == {1}
    assert batched.records == batched.live()
    assert batched.lines == len(batched.records)


@pytest.mark.parametrize("fault", sorted(BatchFault))
def test_what_went_wrong_with_a_batch_is_asked_again_and_nothing_else(fault: BatchFault, tmp_path: Path) -> None:
    hangs = fault in {BatchFault.SILENT, BatchFault.SLOW_FILE}
    batched = Batched(tmp_path, ROWS, "--max-attempts", "4", "--timeout-seconds", "1" if hangs else "60")
    with BatchServer(choose_batch={1: fault}, looks=0) as server:
        batched.finish(server)
        asked_once = sum(count == 1 for count in server.requests.values())
    assert batched.records == batched.live()
    assert batched.lines == len(ROWS)
    again = {BatchFault.LOST_FILE: len(ROWS) - 1, BatchFault.DAMAGED_LINES: 2}  # the first is asked live
    assert asked_once == len(ROWS) - again.get(fault, 0)


def test_an_expired_batch_is_followed_by_one_with_the_rest(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with BatchServer(choose_batch={1: BatchFault.EXPIRED}, looks=0) as server:
        batched.step(server, "submit")
        collected = batched.step(server, "collect", "--wait")
        assert collected.returncode == 3
        left = len(ROWS) - batched.lines
        assert f"{left} requests are not answered" in collected.stdout
        assert "--batch submit" in collected.stdout
        sent = batched.step(server, "submit")
        assert f"1 batch with {left} requests sent" in sent.stdout
        assert batched.step(server, "collect", "--wait").returncode == 0


def test_damaged_lines_are_said(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with BatchServer(choose_batch={1: BatchFault.DAMAGED_LINES}, looks=0) as server:
        batched.step(server, "submit")
        assert "damaged lines: 2" in batched.step(server, "collect").stdout


def test_failed_lines_are_asked_again_and_refused_ones_are_not(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    choose = by_chance({Fault.SERVER_ERROR: 0.3, Fault.BUSY: 0.2}, seed=5)
    with BatchServer(choose, looks=0) as server:
        batched.finish(server)
        failed = server.injected.total()
        assert failed
        assert server.requests.total() == len(ROWS) + failed
    assert batched.records == batched.live()


def test_a_refusal_in_a_batch_is_the_outcome_that_it_is_live(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with BatchServer(lambda prompt, _: Fault.REFUSED if "word7" in prompt else None, looks=0) as server:
        batched.finish(server)
        assert set(server.custom_ids.values()) == {1}
    outcomes = {record.group_id: record.score.outcome for record in batched.records}
    assert outcomes.pop("row-7") is Outcome.REQUEST_REFUSED
    assert set(outcomes.values()) == {Outcome.SCORED}


def test_a_model_that_takes_another_form_is_found_out_by_one_request(tmp_path: Path) -> None:
    def refuse(body: dict[str, Any]) -> str | None:
        if "max_tokens" in body:
            return (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead."
            )
        return None

    batched = Batched(tmp_path)
    with BatchServer(refuse=refuse, looks=0) as server:
        assert batched.finish(server) == 1
        assert set(server.custom_ids.values()) == {1}
        assert len(server.custom_ids) == len(ROWS) - 1
    assert [record.score.value for record in batched.records] == [record.score.value for record in batched.live()]


def test_a_batch_of_another_account(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with BatchServer(looks=0) as server:
        assert batched.step(server, "submit", OPENAI_API_KEY="mine").returncode == 0
        for step in ("status", "collect"):
            refused = batched.step(server, step, OPENAI_API_KEY="yours")
            assert refused.returncode in (2, 4)
            assert "account" in refused.stderr
            assert "yours" not in refused.stderr
        assert server.batches_made == 1
        collected = batched.step(server, "collect", "--wait", OPENAI_API_KEY="mine")
    assert collected.returncode == 0, collected.stderr
    assert batched.records == batched.live()


def test_every_step_says_what_is_left_and_how_to_go_on(tmp_path: Path) -> None:
    batched = Batched(tmp_path, ROWS, "-o", "scored.jsonl")
    with BatchServer(looks=3) as server:
        submitted = batched.step(server, "submit")
        assert "1 batch with 11 requests sent" in submitted.stdout
        assert "--batch collect --wait" in submitted.stdout
        assert "Nothing" not in batched.step(server, "submit").stdout
        assert server.batches_made == 1, "what is asked is not asked again"
        looked = batched.step(server, "status")
        assert looked.returncode == 0
        assert "batch 1: in progress" in looked.stdout
        early = batched.step(server, "collect")
        assert early.returncode == 3
        assert "1 batch with 11 requests is under way" in early.stdout
        assert not (tmp_path / "scored.jsonl").exists()
        done = batched.step(server, "collect", "--wait")
        assert done.returncode == 0, done.stderr
        assert "12 of 12 responses scored" in done.stdout
        again = batched.step(server, "collect")
        assert again.returncode == 0
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scored] == [row["id"] for row in ROWS]


def test_programs_get_json_and_rows_on_standard_output(tmp_path: Path) -> None:
    as_json = Batched(tmp_path, ROWS, "--json")
    with BatchServer(looks=0) as server:
        sent = json.loads(as_json.step(server, "submit").stdout)
        assert [batch["requests"] for batch in sent["batches"]] == [11]
        assert sent["missing"] == 0
        assert json.loads(as_json.step(server, "status").stdout)["batches"]
        assert json.loads(as_json.step(server, "collect", "--wait").stdout)["complete"]
        to_output = Batched(tmp_path, ROWS, "-o", "-")
        rows = to_output.step(server, "collect").stdout.splitlines()
    assert [json.loads(row)["id"] for row in rows] == [row["id"] for row in ROWS]


def test_a_run_by_batches_and_a_live_one_go_on_with_each_other(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with BatchServer(from_then_on(Fault.SERVER_ERROR, after=5), looks=0) as server:
        batched.step(server, "submit")
        batched.step(server, "collect", "--wait")
        assert 0 < batched.lines < len(ROWS)
    with FaultServer() as other:
        options = ["--base-url", other.base_url, "--model", other.model, "--run-folder", "run", "--cache", "off"]
        scored = run(tmp_path, "score", "rows.jsonl", *options)
        assert scored.returncode == 0, scored.stderr
        assert other.requests.total() == len(ROWS) - 5
    assert batched.records == batched.live()


def test_a_live_run_says_what_it_asks_once_more(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with BatchServer(looks=100) as server:
        batched.step(server, "submit")
        options = ["--base-url", server.base_url, "--model", server.model, "--run-folder", "run", "--cache", "off"]
        scored = run(tmp_path, "score", "rows.jsonl", *options)
    assert scored.returncode == 0
    assert "11 requests" in scored.stderr
    assert "--batch collect" in scored.stderr


def test_a_server_without_batches_is_said(tmp_path: Path) -> None:
    batched = Batched(tmp_path)
    with FaultServer() as server:
        refused = batched.step(server, "submit")
    assert refused.returncode == 4
    assert len(refused.stderr.partition("Error: ")[2].splitlines()) <= 2
    assert "Traceback" not in refused.stderr


def test_shards_by_batches_make_the_run_of_one_process(tmp_path: Path) -> None:
    with BatchServer(looks=0) as server:
        for shard in ("1/2", "2/2"):
            batched = Batched(tmp_path, ROWS, "--shard", shard)
            batched.finish(server)
            sent = server.batches_made
            assert "is done" in batched.step(server, "submit").stderr
            assert server.batches_made == sent
        assert run(tmp_path, "merge", "run", "-o", "scored.jsonl").returncode == 0
        assert set(server.requests.values()) == {1}
    merged = without_time(read(tmp_path / "run/merged"))
    batched = Batched(tmp_path)
    assert merged == batched.live()


class TestFiles:
    """`--batch export` and `--batch import`, with what stands for `vllm run-batch` in between."""

    @staticmethod
    def step(batched: Batched, *step: str) -> CompletedProcess[str]:
        options = ["--model", "test-model", "--run-folder", "run", "--cache", "off", *batched.options]
        return run(batched.folder, "score", "rows.jsonl", *options, "--batch", *step)

    @pytest.mark.parametrize(
        ("rows", "options"),
        [
            (ROWS, ""),
            (ROWS, "-r pointwise"),
            (GROUPS, "-r pairwise --tournament knockout"),
            (GROUPS, "-r listwise"),
        ],
    )
    def test_out_and_in_gives_the_records_of_a_live_run(
        self, rows: Sequence[Mapping[str, object]], options: str, tmp_path: Path
    ) -> None:
        batched, vllm = Batched(tmp_path, rows, *options.split()), BatchServer(script=answer, looks=0, most_choices=8)
        for number in range(1, MOST_ROUNDS):
            exported = self.step(batched, "export", "files")
            assert exported.returncode == 0, exported.stderr
            requests = tmp_path / f"files/requests-{number:04}.jsonl"
            assert f"Wrote files/{requests.name}" in exported.stdout
            assert "vllm run-batch" in exported.stdout
            vllm.run_batch(requests, tmp_path / f"files/replies-{number:04}.jsonl")
            imported = self.step(batched, "import", "files")
            if imported.returncode == 0:
                break
            assert imported.returncode == 3, imported.stderr
        assert set(vllm.custom_ids.values()) == {1}
        assert batched.records == batched.live()

    def test_what_holds_no_replies_is_none(self, tmp_path: Path) -> None:
        batched = Batched(tmp_path)
        self.step(batched, "export", "files")
        (tmp_path / "files/junk.jsonl").write_text('junk\n{"a": 1}\n')
        for name in ("requests-0001.jsonl", "junk.jsonl"):
            refused = self.step(batched, "import", f"files/{name}")
            assert refused.returncode == 2
            assert "holds no replies" in refused.stderr
        assert "requests-0001.jsonl with 12 requests" in self.step(batched, "export", "files").stdout

    def test_replies_to_earlier_requests_are_none_to_later_ones(self, tmp_path: Path) -> None:
        batched = Batched(tmp_path)
        vllm = BatchServer(lambda prompt, _: Fault.SERVER_ERROR if "word3" in prompt else None)
        self.step(batched, "export", "files")
        vllm.run_batch(tmp_path / "files/requests-0001.jsonl", tmp_path / "files/replies-0001.jsonl")
        imported = self.step(batched, "import", "files")
        assert "1 request is not answered" in imported.stdout
        assert "SERVER_ERROR" in imported.stdout
        assert "requests-0002.jsonl with 1 request" in self.step(batched, "export", "files").stdout
        again = self.step(batched, "import", "files")
        assert "0 new replies" in again.stdout
        assert "1 batch with 1 request is exported" in again.stdout
        assert "requests-0002.jsonl with 1 request" in self.step(batched, "export", "files").stdout

    def test_a_killed_run_is_imported_as_far_as_it_came(self, tmp_path: Path) -> None:
        batched, vllm = Batched(tmp_path), BatchServer()
        self.step(batched, "export", "files")
        requests, replies = tmp_path / "files/requests-0001.jsonl", tmp_path / "files/out.jsonl"
        vllm.run_batch(requests, replies, until=7)
        imported = self.step(batched, "import", "files")
        assert imported.returncode == 3
        assert "half-written" in imported.stderr
        assert "7 new replies" in imported.stdout
        assert "5 requests are not answered" in imported.stdout
        assert batched.lines == 7
        again = self.step(batched, "import", "files")
        assert "0 new replies" in again.stdout
        self.step(batched, "export", "files")
        rest = tmp_path / "files/requests-0002.jsonl"
        assert rest.read_bytes().count(b"\n") == 5
        vllm.run_batch(rest, tmp_path / "files/rest.jsonl")
        assert self.step(batched, "import", "files/rest.jsonl").returncode == 0
        assert batched.records == batched.live()
        assert batched.lines == len(ROWS)

    def test_what_files_began_a_server_may_finish(self, tmp_path: Path) -> None:
        batched, vllm = Batched(tmp_path), BatchServer()
        self.step(batched, "export", "files")
        vllm.run_batch(tmp_path / "files/requests-0001.jsonl", tmp_path / "files/out.jsonl", until=7)
        self.step(batched, "import", "files")
        with BatchServer(looks=0) as server:
            batched.finish(server)
            assert server.requests.total() == len(ROWS) - 7
        assert batched.records == batched.live()

    def test_a_context_that_is_too_long_is_final(self, tmp_path: Path) -> None:
        batched = Batched(tmp_path)
        vllm = BatchServer(lambda prompt, _: Fault.CONTEXT_TOO_LONG if "word3" in prompt else None)
        self.step(batched, "export", "files")
        vllm.run_batch(tmp_path / "files/requests-0001.jsonl", tmp_path / "files/out.jsonl")
        assert self.step(batched, "import", "files").returncode == 0
        outcomes = [record.score.outcome for record in batched.records]
        assert outcomes.count(Outcome.CONTEXT_TOO_LONG) == 1
        assert outcomes[3] is Outcome.CONTEXT_TOO_LONG

    def test_what_is_exported_and_not_answered_is_exported_again(self, tmp_path: Path) -> None:
        batched = Batched(tmp_path)
        self.step(batched, "export", "files")
        first = (tmp_path / "files/requests-0001.jsonl").read_bytes()
        self.step(batched, "export", "elsewhere")
        assert (tmp_path / "elsewhere/requests-0001.jsonl").read_bytes() == first
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["requests-0001.jsonl"]

    def test_failures_of_vllm_are_asked_again(self, tmp_path: Path) -> None:
        batched, vllm = Batched(tmp_path), BatchServer(at_first(Fault.SERVER_ERROR))
        self.step(batched, "export", "files")
        vllm.run_batch(tmp_path / "files/requests-0001.jsonl", tmp_path / "files/out.jsonl")
        assert self.step(batched, "import", "files").returncode == 3
        assert not batched.records
        self.step(batched, "export", "files")
        vllm.run_batch(tmp_path / "files/requests-0002.jsonl", tmp_path / "files/out.jsonl")
        assert self.step(batched, "import", "files").returncode == 0
        assert batched.records == batched.live()

    @pytest.mark.parametrize(
        ("place", "said"),
        [("files", "holds no replies"), ("nowhere", "there is no folder"), ("other", "not to requests of this run")],
    )
    def test_a_wrong_folder_changes_nothing(self, place: str, said: str, tmp_path: Path) -> None:
        batched = Batched(tmp_path)
        self.step(batched, "export", "files")
        (tmp_path / "other").mkdir()
        line = {"custom_id": "f" * 40, "response": {"status_code": 200, "body": {}}, "error": None}
        write_rows(tmp_path / "other/out.jsonl", [line])
        before = {path: path.read_bytes() for path in (tmp_path / "run/batch").iterdir()}
        refused = self.step(batched, "import", place)
        assert refused.returncode == 2
        assert said in refused.stderr
        after = {path: path.read_bytes() for path in (tmp_path / "run/batch").iterdir() if path.stat().st_size}
        assert after == {path: content for path, content in before.items() if content}

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        batched = Batched(tmp_path)
        refused = self.step(batched, "export", "rows.jsonl")
        assert refused.returncode == 2
        assert "rows.jsonl is a file" in refused.stderr
