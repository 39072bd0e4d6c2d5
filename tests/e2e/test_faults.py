"""With every fault at 20 %, every row ends with the right score or the right outcome."""

from pathlib import Path

import pytest

from flip_reward.core.score import Outcome
from tests.e2e.command import read, run, write_rows
from tests.http.fault_server import TRANSIENT, Fault, FaultServer, by_chance, from_then_on

ROWS = [
    {"id": str(i), "instruction": f"say word{i} please", "response": "here " * (i % 7) + f"is word{i}"}
    for i in range(60)
]

FINAL = {
    Fault.REFUSED: Outcome.REQUEST_REFUSED,
    Fault.UNPROCESSABLE: Outcome.REQUEST_REFUSED,
    Fault.CONTEXT_TOO_LONG: Outcome.CONTEXT_TOO_LONG,
    Fault.NULL_CONTENT: Outcome.EMPTY_REPLY,
}
"""Faults that asking again does not mend."""


def score(folder: Path, server: FaultServer, run_folder: str) -> int:
    write_rows(folder / "rows.jsonl", ROWS)
    finished = run(
        folder, "score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model,
        "--cache", "off", "--timeout-seconds", "1.5", "--run-folder", run_folder, "--no-table",
    )  # fmt: skip
    return finished.returncode


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float | None]:
    folder = tmp_path_factory.mktemp("expected")
    with FaultServer() as server:
        assert score(folder, server, "run") == 0
    scores = {record.id: record.score.value for record in read(folder / "run")}
    assert None not in scores.values()
    assert len(set(scores.values())) > 1, "scores that are all alike show nothing"
    return scores


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_passes_changes_no_score(
    fault: Fault, tmp_path: Path, expected: dict[str, float | None]
) -> None:
    with FaultServer(by_chance({fault: 0.2}, seed=5)) as server:
        assert score(tmp_path, server, "run") == 0
        assert server.injected[fault] > 0
    assert {record.id: record.score.value for record in read(tmp_path / "run")} == expected


@pytest.mark.parametrize("fault", FINAL)
def test_a_fault_that_stays_is_an_outcome_and_never_a_reward(
    fault: Fault, tmp_path: Path, expected: dict[str, float | None]
) -> None:
    with FaultServer(by_chance({fault: 0.2}, seed=5)) as server:
        status = score(tmp_path, server, "run")
        assert server.injected[fault] > 0
    records = read(tmp_path / "run")
    outcomes = {record.score.outcome for record in records}
    assert outcomes == {Outcome.SCORED, FINAL[fault]}
    assert status == 0
    for record in records:
        assert record.score.value in (None, expected[record.id])
        assert (record.score.value is None) == (record.score.outcome is FINAL[fault])


def test_all_faults_together_and_a_resume(tmp_path: Path, expected: dict[str, float | None]) -> None:
    with FaultServer(by_chance(dict.fromkeys(TRANSIENT, 0.03), seed=11)) as server:
        assert score(tmp_path, server, "run") in (0, 3)
        assert len(server.injected) > 5
    with FaultServer() as server:  # the same model at another address: whatever is left is asked there
        assert score(tmp_path, server, "run") == 0
    assert {record.id: record.score.value for record in read(tmp_path / "run")} == expected


LATER = [{"id": str(i), "instruction": f"say word{i} please"} for i in range(20)]


def best_of(folder: Path, policy: FaultServer, server: FaultServer, *more: str) -> int:
    write_rows(folder / "prompts.jsonl", LATER)
    return run(
        folder, "best-of-n", "prompts.jsonl", "--base-url", server.base_url, "-m", server.model, "--generate", "3",
        "--policy-base-url", policy.base_url, "--policy-model", "mine", "--cache", "off",
        "--run-folder", "run", *more,
    ).returncode  # fmt: skip


def test_a_policy_that_is_lost_costs_no_candidate_and_is_not_mixed_with_another(tmp_path: Path) -> None:
    def lost(fault: Fault) -> FaultServer:
        return FaultServer(from_then_on(fault, after=25), takes_any_name=True)

    with FaultServer() as server:
        with FaultServer(api_key="not yours", takes_any_name=True) as wrong_key:
            assert best_of(tmp_path, wrong_key, server) == 4
        with lost(Fault.REFUSED) as policy:
            assert best_of(tmp_path, policy, server) == 4
        assert len((tmp_path / "run" / "candidates.jsonl").read_bytes().splitlines()) == 25
        with FaultServer(takes_any_name=True) as elsewhere:
            assert best_of(tmp_path, elsewhere, server) == 2
            assert not elsewhere.requests
            assert best_of(tmp_path, elsewhere, server, "--same-model") == 0
            assert elsewhere.requests.total() == 3 * len(LATER) - 25
    assert len(read(tmp_path / "run")) == 3 * len(LATER)


def test_an_evaluation_goes_on_after_its_quota_is_renewed(tmp_path: Path) -> None:
    pairs = [{"prompt": f"say word{i}", "chosen": f"is word{i}", "rejected": f"no word {i}"} for i in range(20)]
    write_rows(tmp_path / "pairs.jsonl", pairs)

    def evaluate(server: FaultServer, *more: str) -> int:
        return run(
            tmp_path, "evaluate", "-b", "pairs.jsonl", "-r", "flip", "-m", server.model,
            "--base-url", server.base_url, "--cache", "off", "--run-folder", "grid", *more,
        ).returncode  # fmt: skip

    with FaultServer(from_then_on(Fault.QUOTA, after=15)) as server:
        assert evaluate(server) == 4
    with FaultServer(lambda prompt, _number: Fault.REFUSED if "word19" in prompt else None) as server:
        assert evaluate(server) == 0
    with FaultServer() as server:
        assert evaluate(server, "--retry-refused") == 0
        assert 1 <= server.requests.total() <= 2


def test_the_command_stops_with_the_words_of_the_server_and_goes_on(
    tmp_path: Path, expected: dict[str, float | None]
) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with FaultServer(from_then_on(Fault.DAILY_LIMIT, after=30)) as server:
        stopped = run(
            tmp_path, "score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model, "--cache", "off",
            "--run-folder", "run",
        )  # fmt: skip
    assert stopped.returncode == 4
    assert "requests per day" in stopped.stderr
    assert "Run folder: run" in stopped.stderr
    with FaultServer() as server:
        assert score(tmp_path, server, "run") == 0
        assert server.requests.total() == 30
    assert {record.id: record.score.value for record in read(tmp_path / "run")} == expected
