"""The steps of a run by batches, in process, against a server that fails at batches on purpose."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from flip_reward.core.score import Outcome
from flip_reward.engines.batch.client import BatchClient
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.middleware import RetryPolicy
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineError, EngineUnavailableError, FlipRewardError, OptionError, RunError
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.batch.steps import Progress, collect, find_engine, status, submit
from flip_reward.scoring.batch.store import BatchStore, Taken
from flip_reward.scoring.job import OpenedJob, ScoringJob, open_job
from flip_reward.scoring.listing import remove_run
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import read_records, read_records_in_input_order
from flip_reward.scoring.runner import RunLimits
from tests.http.batch_server import BatchFault, BatchServer
from tests.http.fault_server import Fault, FaultServer

ROWS = [{"instruction": f"say word{i}", "response": f"this is word{i}"} for i in range(20)]
GROUPS = [
    {"instruction": f"say word{i}", "responses": [f"it is {'very ' * j}word{i}" for j in range(4)]} for i in range(4)
]
QUICK = RetryPolicy(max_attempts=4, first_wait_seconds=0.01, max_wait_seconds=0.05)
MOST_ROUNDS = 8


class KilledError(Exception):
    """Stands for a process that is killed."""


class BatchRun:
    """A run by batches; every step opens it anew, as every command does."""

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, object]] = ROWS, **settings: Any) -> None:
        self.folder = folder
        self.settings = {"max_attempts": 1, "cache": "off", **settings}
        self.retry_refused = False
        self.limits: dict[str, int] = {}
        self.source = folder / "rows.jsonl"
        self.source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def open(self, server: FaultServer, name: str) -> OpenedJob:
        config = RewardConfig(model=server.model, base_url=server.base_url, **self.settings)
        limits = RunLimits(retry_refused=self.retry_refused)
        return open_job(ScoringJob(config.load(), [str(self.source)], self.folder / name, limits=limits))

    def submit(self, server: FaultServer, client: type[BatchClient] = BatchClient) -> Progress:
        opened = self.open(server, "run")
        with closing(opened.folder), closing(BatchStore(opened.folder.path, **self.limits)) as store:
            return asyncio.run(submit(opened, store, client(find_engine(opened.job.reward).server, QUICK)))

    def collect(
        self, server: FaultServer, client: type[BatchClient] = BatchClient, stop: StopSignal | None = None
    ) -> Progress:
        opened = self.open(server, "run")
        with closing(opened.folder), closing(BatchStore(opened.folder.path)) as store:
            made = client(find_engine(opened.job.reward).server, QUICK)
            return asyncio.run(collect(opened, store, made, stop=stop))

    def wait(self, server: FaultServer) -> Progress:
        for _ in range(MOST_ROUNDS):
            progress = self.collect(server)
            if all(batch.collected for batch in progress.batches):
                return progress
        raise AssertionError("a batch never ends")

    def finish(self, server: FaultServer) -> int:
        """Submit and collect until every row is recorded; return in how many rounds."""
        for number in range(1, MOST_ROUNDS + 1):
            self.submit(server)
            progress = self.wait(server)
            if progress.summary is not None and progress.summary.complete:
                return number
        raise AssertionError("rows are left")

    def live(self, **server: Any) -> list[Record]:
        """Return the records of a run without batches."""
        with FaultServer(most_choices=8, **server) as one:
            opened = self.open(one, "live")
            with closing(opened.folder):
                asyncio.run(opened.run())
        return without_cost(read_records_in_input_order(self.folder / "live"))

    @property
    def records(self) -> list[Record]:
        return without_cost(read_records_in_input_order(self.folder / "run"))

    @property
    def lines(self) -> int:
        return sum(1 for _ in read_records(self.folder / "run"))


def without_cost(records: Any) -> list[Record]:
    """Leave out what a batch spends otherwise: the time, and attempts."""
    return [
        replace(one, score=replace(one.score, cost=replace(one.score.cost, latency_seconds=0.0))) for one in records
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "rounds"),
    [
        (ROWS, {}, 1),
        (ROWS, {"samples": 3, "temperature": 0.7, "seed": 1}, 1),
        (ROWS, {"copy_guard": True}, 2),
        (ROWS, {"reward": "pointwise"}, 1),
        (GROUPS, {}, 1),
        (GROUPS, {"reward": "pairwise"}, 1),
        (GROUPS, {"reward": "pairwise", "tournament": "knockout"}, 2),
        (GROUPS, {"reward": "listwise", "orders": 2}, 1),
        (GROUPS, {"reward": "0.5*flip + 0.5*pointwise"}, 1),
    ],
)
def test_a_run_by_batches_records_what_a_live_run_does_and_asks_each_request_once(
    rows: Sequence[Mapping[str, object]], settings: dict[str, Any], rounds: int, tmp_path: Path
) -> None:
    run = BatchRun(tmp_path, rows, **settings)
    with BatchServer(most_choices=8) as server:
        assert run.finish(server) <= rounds
        assert set(server.custom_ids.values()) == {1}
    assert run.records == run.live()
    assert run.lines == len(run.records)


@pytest.mark.parametrize("fault", sorted(BatchFault))
def test_whatever_goes_wrong_with_a_batch_the_rest_is_asked_and_nothing_twice(
    fault: BatchFault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key of this test")
    hangs = fault in {BatchFault.SILENT, BatchFault.SLOW_FILE}
    run = BatchRun(tmp_path, timeout_seconds=1.0 if hangs else 60.0)
    with BatchServer(choose_batch={1: fault}) as server:
        run.finish(server)
        asked_twice = sum(number > 1 for number in server.requests.values())
    assert run.records == run.live()
    assert run.lines == len(ROWS)
    lost = {BatchFault.LOST_FILE: len(ROWS) - 1, BatchFault.DAMAGED_LINES: 2}  # one was asked live
    assert asked_twice == lost.get(fault, 0)


def test_failures_are_asked_again_and_refusals_are_not(tmp_path: Path) -> None:
    def choose(prompt: str, number: int) -> Fault | None:
        if "word3" in prompt:
            return Fault.REFUSED
        if "word4" in prompt:
            return Fault.CONTEXT_TOO_LONG
        return Fault.SERVER_ERROR if number == 1 and "word1" in prompt else None

    run = BatchRun(tmp_path)
    with BatchServer(choose) as server:
        assert run.finish(server) == 2
    outcomes = {record.row: record.score.outcome for record in run.records}
    assert outcomes.pop(3) is Outcome.REQUEST_REFUSED
    assert outcomes.pop(4) is Outcome.CONTEXT_TOO_LONG
    assert set(outcomes.values()) == {Outcome.SCORED}
    assert {number for prompt, number in server.requests.items() if "word3" in prompt or "word4" in prompt} == {1}


def test_what_was_refused_is_asked_again_where_that_is_wanted(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer(lambda prompt, number: Fault.REFUSED if "word3" in prompt and number == 1 else None) as server:
        run.finish(server)
        run.retry_refused = True
        run.submit(server)
        run.wait(server)
        assert server.requests.total() == len(ROWS) + 1
    assert {record.score.outcome for record in run.records} == {Outcome.SCORED}


def test_where_nothing_was_ever_answered_a_refusal_settles_nothing(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer(lambda *_: Fault.REFUSED) as server:
        run.submit(server)
        progress = run.wait(server)
    assert progress.missing == progress.failures == len(ROWS)
    assert "REFUSED" in str(progress.failure)
    assert progress.summary is not None
    assert progress.summary.responses == 0


def test_the_form_that_a_model_takes_is_found_out_before_the_batch(tmp_path: Path) -> None:
    def refuse(body: dict[str, Any]) -> str | None:
        if "max_tokens" in body:
            return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return "Unsupported value: 'temperature' does not support 0." if "temperature" in body else None

    run = BatchRun(tmp_path)
    with BatchServer(refuse=refuse) as server:
        assert run.finish(server) == 1
        assert set(server.custom_ids.values()) == {1}
        assert server.batches_made == 1
    assert {record.score.outcome for record in run.records} == {Outcome.SCORED}


def test_equal_rows_share_no_sample_and_share_what_is_repeatable(tmp_path: Path) -> None:
    rows = [ROWS[0]] * 6
    drawn, greedy = BatchRun(tmp_path, rows, temperature=0.9), BatchRun(tmp_path, rows)
    with BatchServer() as server:
        drawn.finish(server)
        assert len(server.custom_ids) == len(rows) - 1
    shutil.rmtree(tmp_path / "run")
    with BatchServer() as server:
        greedy.finish(server)
        assert server.requests.total() == 1
    assert len(greedy.records) == len(rows)


@pytest.mark.parametrize("method", ["upload", "create", "get", "download"])
@pytest.mark.parametrize("after", [False, True])
def test_a_step_that_is_killed_is_taken_again_without_asking_twice(method: str, after: bool, tmp_path: Path) -> None:
    class Killed(BatchClient):
        """Is killed before or after its call."""

    async def call(self: BatchClient, *arguments: Any) -> Any:
        if after:
            await getattr(BatchClient, method)(self, *arguments)
        raise KilledError

    setattr(Killed, method, call)
    run, killed = BatchRun(tmp_path), 0
    with BatchServer(looks=0) as server:
        for step in (run.submit, run.collect):
            try:
                step(server, Killed)
            except KilledError:
                killed += 1
                step(server)
        run.finish(server)
        assert set(server.custom_ids.values()) == {1}
    assert killed == 1
    assert run.lines == len(ROWS)
    assert run.records == run.live()


@pytest.mark.parametrize("limits", [{"most_requests": 8}, {"most_bytes": 8_000}])
def test_requests_are_split_into_batches_that_the_server_takes(limits: dict[str, int], tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    run.limits = limits
    with BatchServer(most_requests=8) as server:
        run.submit(server)
        progress = run.wait(server)
    assert len(progress.batches) > 2
    assert sum(batch.requests for batch in progress.batches) == len(ROWS) - 1
    sizes = [file.stat().st_size for file in sorted((tmp_path / "run/batch").glob("requests-*.jsonl"))]
    assert [batch.bytes for batch in progress.batches] == sizes
    assert max(sizes) <= limits.get("most_bytes", max(sizes))
    assert run.lines == len(ROWS)


def test_a_run_goes_on_live_and_by_batches(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer(choose_batch={1: BatchFault.EXPIRED}) as server:
        run.submit(server)
        run.wait(server)
        opened = run.open(server, "run")
        with closing(opened.folder):
            asyncio.run(opened.run())
        assert server.requests.total() == len(ROWS)
    assert run.lines == len(ROWS)
    assert run.records == run.live()


def test_batches_of_another_account_are_kept_and_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BatchRun(tmp_path)
    with BatchServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "one")
        run.submit(server)
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        for step in (run.submit, run.collect):
            with pytest.raises(RunError, match="another account"):
                step(server)
        assert server.batches_made == 1
        monkeypatch.setenv("OPENAI_API_KEY", "one")
        run.wait(server)
    assert run.lines == len(ROWS)


def test_a_wrong_key_and_a_server_without_batches_are_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BatchRun(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with BatchServer(api_key="right") as server, pytest.raises(EngineUnavailableError, match="key"):
        run.submit(server)
    with FaultServer() as live_only, pytest.raises(EngineUnavailableError, match="no batches endpoint") as told:
        run.submit(live_only)
    assert "export" in str(told.value.hint)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_the_routes_is_said_whatever_it_answers(status: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"detail": "Not here"}, status=status)

    class Other(FaultServer):
        """Answers single requests only."""

        def add_routes(self, router: web.UrlDispatcher) -> None:
            super().add_routes(router)
            router.add_route("*", "/v1/batches", refuse)

    async def create() -> None:
        engine = HttpEngine(server.base_url, server.model)
        try:
            await BatchClient(engine.server, QUICK).create("file-1", {})
        finally:
            await engine.aclose()

    with Other() as server, pytest.raises(EngineUnavailableError, match="no batches endpoint") as told:
        asyncio.run(create())
    assert "export" in str(told.value.hint)


def test_a_batch_with_odd_fields_is_kept_so_that_it_can_be_read_again(tmp_path: Path) -> None:
    class Odd(BatchServer):
        """Names states and times as other providers do."""

        async def _look(self, http_request: web.Request, owner: str) -> web.Response:
            answered = await super()._look(http_request, owner)
            fields = json.loads(answered.body)  # type: ignore[arg-type]
            state = fields["status"].replace("cancelled", "canceled").upper()
            odd = {"expires_at": "2026-12-01T00:00:00Z", "metadata": "none", "request_counts": None, "status": state}
            return web.json_response({**fields, **odd})

    run = BatchRun(tmp_path)
    with Odd(choose_batch={1: BatchFault.CANCELLED}) as server:
        assert run.finish(server) == 2
    assert run.lines == len(ROWS)


def test_a_request_that_no_batch_takes_is_an_outcome_and_holds_up_no_other(tmp_path: Path) -> None:
    long = {"instruction": "say word", "response": "this is word" + " very" * 5_000}
    run = BatchRun(tmp_path, [*ROWS, long])
    run.limits = {"most_bytes": 8_000}
    with BatchServer() as server:
        run.submit(server)
        run.wait(server)
    outcomes = [record.score.outcome for record in run.records]
    assert outcomes == [Outcome.SCORED] * len(ROWS) + [Outcome.CONTEXT_TOO_LONG]
    assert "8" in str(run.records[-1].score.detail)


def test_the_state_of_batches_is_known_without_the_rows(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer(looks=3) as server:
        run.submit(server)
        run.source.unlink()

        async def look() -> Progress:
            config = RewardConfig(model=server.model, base_url=server.base_url, **run.settings)
            with closing(BatchStore(tmp_path / "run")) as store:
                return await status(store, BatchClient(find_engine(config.load()).server, QUICK))

        states = [asyncio.run(look()).batches[0].state for _ in range(4)]
    assert states == ["in_progress", "in_progress", "finalizing", "completed"]


def test_waiting_ends_when_it_is_stopped_and_loses_nothing(tmp_path: Path) -> None:
    run, stop = BatchRun(tmp_path), StopSignal()
    with BatchServer(looks=1_000) as server:
        run.submit(server)
        opened = run.open(server, "run")

        async def wait() -> Progress:
            asyncio.get_running_loop().call_later(0.2, lambda: setattr(stop, "requested", True))
            client = BatchClient(find_engine(opened.job.reward).server, QUICK)
            return await collect(opened, store, client, wait=True, stop=stop)

        with closing(opened.folder), closing(BatchStore(opened.folder.path)) as store:
            progress = asyncio.run(wait())
    assert progress.summary is None
    assert [batch.collected for batch in progress.batches] == [False]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reward": "longest"}, "asks no model"),
        ({"model": "scripted", "cache": "off"}, "runs in this process"),
        ({"reward": "flip[model=a] + pointwise[model=b]", "base_url": "http://127.0.0.1:9/v1"}, "a and b"),
    ],
)
def test_rewards_that_no_batch_answers_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        find_engine(RewardConfig(**settings).load())


@pytest.mark.parametrize("reward", ["backward-likelihood", "trained"])
def test_what_is_no_completion_is_told_in_one_line(reward: str, tmp_path: Path) -> None:
    run = BatchRun(tmp_path, reward=reward)
    with BatchServer() as server, pytest.raises(EngineError, match="batch"):
        run.submit(server)


def test_removing_a_run_removes_its_batches(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer() as server:
        run.submit(server)
    assert remove_run(tmp_path / "run") == []
    assert not (tmp_path / "run").exists()


def test_a_damaged_note_of_the_batches_is_one_line(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer() as server:
        run.submit(server)
        note = tmp_path / "run/batch/batches.json"
        note.write_bytes(note.read_bytes()[:-20])
        with pytest.raises(FlipRewardError, match=r"batches\.json"):
            run.collect(server)


def test_replies_are_taken_once_however_often_they_are_given(tmp_path: Path) -> None:
    run = BatchRun(tmp_path)
    with BatchServer() as server:
        run.submit(server)
        replies = tmp_path / "replies.jsonl"
        server.run_batch(tmp_path / "run/batch/requests-0001.jsonl", replies, until=5)
        with closing(BatchStore(tmp_path / "run")) as store:
            assert store.take(replies) == Taken(replies=5, unfinished=True)
            assert store.take(replies) == Taken(known=5, unfinished=True)
            replies.write_text('{"custom_id": "somebody\'s", "response": null}\n{"custom_id":\n')
            assert store.take(replies) == Taken(unknown=1, damaged=1)
