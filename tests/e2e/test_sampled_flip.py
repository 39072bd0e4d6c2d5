"""FLIP with several inferences from each response on the command line."""

import json
from pathlib import Path

import pytest

from flip_reward.core.score import Outcome
from tests.e2e.command import read, run, write_rows

SCRIPTED = ("--model", "scripted", "--cache", "off")
SAMPLED = (*SCRIPTED, "--samples", "4", "--temperature", "0.7", "--seed", "1")
ROWS: list[dict[str, object]] = [
    {"id": "fruits", "instruction": "Name three fruits.", "responses": ["Apples, pears, plums.", ""]},
    {"id": "say", "instruction": "Say hello.", "response": "Hello there."},
]


def test_records_hold_every_sample(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    command = ("score", "rows.jsonl", *SAMPLED, "--aggregation", "max", "--run-folder", "run")
    first = run(tmp_path, *command, "-o", "out.parquet", "--only-scores")
    assert first.returncode == 0, first.stderr
    assert "2 of 3 responses scored (1 empty_response)" in first.stdout
    scored, empty, _ = (record.score for record in read(tmp_path / "run"))
    assert [sample.value for sample in scored.samples] == [scored.value] * 4
    assert (scored.spread, scored.cost.attempts) == (0.0, 1)
    assert (empty.outcome, empty.spread, empty.samples) == (Outcome.EMPTY_RESPONSE, None, ())
    settings = json.loads((tmp_path / "run/manifest.json").read_text())["configuration"]["settings"]
    assert (settings["samples"], settings["aggregation"], settings["seed"]) == (4, "max", 1)
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [len(row["samples"]) for row in table] == [4, 0, 4]
    assert table[0]["samples"][3]["inferred_instruction"] == scored.inferred_instruction
    again = run(tmp_path, *command)
    assert "3 taken from an earlier session" in again.stdout
    assert run(tmp_path, "rescore", "run", "--similarity", "rouge-l").returncode == 0
    rescored = read(tmp_path / "run/rescored/rouge-l")[0].score
    assert [sample.value for sample in rescored.samples] == [rescored.value] * 4


def test_tokens_are_those_of_all_samples(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    one = json.loads(run(tmp_path, "score", "rows.jsonl", *SCRIPTED, "--run-folder", "one", "--json").stdout)
    four = json.loads(run(tmp_path, "score", "rows.jsonl", *SAMPLED, "--run-folder", "four", "--json").stdout)
    assert four["completion_tokens"] == 4 * one["completion_tokens"]
    assert read(tmp_path / "four")[0].score.value == read(tmp_path / "one")[0].score.value


def test_one_evaluation_holds_several_numbers_of_samples(tmp_path: Path) -> None:
    pairs = [{"prompt": f"Say {n}.", "chosen": [f"Say {n}."], "rejected": ["No."]} for n in range(5)]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    command = ("evaluate", "-b", "pairs.jsonl", "-r", "flip", *SCRIPTED, "--run-folder", "eval")
    (tmp_path / "sampled.yaml").write_text(
        "benchmarks: [pairs.jsonl]\nrewards: [flip]\nmodels: [{model: scripted}]\n"
        "reward: {samples: 8, aggregation: median, temperature: 0.7, seed: 1}\n"
    )
    assert run(tmp_path, *command).returncode == 0
    assert run(tmp_path, *command, "--samples", "4", "--temperature", "0.7", "--seed", "1").returncode == 0
    finished = run(tmp_path, "evaluate", "sampled.yaml", "--cache", "off", "--run-folder", "eval")
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "eval/results.json").read_text())
    assert [cell["reward"] for cell in results["cells"]] == [
        "flip reasoned @ scripted", "flip reasoned x4 @ scripted", "flip reasoned x8 median @ scripted",
    ]  # fmt: skip
    assert len(read(tmp_path / "eval/cells/pairs--flip-reasoned-x8-median--scripted")[0].score.samples) == 8


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--samples", "4"], "--temperature"),
        (["--samples", "0", "--temperature", "1"], "--samples"),
        (["--samples", "4", "--temperature", "1", "--reward", "pointwise"], "'samples'"),
        (["--aggregation", "sum"], "--aggregation"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], named: str) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    finished = run(tmp_path, "score", "rows.jsonl", *SCRIPTED, *arguments)
    assert finished.returncode == 2
    assert named in finished.stderr
    assert not (tmp_path / "runs").exists()
