"""Rewards turned into probabilities: from labels to scored rows."""

import json
from pathlib import Path

import pytest

from tests.e2e.command import run, write_rows

ROWS: list[dict[str, object]] = [
    {"id": f"q{number}", "prompt": f"Tell me {number}.", "response": "word " * (1 + number % 12)}
    for number in range(120)
]
LABELS: list[dict[str, object]] = [
    {"id": row["id"], "label": "good" if (place % 12 > 5) != (place % 7 == 0) else "bad"}
    for place, row in enumerate(ROWS)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    write_rows(tmp_path / "labels.jsonl", LABELS)
    assert run(tmp_path, "score", "rows.jsonl", "-r", "longest", "--run-folder", "kept").returncode == 0
    return tmp_path


def test_from_labels_to_probabilities(folder: Path) -> None:
    made = run(folder, "calibrate", "kept", "--labels", "labels.jsonl")
    assert made.returncode == 0
    assert made.stderr == "Labels: 120, found by 'id'\n"
    for told in ("120 labels, 60 of good", "AUC: 0.", "Map: ", "Brier score: ", "predicted", "labels would make"):
        assert told in made.stdout
    assert (folder / "kept" / "calibration.html").read_text().startswith("<!doctype html>")
    arguments = ("--calibration", "kept/calibration.json", "--run-folder", "calibrated", "-o", "out.jsonl")
    assert run(folder, "score", "rows.jsonl", "-r", "longest", *arguments).returncode == 0
    scored = [json.loads(line)["reward"] for line in (folder / "out.jsonl").read_text().splitlines()]
    assert scored[:12] == sorted(scored[:12])
    assert 0 < scored[0] < 0.35 < 0.65 < scored[11] < 1
    first = json.loads((folder / "calibrated" / "records.jsonl").read_text().splitlines()[0])
    assert first["parts"] == [{"name": "longest", "value": 5.0, "outcome": "scored"}]
    compared = run(folder, "compare", "kept", "calibrated")
    assert "not on the same scale" in compared.stdout
    best = run(folder, "best-of-n", "rows.jsonl", "-r", "longest", "--group-by", "id", *arguments[:2])
    assert "nothing to choose from" in best.stderr


def test_the_file_is_json_that_can_be_printed(folder: Path) -> None:
    made = run(
        folder, "calibrate", "kept", "--labels", "labels.jsonl", "--json", "-o", "map.json", "--method", "isotonic"
    )
    assert json.loads(made.stdout) == json.loads((folder / "map.json").read_text())
    assert json.loads(made.stdout)["curve"]["method"] == "isotonic"
    assert (folder / "map.html").exists()
    assert not (folder / "kept" / "calibration.json").exists()


def test_an_evaluation_has_its_labels(tmp_path: Path) -> None:
    pairs: list[dict[str, object]] = [
        {"id": f"p{n}", "prompt": f"Say {n}.", "chosen": "yes " * (3 + n % 5), "rejected": "yes " * (1 + n % 6)}
        for n in range(60)
    ]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    evaluate = ("evaluate", "-b", "pairs.jsonl", "--run-folder", "kept", "-r", "longest")
    assert run(tmp_path, *evaluate).returncode == 0
    cell = "kept/cells/pairs--longest"
    assert "kept/cells/NAME" in run(tmp_path, "calibrate", "kept").stderr
    made = run(tmp_path, "calibrate", cell)
    assert made.stderr == "Labels: 120, those of the benchmark 'pairs'\n"
    assert run(tmp_path, *evaluate, "--calibration", f"{cell}/calibration.json").returncode == 0
    assert (tmp_path / f"{cell}-calibrated" / "records.jsonl").exists()
    assert "preferences" in run(tmp_path, "calibrate", cell, "--labels", "pairs.jsonl").stderr
    of_a_run = run(tmp_path, "score", "pairs.jsonl", "-r", "longest", "--run-folder", "scored")
    assert of_a_run.returncode == 0
    assert "found by the texts" in run(tmp_path, "calibrate", "scored").stderr


def test_responses_that_a_policy_wrote(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"Say {number}."} for number in range(20)])
    sampled = ("--generate", "2", "--policy-model", "scripted")
    run(tmp_path, "best-of-n", "prompts.jsonl", *sampled, "-r", "longest", "--run-folder", "kept")
    write_rows(tmp_path / "labels.jsonl", [{"id": f"row-{number}", "label": [0, 1]} for number in range(20)])
    refused = run(tmp_path, "calibrate", "kept", "--labels", "labels.jsonl")
    assert "Labels: 40, found by 'id'" in refused.stderr
    assert "no information" in refused.stderr  # both responses to a prompt are the same


@pytest.mark.parametrize(
    ("labels", "arguments", "named"),
    [
        (LABELS[:20], [], "20 labels"),
        ([{**label, "label": "good"} for label in LABELS], [], "all 120 labels are good"),
        ([{**label, "label": place % 2} for place, label in enumerate(LABELS)], [], "AUC includes 0.5"),
        ([{**label, "label": label["label"] == "bad"} for label in LABELS], [], "wrong way round"),
        ([{**label, "label": place % 5} for place, label in enumerate(LABELS)], [], "--good"),
        ([{**label, "id": "z"} for label in LABELS], [], "'row-0', 'row-1'"),
        (LABELS, ["-o", "map.txt"], ".json"),
        (LABELS, ["-o", "labels.json", "--labels", "labels.json"], "overwritten"),
        (LABELS, ["--label", "lable"], "'lable'"),
        (LABELS, ["--method", "linear"], "'linear'"),
    ],
)
def test_mistakes(labels: list[dict[str, object]], arguments: list[str], named: str, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "id"} for row in ROWS]
    write_rows(tmp_path / "rows.jsonl", rows if "row-0" in named else ROWS)
    write_rows(tmp_path / "labels.json", labels)
    run(tmp_path, "score", "rows.jsonl", "-r", "longest", "--run-folder", "kept")
    finished = run(tmp_path, "calibrate", "kept", "--labels", "labels.json", *arguments)
    assert finished.returncode == 2
    assert named in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "kept" / "calibration.json").exists()


def test_a_calibration_of_another_reward_is_refused(folder: Path) -> None:
    run(folder, "calibrate", "kept", "--labels", "labels.jsonl")
    refused = run(folder, "score", "rows.jsonl", "-r", "shortest", "--calibration", "kept/calibration.json")
    assert (refused.returncode, "reward is 'longest' there and 'shortest' here" in refused.stderr) == (2, True)
    run(folder, "score", "rows.jsonl", "-r", "longest", "--calibration", "kept/calibration.json", "--run-folder", "c")
    assert "calibrated already" in run(folder, "calibrate", "c", "--labels", "labels.jsonl").stderr
