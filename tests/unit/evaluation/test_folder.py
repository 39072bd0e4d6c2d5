"""What evaluation folders hold, and which are refused."""

import csv
import json
from pathlib import Path

import pytest

from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import RunError, RunMismatchError
from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.folder import EvaluationOptions, read_evaluation, read_items
from flip_reward.evaluation.grid import GridReward
from flip_reward.evaluation.results import EvaluationResults, write_results
from flip_reward.evaluation.tabulate import tabulate
from flip_reward.rewards.config import RewardConfig
from tests.unit.evaluation.grids import (
    BENCHMARK,
    ITEMS,
    Inferrer,
    control,
    evaluate,
    flip,
    results_of,
)


def test_the_folder_holds_what_a_reader_needs(tmp_path: Path) -> None:
    options = EvaluationOptions(limit=12, price_prompt=2.0)
    evaluate(tmp_path, [flip(Inferrer())], options=options)
    write_results(tmp_path, results_of(tmp_path))
    assert read_items(tmp_path, "words") == ITEMS
    line = json.loads((tmp_path / "items/words.jsonl").read_text().splitlines()[0])
    assert line["messages"] == [{"role": "user", "content": "say w0"}]
    assert (line["responses"], line["chosen"]) == (["w0", "no idea about 0"], [True, False])
    evaluation = read_evaluation(tmp_path)
    assert (evaluation.format, evaluation.options, evaluation.benchmarks[0].sha256) == (1, options, BENCHMARK.sha256)
    results = EvaluationResults.model_validate_json((tmp_path / "results.json").read_bytes())
    assert results == results_of(tmp_path)
    assert results.rewards[0].settings["template"] == "reasoned"
    [cell] = results.cells
    assert cell.cost == pytest.approx(cell.tokens.prompt * 2e-6)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(row["kind"], row["name"], row["items"]) for row in rows] == [
        ("overall", "", "12"), ("subset", "even", "6"), ("subset", "odd", "6"),
    ]  # fmt: skip
    assert float(rows[0]["strict"]) == 1


def test_another_benchmark_or_setting_is_refused_with_the_difference(tmp_path: Path) -> None:
    evaluate(tmp_path, [control("longest"), flip(Inferrer())])
    with pytest.raises(RunMismatchError, match="benchmark words: 12 items there, 5 now"):
        evaluate(tmp_path, [control("longest")], [Benchmark("words", "preference", ITEMS[:5])])
    with pytest.raises(RunMismatchError, match="12 items there, 12 now, or the same number of others"):
        evaluate(tmp_path, [control("longest")], [Benchmark("words", "preference", ITEMS[::-1])])
    changed = RewardConfig(model="scripted", structured=True).load(ScriptedEngine())
    with pytest.raises(RunMismatchError, match="flip reasoned @ scripted, structured: False there, True now"):
        evaluate(tmp_path, [GridReward("flip reasoned @ scripted", "scripted", (changed,))])
    assert len(read_evaluation(tmp_path).rewards) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2}', "format 2"),
        ("[]", "format None"),
        ("{", r"evaluation\.json"),
        ('{"format": 1}', r"evaluation\.json"),
    ],
)
def test_folders_of_another_kind(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=message):
        tabulate(tmp_path)
    with pytest.raises(RunError, match=message):
        evaluate(tmp_path, [control("longest")])


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no folder .*missing"):
        tabulate(tmp_path / "missing")
    evaluate(tmp_path, [control("longest")])
    records = (tmp_path / "cells/words--longest/records.jsonl").read_text()
    (tmp_path / "cells/words--longest/records.jsonl").write_text(records.replace('"i3"', '"i99"'))
    with pytest.raises(RunError, match="cells/words--longest"):
        tabulate(tmp_path)
    (tmp_path / "items/words.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match=r"words\.jsonl, line 1"):
        tabulate(tmp_path)
    (tmp_path / "items/words.jsonl").unlink()
    with pytest.raises(RunError, match=r"words\.jsonl cannot be read"):
        tabulate(tmp_path)
