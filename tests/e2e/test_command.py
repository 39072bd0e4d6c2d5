"""What the command prints and writes when all is well."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from flip_reward import __version__
from flip_reward.scoring.run_folder import read_records_in_input_order
from tests.e2e.command import read, run, run_process, start, write_rows
from tests.http.fault_server import FaultServer

EXAMPLES = Path(__file__).parents[2] / "examples/responses.jsonl"
SCRIPTED = ("--model", "scripted", "--cache", "off")


def test_help_and_version(tmp_path: Path) -> None:
    overview = run(tmp_path, "--help").stdout
    for word in ("score", "best-of-n", "rescore", "cache", "Exit status"):
        assert word in overview
    for command in (["score"], ["rescore"], ["evaluate"], ["compare"], ["report"], ["cache", "info"]):
        assert run(tmp_path, *command, "--help").returncode == 0
    for command in (["score"], ["best-of-n"]):
        assert "Examples:" in run(tmp_path, *command, "--help").stdout
    assert run_process(tmp_path, "--version").stdout == f"flip-reward {__version__}\n"


OF_SCORE_ALONE = {"--shard", "--batch", "--wait", "--ray", "--ray-workers"}
"""How rows are divided and asked, where there is nothing to choose."""


def test_best_of_n_has_every_option_of_score(tmp_path: Path) -> None:
    of_score = options_of(tmp_path, "score")
    assert {"--reward", "--run-folder"} <= of_score
    assert of_score - OF_SCORE_ALONE <= options_of(tmp_path, "best-of-n")


def options_of(folder: Path, command: str) -> set[str]:
    text = run(folder, command, "--help-all").stdout
    return {word.strip(",.;:") for word in text.split() if word.startswith("--")}


def test_the_examples_are_scored_and_resumed(tmp_path: Path) -> None:
    first = run(tmp_path, "score", str(EXAMPLES), *SCRIPTED)
    assert first.returncode == 0
    assert "Name three fruits" in first.stdout
    assert "34 of 36 responses scored (2 empty_response)" in first.stdout
    assert "Run folder: runs/responses-" in first.stdout
    second = run(tmp_path, "score", str(EXAMPLES), *SCRIPTED)
    assert "36 taken from an earlier session" in second.stdout


def test_json_is_the_only_thing_on_standard_output(tmp_path: Path) -> None:
    finished = run_process(tmp_path, "score", str(EXAMPLES), *SCRIPTED, "--json", "--price-prompt", "2")
    summary = json.loads(finished.stdout)
    assert summary["outcomes"] == {"scored": 34, "empty_response": 2}
    assert summary["cost"] == pytest.approx(summary["prompt_tokens"] * 2e-6)
    assert (tmp_path / summary["run_folder"] / "records.jsonl").exists()


def test_the_output_holds_the_rows_with_their_scores(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in EXAMPLES.read_text().splitlines()]
    for name in ("out.jsonl", "out.parquet"):
        command = ("score", str(EXAMPLES), *SCRIPTED, "-o", name, "--run-folder", name + "-run")
        assert run(tmp_path, *command).returncode == 0
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in given} for given, row in zip(rows, written, strict=True)] == rows
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["reward"] for row in table] == [row["reward"] for row in written]
    records = read_records_in_input_order(tmp_path / "out.jsonl-run")
    rewards = [row["reward"] if isinstance(row["reward"], list) else [row["reward"]] for row in written]
    assert [*chain.from_iterable(rewards)] == [record.score.value for record in records]


def test_only_scores_are_the_records_in_input_order(tmp_path: Path) -> None:
    output = ("-o", "out.jsonl", "--only-scores")
    assert run(tmp_path, "score", str(EXAMPLES), *SCRIPTED, *output, "--run-folder", "run").returncode == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [record.id for record in read_records_in_input_order(tmp_path / "run")]


def test_rows_on_standard_output_are_alone_there(tmp_path: Path) -> None:
    given = '{"prompt": "Name a fruit.", "response": "A pear.", "reward": "much"}\n'
    finished = run_process(tmp_path, "score", "-", *SCRIPTED, "-o", "-", stdin=given)
    row = json.loads(finished.stdout)
    assert (row["reward"], row["outcome"], type(row["flip_reward"])) == ("much", "scored", float)
    assert "reward is flip_reward" in finished.stderr
    rescored = run_process(tmp_path, "rescore", str(next((tmp_path / "runs").iterdir())), "-o", "again.csv")
    assert (rescored.returncode, "not kept" in rescored.stderr) == (2, True)


def test_a_rescored_run_writes_the_rows_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,response,who\nName a fruit.,A pear.,=anna\n")
    assert run(tmp_path, "score", "rows.csv", *SCRIPTED, "--run-folder", "run").returncode == 0
    assert run(tmp_path, "rescore", "run", "--similarity", "rouge-l", "-o", "out.csv").returncode == 0
    [row] = csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8-sig").splitlines())
    [record] = read_records_in_input_order(tmp_path / "run/rescored/rouge-l")
    assert (row["prompt"], row["who"], row["reward"]) == ("Name a fruit.", "'=anna", str(record.score.value))


def test_another_value_of_the_same_likelihoods(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,response\nName a fruit.,A pear is a fruit.\n")
    scored = ("score", "rows.csv", *SCRIPTED, "-r", "backward-likelihood", "--likelihood-value")
    assert run(tmp_path, *scored, "surprisal", "--run-folder", "run").returncode == 0
    assert run(tmp_path, *scored, "sum", "--run-folder", "sum").returncode == 0
    assert run(tmp_path, "rescore", "run", "--likelihood-value", "sum").returncode == 0
    [there], [here] = map(read_records_in_input_order, (tmp_path / "sum", tmp_path / "run/rescored/sum"))
    assert (here.score.value, here.score.likelihood is not None) == (there.score.value, True)
    refused = run(tmp_path, "rescore", "sum", "--likelihood-value", "surprisal")
    assert (refused.returncode, "--likelihood-value surprisal" in refused.stderr) == (2, True)
    refused = run(tmp_path, "rescore", "sum", "--similarity", "f1-idf")
    assert (refused.returncode, "'similarity'" in refused.stderr) == (2, True)


def test_standard_input(tmp_path: Path) -> None:
    finished = run_process(
        tmp_path, "score", "-", *SCRIPTED, stdin='{"prompt": "Name a fruit.", "response": "A pear."}\n'
    )
    assert "1 of 1 responses scored" in finished.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_dry_run_shows_the_prompts_and_calls_nothing(tmp_path: Path) -> None:
    finished = run(
        tmp_path, "score", str(EXAMPLES), "--dry-run", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"
    )
    assert finished.returncode == 0
    assert "[system]" in finished.stdout
    assert "Plants make their own food" in finished.stdout
    assert not (tmp_path / "runs").exists()


def test_dry_run_shows_rows_that_would_be_rejected_and_no_control_characters(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hi"}]
    rows: list[dict[str, object]] = [
        {"messages": messages, "responses": ["", "\x1b[2Ja"]},
        {"prompt": "no system message", "response": "x"},
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    finished = run(tmp_path, "score", "rows.jsonl", "--dry-run", "--target", "system")
    assert finished.returncode == 0
    assert "response 0: nothing to ask" in finished.stdout
    assert "response 1: prompt" in finished.stdout
    assert "line 2: rejected" in finished.stdout
    assert "\x1b[2J" not in finished.stdout


def test_a_dry_run_in_which_every_row_is_rejected_has_failed(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": None, "responses": ["hello", str(n)]} for n in range(9)])
    for command in ("score", "best-of-n"):
        finished = run(tmp_path, command, "rows.jsonl", "--dry-run")
        assert finished.returncode == 3
        assert finished.stdout.count("rejected") == 3
        assert "every row is rejected" in finished.stderr
    good: dict[str, object] = {"instruction": "say hello", "responses": ["hello", "hi"]}
    write_rows(tmp_path / "late.jsonl", [*[{**good, "instruction": None}] * 9, good])
    assert run(tmp_path, "score", "late.jsonl", "--dry-run").returncode == 0


def test_the_table_shows_ids_and_responses_also_of_an_earlier_session(tmp_path: Path) -> None:
    rows = '{"id": "greet", "prompt": "Say hi.", "response": "Hello there."}\n'
    for _ in range(2):
        shown = run(tmp_path, "score", "-", *SCRIPTED, "--run-folder", "run", stdin=rows).stdout
        assert "greet" in shown
        assert "Hello there." in shown
    write_rows(tmp_path / "bad.jsonl", [{"prompt": None, "response": "Hi."}])
    nothing = run(tmp_path, "score", "bad.jsonl", *SCRIPTED, "--table")
    assert nothing.stdout.startswith("Nothing was scored: 1 row rejected\n")
    assert nothing.returncode == 3


def test_the_package_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flip_reward", "--version"]
    assert (
        subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout
        == f"flip-reward {__version__}\n".encode()
    )


def test_rescore_needs_no_model(tmp_path: Path) -> None:
    run(tmp_path, "score", str(EXAMPLES), *SCRIPTED, "--run-folder", "run")
    before = read(tmp_path / "run")
    finished = run(tmp_path, "rescore", "run", "--similarity", "rouge-l")
    assert finished.returncode == 0, finished.stderr
    after = read(tmp_path / "run/rescored/rouge-l")
    assert [record.id for record in after] == [record.id for record in before]
    assert [record.score.inferred_instruction for record in after] == [
        record.score.inferred_instruction for record in before
    ]
    assert [record.score.value for record in after] != [record.score.value for record in before]
    assert [record.score.outcome for record in after] == [record.score.outcome for record in before]
    assert read(tmp_path / "run") == before
    back = run(tmp_path, "rescore", "run", "--run-folder", "f1")
    assert back.returncode == 0
    assert [record.score.value for record in read(tmp_path / "f1")] == [record.score.value for record in before]


def test_the_cache_answers_the_second_run_and_can_be_cleared(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": f"say {w}", "response": w} for w in "abc"])
    with FaultServer() as server:
        arguments = ["score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model, "--run-folder"]
        run(tmp_path, *arguments, "one")
        second = run(tmp_path, *arguments, "two")
        assert server.requests.total() == 3
        assert "3 answered from the cache or" in second.stdout
        assert [r.score.value for r in read(tmp_path / "one")] == [r.score.value for r in read(tmp_path / "two")]
        assert "3 replies" in run(tmp_path, "cache", "info").stdout
        assert "removed 3 replies" in run(tmp_path, "cache", "clear").stdout
        run(tmp_path, *arguments, "three")
        assert server.requests.total() == 6


def test_interrupted_once_it_finishes_what_is_in_flight(tmp_path: Path) -> None:
    rows = [{"instruction": f"say {i}", "responses": [f"word {i} {j}" for j in range(4)]} for i in range(60)]
    write_rows(tmp_path / "rows.jsonl", rows)
    with FaultServer(latency_seconds=0.3) as server:
        arguments = ["score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model, "--cache", "off"]
        arguments += ["--concurrency", "10", "--run-folder", "run"]
        process = start(tmp_path, *arguments)
        wait_for_records(tmp_path / "run")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert re.search(r"Stopping: finishing [1-9]\d* request", errors)
        assert "The same command goes on from here" in errors
        assert len(read(tmp_path / "run")) == server.requests.total() < 60, "more than was in flight was finished"
        assert run(tmp_path, *arguments).returncode == 0
        assert set(server.requests.values()) == {1}
    assert len(read(tmp_path / "run")) == 4 * len(rows)


def test_interrupted_twice_it_stops_at_once(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": f"say {i}", "response": f"word {i}"} for i in range(40)])
    slow = {f"word {i}" for i in range(4, 40)}  # so that something is in flight whenever the second one comes
    with FaultServer(latency_seconds=0.05, script=lambda r: stall(r.messages[-1].content, slow)) as server:
        arguments = ["score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model, "--cache", "off"]
        process = start(tmp_path, *arguments, "--concurrency", "4", "--run-folder", "run")
        wait_for_records(tmp_path / "run")
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
    assert len(read(tmp_path / "run")) < 40


def stall(prompt: str, slow: set[str]) -> str:
    if prompt.rpartition("\n")[2] in slow:
        time.sleep(1)
    return '{"INFERRED INSTRUCTION": "say"}'


def wait_for_records(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = folder / "records.jsonl"
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.01)
    raise AssertionError("no record came")


def test_dry_run_of_backward_likelihood_shows_text_and_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Name a fruit.", "response": "A [bold]pear[/bold]."}
    (tmp_path / "one.jsonl").write_text(json.dumps(row))
    arguments = ["score", "one.jsonl", "--reward", "backward-likelihood", "--dry-run"]
    assert "[system]\nInfer the instruction" in run(tmp_path, *arguments).stdout, "the default model is a tuned one"
    text = run(tmp_path, *arguments, "--model", "smollm2-135m").stdout
    assert "[text]" in text
    assert "A [bold]pear[/bold]." in text
    assert "[how likely is]\nName a fruit." in text
    assert "[user]" in run(tmp_path, *arguments, "--template", "compact").stdout


def test_backward_likelihood_without_a_model_that_can(tmp_path: Path) -> None:
    run(tmp_path, "score", str(EXAMPLES), "--reward", "backward-likelihood", *SCRIPTED)
    lines = next(tmp_path.glob("runs/*/records.jsonl")).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert all((record["likelihood"] is None) == (record["reward"] is None) for record in records)
    assert any(record["reward"] is not None for record in records)
    with FaultServer() as server:
        address = ("--base-url", server.base_url, "--model", server.model)
        refused = run(tmp_path, "score", str(EXAMPLES), "--reward", "backward-likelihood", *address)
    assert refused.returncode == 4
    assert "transformers:" in refused.stderr
