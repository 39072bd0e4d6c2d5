"""The best of N on the command line: ties, rows without a choice, candidates drawn first, kills and mistakes."""

import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flip_reward.engines.base import Completion, Request
from tests.e2e.command import read, run, start, write_rows
from tests.http.fault_server import Fault, FaultServer

SCRIPTED = ("--model", "scripted", "--cache", "off")
WORDS = "say hello to me and to my cat"
TIED: list[dict[str, object]] = [
    {"id": f"t{number}", "prompt": WORDS, "responses": [WORDS.replace(" ", "  "), WORDS, "no", ""]}
    for number in range(12)
]
"""The first two responses have the same words, so they tie; the last one is unscored."""
MIXED: list[dict[str, object]] = [
    {"id": "best", "prompt": "say hello to me", "responses": ["bye", "say hello to me [bold]"]},
    {"id": "none", "prompt": "say hello to me", "responses": ["", "<think>hello"]},
    {"id": "one", "prompt": "say hello to me", "response": "hello"},
    {"id": "best", "prompt": "say it twice", "responses": ["a", "b"]},
    {"id": "bad", "prompt": "say it", "responses": []},
]


def best(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chosen(path: Path) -> list[int | None]:
    return [row["chosen"] for row in best(path)]


def test_every_tie_rule(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", TIED)
    command = ("best-of-n", "rows.jsonl", *SCRIPTED, "--run-folder", "run")
    first = run(tmp_path, *command)
    assert first.returncode == 0, first.stderr
    assert "12 of 12 rows decided (12 ties by the rule first)" in first.stdout
    assert "first of 2 tied" in first.stdout
    assert "3/4" in first.stdout
    assert chosen(tmp_path / "run/best.jsonl") == [0] * 12
    row = best(tmp_path / "run/best.jsonl")[0]
    assert row["messages"] == [{"role": "user", "content": WORDS}]
    assert (row["response"], row["tied"], row["tie_rule"], row["unscored"]) == (
        WORDS.replace(" ", "  "),
        [0, 1],
        "first",
        1,
    )
    assert [candidate["outcome"] for candidate in row["candidates"]] == [*["scored"] * 3, "empty_response"]
    assert row["reward"] == row["candidates"][0]["reward"] == max(c["reward"] or 0 for c in row["candidates"])

    shortest = run(tmp_path, *command, "--tie-rule", "shortest")
    assert "48 taken from an earlier session" in shortest.stdout, "another rule asks nothing again"
    assert chosen(tmp_path / "run/best.jsonl") == [1] * 12

    run(tmp_path, *command, "--tie-rule", "random")
    drawn = chosen(tmp_path / "run/best.jsonl")
    assert set(drawn) == {0, 1}
    write_rows(tmp_path / "turned.jsonl", TIED[::-1])
    run(tmp_path, "best-of-n", "turned.jsonl", *SCRIPTED, "--run-folder", "turned", "--tie-rule", "random")
    assert chosen(tmp_path / "turned/best.jsonl") == drawn[::-1], "the lot belongs to the row, not to its place"
    run(tmp_path, *command, "--tie-rule", "random", "--tie-seed", "1")
    assert chosen(tmp_path / "run/best.jsonl") != drawn


def test_rows_without_a_choice_are_listed(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", MIXED)
    finished = run(tmp_path, "best-of-n", "rows.jsonl", *SCRIPTED, "--run-folder", "run")
    assert finished.returncode == 3
    assert "3 of 4 rows decided" in finished.stdout
    assert "1 with a single response, chosen as it is" in finished.stdout
    assert "Undecided rows: run/undecided.jsonl" in finished.stdout
    assert "1 row rejected" in finished.stdout
    assert "'id' of an earlier row in 1 row" in finished.stderr
    assert "[bold]" in finished.stdout
    assert chosen(tmp_path / "run/best.jsonl") == [1, None, 0, 1]
    assert best(tmp_path / "run/best.jsonl")[3]["id"] == "best-row-3"
    [row] = best(tmp_path / "run/undecided.jsonl")
    assert (row["id"], row["response"]) == ("none", None)
    assert row["reason"] == "no response was scored: 1 empty_response, 1 unfinished_thinking"
    assert [candidate["outcome"] for candidate in row["candidates"]] == ["empty_response", "unfinished_thinking"]
    write_rows(tmp_path / "good.jsonl", MIXED[:1])
    assert run(tmp_path, "best-of-n", "good.jsonl", *SCRIPTED, "--run-folder", "run2").returncode == 0
    (tmp_path / "run2/undecided.jsonl").write_text("{}\n")
    assert run(tmp_path, "best-of-n", "good.jsonl", *SCRIPTED, "--run-folder", "run2").returncode == 0
    assert not (tmp_path / "run2/undecided.jsonl").exists()


SPREADSHEET = (
    "ticket,question,answer\n7,say hello to me,bye\n8,say hello to me,say\n7,say hello to me,say hello to me\n"
)
NAMED = ("--columns", "instruction=question,response=answer")


@pytest.mark.parametrize(
    ("options", "said", "choices"),
    [
        ((), "same instruction", ["say hello to me"]),
        (("--group-by", "ticket"), "same 'ticket'", ["say hello to me", "say"]),
        (
            ("--columns", "instruction=question,response=answer,id=ticket"),
            "same 'ticket'",
            ["say hello to me", "say"],
        ),
    ],
)
def test_a_spreadsheet_with_a_row_for_each_response(
    tmp_path: Path, options: tuple[str, ...], said: str, choices: list[str]
) -> None:
    (tmp_path / "rows.csv").write_text(SPREADSHEET)
    for _ in range(2):
        finished = run(tmp_path, "best-of-n", "rows.csv", *SCRIPTED, *NAMED, *options, "--run-folder", "run")
        assert finished.returncode == 0, finished.stderr
        assert said in finished.stderr
        assert [row["response"] for row in best(tmp_path / "run/best.jsonl")] == choices
    assert "3 taken from an earlier session" in finished.stdout


def test_nothing_to_choose_from_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,response\nsay a,a\nsay b,b\nsay a,c\n")
    finished = run(tmp_path, "best-of-n", "rows.csv", *SCRIPTED, "--run-folder", "run")
    assert finished.returncode == 2
    assert "--group-by" in finished.stderr
    assert not (tmp_path / "run").exists()
    assert run(tmp_path, "best-of-n", "rows.csv", *SCRIPTED, "--group-by", "prompt").returncode == 0
    unknown = run(tmp_path, "score", "rows.csv", *SCRIPTED, "--group-by", "promt")
    assert (unknown.returncode, "'promt'" in unknown.stderr) == (2, True)


def test_outputs_json_and_standard_input(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", TIED[:3]).read_text()
    for name in ("out.jsonl", "out.parquet"):
        run(tmp_path, "best-of-n", "rows.jsonl", *SCRIPTED, "-o", name, "--only-scores")
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == best(tmp_path / "out.jsonl")
    finished = run(tmp_path, "best-of-n", "-", *SCRIPTED, "--json", stdin=rows)
    summary = json.loads(finished.stdout)
    assert (summary["rows"], summary["decided"], summary["tied"], summary["undecided"]) == (3, 3, 3, 0)
    assert best(tmp_path / summary["output"]) == best(tmp_path / "out.jsonl")
    again = json.loads(run(tmp_path, "best-of-n", "-", *SCRIPTED, "--json", stdin=rows).stdout)
    assert (again["run_folder"], again["resumed_responses"]) == (summary["run_folder"], 12)


def test_a_listwise_judge_chooses(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", TIED[:1])
    with FaultServer(script=lambda _: '{"BEST_RESPONSE_INDEX": 1}') as server:
        model = ("--base-url", server.base_url, "--model", server.model)
        finished = run(tmp_path, "best-of-n", "rows.jsonl", "--reward", "listwise", *model, "--run-folder", "run")
    assert finished.returncode == 0, finished.stderr
    [row] = best(tmp_path / "run/best.jsonl")
    assert row["reward"] == 1.0
    assert row["tied"] == []


class CountingPolicy:
    """Answers the same prompt differently each time, once with a text that is cut off, and says what it gave."""

    def __init__(self) -> None:
        self.given: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Completion:
        prompt = request.messages[-1].content
        with self._lock:
            self.given[prompt] += 1
            number = self.given[prompt]
        return Completion(f"{prompt} answer {number}", "length" if number == 1 else "stop")


def generate(server: FaultServer, *, count: int = 3) -> tuple[str, ...]:
    policy = ("--policy-model", server.model, "--policy-base-url", server.base_url)
    return ("best-of-n", "rows.jsonl", *SCRIPTED, "--generate", str(count), *policy, "--run-folder", "run")


def test_candidates_are_drawn_first(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "rows.jsonl",
        [{"id": "a", "prompt": "say hello", "response": ""}, {"messages": [{"role": "user", "content": "say bye"}]}],
    )
    policy = CountingPolicy()
    with FaultServer(script=policy) as server:
        finished = run(tmp_path, *generate(server), "--policy-seed", "40", "--policy-temperature", "0.7")
        assert finished.returncode == 0, finished.stderr
        assert policy.given == {"say hello": 3, "say bye": 3}
        bodies = [received.body for received in server.received]
        assert sorted(body["seed"] for body in bodies) == [40, 40, 41, 41, 42, 42]
        assert {body["temperature"] for body in bodies} == {0.7}
        rerun = run(tmp_path, *generate(server), "--policy-seed", "40", "--policy-temperature", "0.7")
        assert server.requests.total() == 6
        other = run(tmp_path, *generate(server), "--policy-seed", "41", "--policy-temperature", "0.7")
        assert f"policy: model: {server.model} at {server.base_url}\n" in finished.stderr
    assert "Generated: 6 responses (2 truncated)" in finished.stderr
    assert "Generated: 0 responses; 6 taken from an earlier session" in rerun.stderr
    assert other.returncode == 2
    assert "policy_seed" in other.stderr
    rows = best(tmp_path / "run/best.jsonl")
    assert [row["id"] for row in rows] == ["a", "row-1"]
    assert {len(row["candidates"]) for row in rows} == {3}
    assert [candidate["seed"] for candidate in rows[0]["candidates"]] == [40, 41, 42]
    assert sum(candidate["truncated"] for candidate in rows[0]["candidates"]) == 1
    assert rows[0]["response"].startswith("say hello answer")


def test_the_scripted_policy_needs_no_server(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "say hello"}])
    finished = run(tmp_path, "best-of-n", "rows.jsonl", *SCRIPTED, "--generate", "2", "--policy-model", "scripted")
    assert finished.returncode == 0, finished.stderr
    assert "1 of 1 rows decided (1 tie by the rule first)" in finished.stdout


def test_a_candidate_that_could_not_be_drawn_is_an_outcome(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"id": word, "prompt": f"say {word}"} for word in ("hello", "secret")])
    faults = {"say secret": Fault.REFUSED}
    with FaultServer(lambda prompt, _: faults.get(prompt), script=CountingPolicy()) as server:
        finished = run(tmp_path, *generate(server))
        assert finished.returncode == 3
        assert "Generated: 6 responses (3 request_refused, 1 truncated)" in finished.stderr
        assert "; 1 undecided" in finished.stdout
        asked = server.requests.total()
        assert run(tmp_path, *generate(server)).returncode == 3
        assert server.requests.total() == asked, "what was refused would be refused again"
    [secret] = best(tmp_path / "run/undecided.jsonl")
    assert {candidate["outcome"] for candidate in secret["candidates"]} == {"request_refused"}
    assert {candidate["response"] for candidate in secret["candidates"]} == {None}
    assert secret["candidates"][0]["detail"].startswith("not generated: ")
    outcomes = Counter(record.score.outcome.value for record in read(tmp_path / "run"))
    assert outcomes == {"scored": 3, "request_refused": 3}


def test_killed_while_drawing_it_goes_on_without_asking_again(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": f"say word{number}"} for number in range(60)])
    with FaultServer(script=CountingPolicy(), latency_seconds=0.1) as server:
        command = [*generate(server, count=2), "--concurrency", "6", "--no-table"]
        for kills in range(1, 4):
            process = start(tmp_path, *command)
            wait_for_candidates(tmp_path / "run", 12 * kills)
            process.kill()
            process.communicate()
            assert process.returncode == -9, "the run ended before it could be killed"
        content = (tmp_path / "run/candidates.jsonl").read_bytes()
        kept = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
        server.received.clear()
        finished = run(tmp_path, *command)
        assert finished.returncode == 0, finished.stderr
        asked = {(received.body["messages"][-1]["content"], received.body["seed"]) for received in server.received}
    assert len(kept) >= 36
    assert not asked & {(f"say word{line['row']}", line["seed"]) for line in kept}
    assert len(asked) == 120 - len(kept)
    assert f"{len(kept)} taken from an earlier session" in finished.stderr
    lines = (tmp_path / "run/candidates.jsonl").read_text().splitlines()
    assert len({(line["row"], line["index"]) for line in map(json.loads, lines)}) == len(lines) == 120
    assert len(best(tmp_path / "run/best.jsonl")) == 60


def test_killed_while_scoring_it_goes_on_and_chooses_the_same(tmp_path: Path) -> None:
    rows = [{"prompt": f"say word{n}", "responses": [f"a word{n}", f"say word{n}", "b"]} for n in range(60)]
    write_rows(tmp_path / "rows.jsonl", rows)
    with FaultServer(latency_seconds=0.1) as server:
        model = ["--model", server.model, "--base-url", server.base_url, "--cache", "off", "--concurrency", "6"]
        command = ["best-of-n", "rows.jsonl", *model, "--no-table"]
        process = start(tmp_path, *command, "--run-folder", "run")
        wait_for_candidates(tmp_path / "run", 12, name="records.jsonl")
        process.kill()
        process.communicate()
        assert not (tmp_path / "run/best.jsonl").exists()
        assert run(tmp_path, *command, "--run-folder", "run").returncode == 0
        assert run(tmp_path, *command, "--run-folder", "undisturbed").returncode == 0
    assert best(tmp_path / "run/best.jsonl") == best(tmp_path / "undisturbed/best.jsonl")


def test_interrupted_while_drawing_it_finishes_what_is_in_flight(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": f"say word{number}"} for number in range(200)])
    with FaultServer(script=CountingPolicy(), latency_seconds=0.2) as server:
        command = [*generate(server, count=2), "--concurrency", "4", "--no-table"]
        process = start(tmp_path, *command)
        wait_for_candidates(tmp_path / "run", 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "The same command goes on from here" in errors
        lines = (tmp_path / "run/candidates.jsonl").read_text().splitlines()
        assert len(lines) == server.requests.total(), "an answer was thrown away"
    assert (tmp_path / "run/records.jsonl").read_bytes() == b"", "nothing is scored before everything is drawn"


def wait_for_candidates(folder: Path, lines: int, *, name: str = "candidates.jsonl") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = folder / name
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} does not grow")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["rows.jsonl", "--tie-rule", "longest"], "'longest'"),
        (["rows.jsonl", "--generate", "1", "--policy-model", "scripted"], "generate"),
        (["rows.jsonl", "--generate", "2"], "--policy-model"),
        (["rows.jsonl", "--policy-model", "scripted"], "--generate"),
        (["rows.jsonl", "--policy-seed", "3"], "--generate"),
        (["rows.jsonl", "--generate", "2", "--policy-model", "Qwen"], "--policy-base-url"),
        (
            ["rows.jsonl", "--generate", "2", "--policy-model", "scripted", "--policy-temperature", "0"],
            "--policy-temperature",
        ),
        (
            ["rows.jsonl", "--generate", "2", "--policy-model", "scripted", "--columns", "response=answer"],
            "--columns",
        ),
        (["empty.jsonl"], "empty.jsonl"),
        (["empty.jsonl", "--generate", "2", "--policy-model", "scripted"], "empty.jsonl"),
        (["missing.jsonl"], "missing.jsonl"),
        (["rows.jsonl"], "no column with responses"),
        (["pairs.jsonl", "-o", "out.txt"], ".parquet"),
        (["pairs.jsonl", "-o", "pairs.jsonl"], "pairs.jsonl is an input"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], named: str) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "say hello"}])
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": "say hello", "responses": ["hello", "no"]}])
    write_rows(tmp_path / "empty.jsonl", [])
    finished = run(tmp_path, "best-of-n", *arguments, *SCRIPTED)
    assert finished.returncode == 2
    assert named in finished.stderr
    assert finished.stdout == ""


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "say hello"}])
    with FaultServer() as server:
        command = generate(server)
    gone = run(tmp_path, *command)
    assert gone.returncode == 4
    assert "with --policy-base-url" in gone.stderr


def test_an_option_that_neither_model_has(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "say hello"}])
    with FaultServer() as server:
        reward = ("--model", server.model, "--base-url", server.base_url)
        refused = run(tmp_path, *generate(server), *reward, "--dtype", "float32")
        assert refused.returncode == 2
        assert "'dtype'" in refused.stderr
        assert server.requests.total() == 0
        model = ("--model", "embedded", "--reward", "backward-likelihood")
        taken = run(tmp_path, *generate(server), *model, "--context-tokens", "512")  # the policy has no such option
        assert taken.returncode == 0, taken.stderr


def test_rows_that_hold_responses_are_rejected_when_they_are_generated(tmp_path: Path) -> None:
    answered = [{"role": "user", "content": "say hi"}, {"role": "assistant", "content": "hi"}]
    rows: list[dict[str, object]] = [
        {"prompt": "say a", "response": "a"},
        {"prompt": "say b", "responses": ["b"]},
        {"messages": answered},
        {"id": "x", "prompt": "say c"},
        {"id": "x", "prompt": "say d"},
        {"answer": "e"},
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    command = ("best-of-n", "rows.jsonl", *SCRIPTED, "--generate", "2", "--policy-model", "scripted")
    finished = run(tmp_path, *command, "--run-folder", "run")
    assert finished.returncode == 3
    rejected = {row["line"]: row["reason"] for row in best(tmp_path / "run/rejected_rows.jsonl")}
    assert list(rejected) == [1, 2, 3, 6]
    assert "'response'" in rejected[1]
    assert "assistant" in rejected[3]
    assert {row["group_id"] for row in best(tmp_path / "run/candidates.jsonl")} == {"x", "x-row-4"}
    assert len(best(tmp_path / "run/candidates.jsonl")) == 4, "only for the rows that are scored"
    strict = run(tmp_path, *command, "--run-folder", "strict", "--strict")
    assert strict.returncode == 2
    assert "rows.jsonl, line 1" in strict.stderr
    assert not (tmp_path / "strict").exists()


def test_a_dry_run_shows_what_would_be_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "say hello"}])
    finished = run(
        tmp_path, "best-of-n", "rows.jsonl", *SCRIPTED, "--generate", "2", "--policy-model", "no.gguf", "--dry-run"
    )
    assert finished.returncode == 0, finished.stderr
    assert "line 1, candidate 0: prompt" in finished.stdout
    assert "say hello" in finished.stdout
    assert not (tmp_path / "runs").exists()
    write_rows(tmp_path / "rows.jsonl", TIED[:1])
    assert "response 0: prompt" in run(tmp_path, "best-of-n", "rows.jsonl", *SCRIPTED, "--dry-run").stdout


@pytest.mark.parametrize("more", [["--dry-run"], ["--model", "no.gguf"]])
def test_one_response_to_each_instruction_is_an_error_before_a_model_loads(tmp_path: Path, more: list[str]) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "say it", "response": "it"}])
    finished = run(tmp_path, "best-of-n", "rows.jsonl", *more)
    assert finished.returncode == 2
    assert "nothing to choose from" in finished.stderr
    assert not finished.stdout


def test_an_input_that_changed_meanwhile_is_noticed(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", TIED[:2])
    with FaultServer(latency_seconds=0.5) as server:
        model = ["--model", server.model, "--base-url", server.base_url, "--cache", "off"]
        process = start(tmp_path, "best-of-n", "rows.jsonl", *model, "--run-folder", "run", "--concurrency", "1")
        wait_for_candidates(tmp_path / "run", 1, name="records.jsonl")
        write_rows(tmp_path / "rows.jsonl", [{**row, "responses": ["a"]} for row in TIED[:2]])
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "row 1" in errors
    assert not (tmp_path / "run/best.jsonl").exists()
