from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from flip_reward.evaluation.benchmarks.catalogue import load_protocol
from flip_reward.evaluation.tabulate import read_data
from flip_reward.report.evaluation.payload import BenchmarkPayload, ReportData, make_figures, make_report_data
from tests.unit.evaluation.items import known
from tests.unit.report.make_evaluation import MODEL, REWARDS, make_evaluation, write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("evaluation"), items=60, hostile=True)


def read_report_data(folder: Path) -> ReportData:
    return make_report_data(folder, read_data(folder))


def read_benchmark(folder: Path) -> BenchmarkPayload:
    return read_report_data(folder).payload.benchmarks[0]


def test_decisions_agree_with_the_results(folder: Path) -> None:
    benchmark = read_benchmark(folder)
    for cell in benchmark.cells:
        assert len(cell.decisions) == len(benchmark.samples) == 70
        assert cell.decisions.count("r") / 70 == pytest.approx(known(cell.overall.strict).value)
        assert cell.decisions.count("u") == cell.overall.unscored_items
        assert sum(fifth.items for fifth in cell.lengths) == 70 - cell.overall.unscored_items
        assert sum(fifth.right for fifth in cell.lengths) == pytest.approx(
            cell.decisions.count("r") + cell.decisions.count("t") / 2
        )


def test_chance_is_that_of_choosing_at_random(folder: Path) -> None:
    assert [benchmark.chance for benchmark in read_report_data(folder).payload.benchmarks] == [0.5, 0.25]


def test_chance_and_accuracy_by_length_are_the_protocols(folder: Path) -> None:
    data, protocol = read_data(folder), load_protocol("rewardbench2")
    ties = [replace(item, subset="Ties", chosen=(True, True, False, False)) for item in data.items["best-of-4"]]
    found = make_figures(folder, replace(data, items={**data.items, "best-of-4": ties})).benchmarks[1]
    assert found.chance == pytest.approx(1 / 6), "both must be above both"
    for cell in found.cells:
        label = data.results.rewards[cell.reward].label
        given = next(one.runs[0] for one in data.results.cells if (one.benchmark, one.reward) == (found.name, label))
        pairs = zip(ties, data.rewards[given], strict=True)
        right = [protocol.grade(item, one.scored).fractional for item, one in pairs if one.scored is not None]
        assert sum(fifth.right for fifth in cell.lengths) == pytest.approx(sum(right))


def test_effort_is_for_right_decisions(folder: Path) -> None:
    flip = read_benchmark(folder).cells[0]
    assert flip.effort.right == pytest.approx(flip.decisions.count("r"))
    assert flip.effort.right_per_second == pytest.approx(212.4 * flip.effort.right / 140)


def test_several_runs_share_the_effort(tmp_path: Path) -> None:
    cell = read_benchmark(make_evaluation(tmp_path, items=20, runs=3)).cells[0]
    assert cell.runs == 3
    assert cell.effort.right == pytest.approx(3 * cell.decisions.count("r"))


def test_a_reply_is_kept_only_where_nothing_else_tells_what_it_said(folder: Path) -> None:
    data = read_report_data(folder)
    texts = data.texts.cut(10**9).texts
    for cell in data.payload.benchmarks[0].cells:
        for row in (row for scores in cell.scores for row in scores if row is not None):
            reply = row[9] if len(row) > 9 else None
            assert (reply is None) == (row[1] == "scored")
            if isinstance(reply, int):
                assert texts[reply]


def test_several_inferences_stand_beside_the_typical_one(tmp_path: Path) -> None:
    data = read_report_data(make_evaluation(tmp_path, items=10, samples=4))
    texts = data.texts.cut(10**9).texts
    flip, pointwise, _ = data.payload.benchmarks[0].cells
    assert all(len(row) <= 11 for scores in pointwise.scores for row in scores if row is not None)
    row = flip.scores[0][0]
    assert row is not None
    *_, spread, inferences = row
    assert isinstance(spread, float)
    assert isinstance(inferences, list)
    assert [outcome for _, _, outcome in inferences] == ["scored"] * 3 + ["unparseable_reply"]
    assert [value for value, _, _ in inferences][3:] == [None]
    assert row[0] in [value for value, _, _ in inferences]
    assert texts[row[4]] in [texts[text] for _, text, _ in inferences if text is not None]  # type: ignore[call-overload]


def test_a_score_that_is_not_there_is_null(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=4)
    records = tmp_path / "cells/llmbar--flip--Qwen-Qwen3-1.7B/records.jsonl"
    records.write_bytes(b"".join(records.read_bytes().splitlines(keepends=True)[:-1]))
    [cell] = [one for one in read_benchmark(tmp_path).cells if one.reward == 0]
    assert cell.scores[-1][1] is None
    assert cell.decisions[-1] == "u"


def test_tokens_are_those_of_the_normaliser_in_use(tmp_path: Path) -> None:
    make_evaluation(tmp_path, items=12)
    before = read_benchmark(tmp_path).cells[0].scores
    results = orjson.loads((tmp_path / "results.json").read_bytes())
    results["rewards"][0]["settings"]["similarity"] = "f1:multilingual"
    write_json(tmp_path / "results.json", results)
    after = read_benchmark(tmp_path).cells[0].scores
    assert before != after, "articles are tokens for one of them"


def test_making_says_what_was_asked_with_what(folder: Path) -> None:
    made = {facts.title: dict(facts.rows) for facts in read_report_data(folder).payload.made}
    assert list(made) == ["Evaluation", "Benchmark llmbar", "Benchmark best-of-4", *REWARDS.values(), "Software"]
    assert made["Evaluation"]["options › price_prompt"] == "0.01"
    assert made["Evaluation"]["options › limit"] == "none"
    assert made["Benchmark llmbar"]["items"] == "70"
    assert made[f"flip @ {MODEL}"]["similarity"] == "f1"
    assert made["Software"] == {
        "first session": "2026-02-13T09:00:00+00:00", "last session": "2026-02-13T09:00:00+00:00", "sessions": "6",
        "Python": "3.12.9", "platform": "Linux", "flip-reward": "0.1.0",
    }  # fmt: skip
