"""A user's mistake ends in a clear line and the documented exit status, never in a traceback; the rest is scored."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, environment, read, run, run_process, write_rows
from tests.http.fault_server import FaultServer

GOOD = {"instruction": "say hello", "response": "hello"}
WITHOUT_MODEL = ("rescore", "train", "data", "report", "compare")
SCRIPTED = ("--model", "scripted", "--cache", "off", "--no-table")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["score", "row.jsonl"], "row.jsonl"),
        (["score", "rows.jsonl", "--columns", "respnse=a"], "'response'"),
        (["score", "rows.jsonl", "--similarity", "rogue-l"], "rouge-l"),
        (["score", "rows.jsonl", "--normalizer", "englisch"], "english"),
        (["score", "rows.jsonl", "--template", "resoned"], "reasoned"),
        (["score", "rows.jsonl", "--template-dir", "."], "FLIP_USER.prompt"),
        (["score", "rows.jsonl", "--target", "user"], "last-user"),
        (["score", "rows.jsonl", "--reward", "pairwse"], "'pairwise'"),
        (["score", "rows.jsonl", "--reward", "pointwise", "--orders", "2"], "'orders'"),
        (["score", "rows.jsonl", "--reward", "listwise", "--template", "direct"], "--template-dir"),
        (["score", "rows.jsonl", "--reward", "pairwise", "--template-dir", "."], "llmjudge_pairwise_ranking_USER"),
        (["score", "rows.jsonl", "--model", "embeded"], "'embedded'"),
        (["score", "rows.jsonl", "--model", "m", "--base-url", "localhost:8000"], "http://localhost:8000/v1"),
        (["score", "rows.jsonl", "--model", "missing.gguf"], "missing.gguf"),
        (
            ["score", "rows.jsonl", "--model", "m", "--base-url", "http://h/v1", "--dtype", "float32"],
            "'dtype'",
        ),
        (["score", "rows.jsonl", "--model", "embedded", "--batch-tokens", "9"], "'batch tokens'"),
        (["score", "rows.jsonl", "--model", "transformers:x", "--threads", "1"], "'threads'"),
        (["score", "rows.jsonl", "--extra-body", "{"], "--extra-body"),
        (["score", "rows.jsonl", "--extra-body", "[" * 100_000], "--extra-body"),
        (["score", "rows.jsonl", "--top-p", "2"], "--top-p"),
        (["score", "rows.jsonl", "--seed", "9" * 30], "--seed"),
        (["score", "rows.jsonl", "-o", "rows.jsonl"], "rows.jsonl"),
        (["score", "rows.jsonl", "-o", "out.txt"], ".parquet"),
        (["score", "rows.jsonl", "-o", "-", "--json"], "--json"),
        (["score", "rows.jsonl", "--only-scores"], "--output"),
        (["score", "rows.jsonl", "--dry-run", "--json"], "leave out --json"),
        (["score", "rows.jsonl:test"], "rows.jsonl:test"),
        (["score", "rows.jsonl", "--run-folder", "rows.jsonl"], "rows.jsonl is a file"),
        (["score", "rows.jsonl", "--run-folder", "."], "such as empty.jsonl"),
        (["score", "caf\udce9.jsonl"], r"caf\udce9.jsonl is not UTF-8"),
        (["best-of-n", "rows.jsonl", "--keep", "all"], "--output"),
        (["best-of-n", "rows.jsonl", "--tie-seed", "3"], "--tie-rule random"),
        (["data", "convert", "rows.jsonl", "-o", "rows.jsonl"], "is an input"),
        (["data", "verl", "rows.parquet", "-o", "rows.parquet"], "is an input"),
        (["data", "wildchat", "--source", "rows.jsonl", "-o", "rows.jsonl"], "is an input"),
        (["score", "rows.jsonl", "--push-to-hub", "rows"], "owner/name"),
        (["score", "empty.jsonl"], "empty.jsonl"),
        (["rescore", "nowhere"], "nowhere"),
        (["score", "flip", "rows.jsonl"], "--reward flip"),
        (["best-of-n", "nowhere.csv", "--model", "transformers:nowhere"], "nowhere.csv"),
        (["score", "rows.jsonl", "--reward", "runs/mine"], "--run-folder"),
        (["try", "say hello", "hello", "--reward", "pairwse"], "'pairwise'"),
        (["evaluate", "rows.jsonl"], "-b rows.jsonl"),
        (["evaluate", "longest"], "-r longest"),
        (["evaluate", "-b", "rows.jsonl"], "-r flip"),
        (["train", "rows.jsonl"], ".yaml"),
        (["score", "rows.jsonl", "--dry-run", "-o", "out.txt"], ".parquet"),
        (["score", "rows.jsonl", "--model", "missing.gguf", "--group-by", "question"], "--group-by"),
        (["score", "empty.jsonl", "--model", "missing.gguf"], "there are no rows"),
        (["best-of-n", "rows.jsonl", "--model", "missing.gguf"], "nothing to choose from"),
        (["data", "verl", "rows.jsonl", "-o", "out.csv"], "out.parquet"),
        (["report", "nowhere"], "there is no folder nowhere"),
        (["compare", "nowhere", "elsewhere"], "there is no folder nowhere"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], named: str) -> None:
    write_rows(tmp_path / "rows.jsonl", [GOOD])
    write_rows(tmp_path / "empty.jsonl", [])
    model: tuple[str, ...] = () if "--model" in arguments or arguments[0] in WITHOUT_MODEL else SCRIPTED
    if arguments[0] in ("evaluate", "try"):
        model = model[:-1]  # they have no table
    finished = run(tmp_path, *arguments, *model)
    assert finished.returncode == 2
    assert named in finished.stderr
    assert finished.stdout == ""


def test_bad_rows_are_listed_and_the_rest_is_scored(tmp_path: Path) -> None:
    lines = [
        b'{"instruction": "say a", "response": "a"}',
        b"not json",
        b'{"instruction": "caf\xe9", "response": "latin-1"}',
        b'["a", "list"]',
        b'{"instruction": "say b"}',
        b'{"response": "b"}',
        b'{"instruction": "say c", "response": 7}',
        b'{"instruction": " ", "response": "d"}',
        b'{"id": "x", "instruction": "say e", "response": "e"}',
        b'{"id": "x", "instruction": "say f", "response": "f"}',
        b'{"instruction": "say g", "response": "' + b"long " * 4_000_000 + b'"}',
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    finished = run_process(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "run")
    assert finished.returncode == 3
    rejected = [json.loads(line) for line in (tmp_path / "run/rejected_rows.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rejected] == [2, 3, 4, 5, 6, 8]
    assert "6 rows rejected" in finished.stdout
    assert [record.row for record in read(tmp_path / "run")] == [0, 6, 8, 9, 10]
    strict = run_process(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "strict", "--strict")
    assert strict.returncode == 2
    assert "rows.jsonl, line 2" in strict.stderr


def test_a_wrong_column_name_suggests_the_near_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", [{"question": "say hello", "answer": "hello"}])
    wrong = run(tmp_path, "score", "qa.jsonl", *SCRIPTED, "--columns", "instruction=question,response=anwser")
    assert wrong.returncode == 2
    assert "did you mean 'answer'?" in wrong.stderr
    right = run(tmp_path, "score", "qa.jsonl", *SCRIPTED, "--columns", "instruction=question,response=answer")
    assert right.returncode == 0


def test_columns_that_leave_something_open_are_asked_for_before_anything_starts(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", [{"question": "say hello", "answer": "hello", "output": "hi"}])
    asked = run(tmp_path, "score", "qa.jsonl", *SCRIPTED)
    assert asked.returncode == 2
    assert "'answer' or 'output'" in asked.stderr
    assert "--columns response=answer" in asked.stderr
    assert not (tmp_path / "runs").exists()
    read_as = run(tmp_path, "score", "qa.jsonl", *SCRIPTED, "--columns", "response=answer")
    assert read_as.returncode == 0
    assert "Read as instruction = 'question', response = 'answer'" in read_as.stderr


def test_a_benchmark_given_as_a_recipe_is_pointed_to_its_option(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": "say hello", "chosen": "hello", "rejected": "no"}])
    finished = run(tmp_path, "evaluate", "pairs.jsonl")
    assert finished.returncode == 2
    assert "flip-reward evaluate -b pairs.jsonl" in finished.stderr


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [GOOD])
    assert run(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "run").returncode == 0
    again = run(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "run", "--max-tokens", "9")
    assert again.returncode == 2
    assert "max_tokens" in again.stderr


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{**GOOD, "instruction": f"say {number}"} for number in range(50)])
    with FaultServer() as server:
        gone = server.base_url
    finished = run_process(tmp_path, "score", "rows.jsonl", "--base-url", gone, "--model", "m", "--cache", "off")
    assert finished.returncode == 4
    model, *said = finished.stderr.splitlines()
    assert model == f"model: m at {gone}"
    error, hint = said[-2:]
    assert gone in error
    assert hint.startswith("Hint: ")


def test_a_wrong_key_model_or_path(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [GOOD] * 50)
    key = "sk-secret-value"
    with FaultServer(api_key="right", model="right-model") as server:
        base = ("score", "rows.jsonl", "--cache", "off", "--base-url")
        wrong_key = run(tmp_path, *base, server.base_url, "--model", "right-model", OPENAI_API_KEY=key)
        wrong_model = run(tmp_path, *base, server.base_url, "--model", "rigt-model", OPENAI_API_KEY="right")
        wrong_path = run(tmp_path, *base, server.base_url + "/v2", "--model", "right-model", OPENAI_API_KEY="right")
        other_key = run(
            tmp_path, *base, server.base_url, "--model", "right-model", "--api-key-env", "MY_KEY", MY_KEY="right"
        )
    assert [wrong_key.returncode, wrong_model.returncode, wrong_path.returncode] == [4, 4, 4]
    assert "OPENAI_API_KEY" in wrong_key.stderr
    assert "right-model" in wrong_model.stderr
    assert f"{server.base_url}/v2" in wrong_path.stderr
    assert other_key.returncode == 0
    left_behind = "".join(
        path.read_text(errors="replace") for path in (tmp_path / "runs").rglob("*") if path.is_file()
    )
    assert key not in wrong_key.stdout + wrong_key.stderr + left_behind


def test_the_environment_names_the_server(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [GOOD])
    with FaultServer(api_key="right") as server:
        finished = run(
            tmp_path, "score", "rows.jsonl", "--model", server.model, OPENAI_BASE_URL=server.base_url,
            OPENAI_API_KEY="right",
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr


def test_an_unwritable_folder(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [GOOD])
    (tmp_path / "file").write_text("")
    finished = run(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "file/run")
    assert finished.returncode == 5
    assert "file/run" in finished.stderr


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    rows = [{"instruction": f"say word{i}", "response": f"word{i} " * 20} for i in range(2000)]
    write_rows(tmp_path / "rows.jsonl", rows)
    command = 'ulimit -f 200; trap \'\' XFSZ; exec "$0" "$@"'  # a file size limit stands in for a full disk
    limited = run_in_shell(tmp_path, command, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "run")
    assert limited[0] == 5
    assert "run/records.jsonl" in limited[1]
    kept = read(tmp_path / "run")
    assert 0 < len(kept) < len(rows)
    finished = run(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "run")
    assert finished.returncode == 0
    assert f"{len(kept)} taken from an earlier session" in finished.stdout
    assert len(read(tmp_path / "run")) == len(rows)


@pytest.mark.parametrize(
    "where",
    ['"$0" "$@" | head -1; exit ${PIPESTATUS[0]}', '"$0" "$@" >&-', '"$0" "$@" 2>&-', '"$0" "$@" <&- >&- 2>&-'],
    ids=["a reader goes away", "no output", "no error output", "no stream"],
)
def test_what_nobody_reads_ends_no_run(tmp_path: Path, where: str) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": f"say 水 {i}", "response": f"水 {i}"} for i in range(40)])
    status, errors = run_in_shell(tmp_path, where, "score", "rows.jsonl", *SCRIPTED, "--table", "--run-folder", "run")
    assert status == 0
    assert errors in ("model: scripted\n", "")
    assert len(read(tmp_path / "run")) == 40
    status, errors = run_in_shell(tmp_path, where, "score", "absent.jsonl", *SCRIPTED)
    assert status == 2


def test_a_terminal_with_few_characters(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"instruction": "say 水", "response": "word 水"}])
    finished = run_process(
        tmp_path,
        "score",
        "rows.jsonl",
        "--model",
        "scripted",
        "--table",
        "--run-folder",
        "水",
        PYTHONIOENCODING="ascii",
    )
    assert finished.returncode == 0
    assert "Run folder: ?" in finished.stdout


def run_in_shell(folder: Path, script: str, *arguments: str) -> tuple[int, str]:
    finished = subprocess.run(
        ["bash", "-c", script, str(COMMAND), *arguments],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished.returncode, finished.stderr
