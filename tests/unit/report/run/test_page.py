import re
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from flip_reward.core.similarity import TokenF1
from flip_reward.core.tokens import load_normalizer
from flip_reward.errors import EngineServerError, RunError
from flip_reward.report.run.page import build_run_page, is_run
from flip_reward.rewards.shared import load_shared
from flip_reward.scoring.rescore import rescore_run
from flip_reward.scoring.run_folder import read_summary
from flip_reward.selection.choice import TieRule
from tests.e2e.command import run as run_command
from tests.unit.report.evaluation.test_page import Outline, read_data
from tests.unit.report.make_evaluation import HOSTILE
from tests.unit.report.make_run import choose_from_rows, list_rows, score_echo, score_rows, write_rows

ODD = {"id": "odd", "prompt": "Hi", "response": "unknown"}
"""The model cannot tell what it answers."""


def read_page(folder: Path, **options: int) -> tuple[dict[str, Any], list[str]]:
    data = read_data(build_run_page(folder, **options))
    return data["payload"], data["texts"]


def test_the_figures_are_those_of_the_run(tmp_path: Path) -> None:
    run = score_rows(
        tmp_path, [*list_rows(40), {"id": "odd", "prompt": "Hi", "response": "unknown"}, {"prompt": "Hi"}]
    )
    summary = read_summary(run)
    assert summary is not None
    page, texts = read_page(run)
    assert (page["responses"], page["groups"], page["kind"]) == (41, 41, "score")
    assert summary.rewards is not None
    assert page["quartiles"] == summary.rewards.model_dump()
    assert {count["name"]: count["count"] for count in page["outcomes"]} == summary.outcomes
    assert sum(page["histogram"]["counts"]) == summary.outcomes["scored"] == 40
    assert page["unfinished"] is page["missing"] is page["selected"] is None
    assert [row["line"] for row in page["rejected"]] == [42]
    assert page["rejected_rows"] == 1
    first = page["samples"][0]
    assert (first["id"], first["where"]) == ("item-0", "rows.jsonl, line 1")
    [candidate] = first["candidates"]
    row = list_rows(1)[0]
    assert (texts[first["instruction"]], texts[candidate["response"]]) == (row["prompt"], row["response"])
    assert texts[candidate["reply"]].startswith('{"REASONING"')
    value, outcome, precision, recall, inferred, marks = candidate["score"][:6]
    stretches = [texts[inferred][start:end] for start, end in zip(marks[::2], marks[1::2], strict=True)]
    tokens = load_normalizer("english").tokenize
    assert outcome == "scored"
    assert len(tokens(" ".join(stretches))) == round(precision * len(tokens(texts[inferred])))
    assert value == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-4)


@pytest.mark.parametrize("changed", [False, True])
def test_without_its_input_the_rest_is_shown(tmp_path: Path, *, changed: bool) -> None:
    run = score_rows(tmp_path, list_rows(3))
    write_rows(tmp_path / "rows.jsonl", []) if changed else (tmp_path / "rows.jsonl").unlink()
    page, texts = read_page(run)
    assert "rows.jsonl" in page["missing"]
    sample = page["samples"][0]
    assert (sample["where"], sample["messages"]) == ("row 1", [])
    assert texts[sample["instruction"]] == list_rows(1)[0]["prompt"]
    assert sample["candidates"][0]["response"] is None
    assert sample["candidates"][0]["score"][1] == "scored"


def test_a_conversation_is_shown_whole(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}]
    page, texts = read_page(score_rows(tmp_path, [{"messages": [*turns, {"role": "assistant", "content": "Pear."}]}]))
    [sample] = page["samples"]
    assert [[role, texts[text]] for role, text in sample["messages"]] == [[*turn.values()] for turn in turns]
    assert texts[sample["candidates"][0]["response"]] == "Pear."


def test_what_is_copied_and_both_readings_are_in_the_page(tmp_path: Path) -> None:
    page, texts = read_page(score_echo(tmp_path))
    echo, answer = page["samples"][0]["candidates"]
    assert echo["cautions"] == ["copies_instruction"]
    copied, [masked, value, outcome, [[_, inferred, _]]] = echo["score"][13:]
    assert (copied, masked, value, outcome) == (1, False, 1, "scored")
    assert texts[inferred] == "Name three fruits that grow in cold countries."
    assert len(answer["score"]) <= 13


def test_a_choice_is_the_one_that_was_made(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        *list_rows(2, grouped=True),
        {"id": "none", "prompt": "Hi", "responses": ["", "unknown"]},
    ]
    rows += [{"id": "one", "prompt": "Hi", "response": list_rows(1)[0]["response"]}]
    page, _ = read_page(choose_from_rows(tmp_path, rows, tie_rule=TieRule.SHORTEST))
    assert page["kind"] == "best of N"
    assert page["selected"] == {"tie_rule": "shortest", "groups": 4, "tied": 2, "undecided": 1}
    assert [(sample["chosen"], sample["top"]) for sample in page["samples"]] == [
        (0, [0, 1]), (0, [0, 1]), (None, []), (0, [0]),
    ]  # fmt: skip


def test_scored_groups_have_no_choice(tmp_path: Path) -> None:
    page, _ = read_page(score_rows(tmp_path, list_rows(1, grouped=True)))
    [sample] = page["samples"]
    assert (page["selected"], sample["chosen"], sample["top"], sample["size"]) == (None, None, [0, 1], 4)


def test_generated_responses_are_those_of_the_policy(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"Say hello to number {number}"} for number in range(3)])
    policy = ("--generate", "2", "--policy-model", "scripted")
    run_command(
        tmp_path,
        "best-of-n",
        "prompts.jsonl",
        "--model",
        "scripted",
        *policy,
        "--cache",
        "off",
        "--run-folder",
        "run",
    )
    page, texts = read_page(tmp_path / "run")
    assert page["missing"] is None
    assert page["selected"]["groups"] == 3
    for sample in page["samples"]:
        assert texts[sample["messages"][0][1]].startswith("Say hello to number")
        assert all("INFERRED INSTRUCTION" in texts[candidate["response"]] for candidate in sample["candidates"])
    (tmp_path / "prompts.jsonl").unlink()
    page, texts = read_page(tmp_path / "run")
    assert "prompts.jsonl" in page["missing"]
    assert all("scripted" in texts[sample["candidates"][1]["response"]] for sample in page["samples"])


def test_a_rescored_run_shows_the_texts_of_the_first(tmp_path: Path) -> None:
    run = score_rows(tmp_path, [*list_rows(4), {"response": "no prompt"}])
    before, _ = read_page(run)
    beside, _ = rescore_run(run, TokenF1("multilingual"), tmp_path / "beside")
    for folder in (rescore_run(run, TokenF1("multilingual"))[0], beside):
        page, texts = read_page(folder)
        assert (page["title"], page["missing"], page["rejected_rows"]) == ("rows.jsonl", None, 1)
        assert page["quartiles"] != before["quartiles"]
        sample, old = page["samples"][0], before["samples"][0]
        assert texts[sample["candidates"][0]["response"]] == list_rows(1)[0]["response"]
        assert sample["candidates"][0]["score"][5] != old["candidates"][0]["score"][5], "articles are marked, too"
    run.rename(tmp_path / "elsewhere")
    page, _ = read_page(beside)
    assert page["missing"] is not None
    assert page["samples"][0]["candidates"][0]["response"] is None


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    run = score_rows(tmp_path, list_rows(4))
    (run / "summary.json").unlink()
    assert "4 responses so far" in read_page(run)[0]["unfinished"]
    records = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    (run / "records.jsonl").write_bytes(b"".join(records[:2]) + records[2][:20])
    assert "2 responses so far" in read_page(run)[0]["unfinished"]
    (run / "records.jsonl").write_bytes(b"")
    page, _ = read_page(run)
    assert (page["responses"], page["histogram"], page["samples"]) == (0, None, [])


def test_failures_of_the_engine_are_said(tmp_path: Path) -> None:
    def fail(_: object) -> str:
        raise EngineServerError("overloaded")

    page, _ = read_page(score_rows(tmp_path, list_rows(1), fail))
    assert "1 of its 1 responses could not be asked about" in page["unfinished"]
    assert page["outcomes"][0]["meaning"]


def test_of_many_responses_some_stand_for_all(tmp_path: Path) -> None:
    draw = Random(0)
    noise = [{**row, "response": f"{draw.randbytes(400).hex()} {row['response']}"} for row in list_rows(700)]
    run = score_rows(tmp_path, [*noise, ODD])
    page, texts = read_page(run, max_bytes=200_000)
    assert (run / "report.html").stat().st_size <= 200_000
    assert page["responses"] == 701
    assert 100 <= page["samples_responses"] == len(page["samples"]) < 701
    assert "odd" in {sample["id"] for sample in page["samples"]}
    shown = [candidate["bin"] for sample in page["samples"] for candidate in sample["candidates"]]
    assert {bin_ for bin_, count in enumerate(page["histogram"]["counts"]) if count} <= set(shown)
    assert max(map(len, texts)) > 300, "fewer rows rather than stumps of texts"


def test_the_page_is_one_file_and_hostile_texts_change_nothing_of_it(tmp_path: Path) -> None:
    def skeleton(folder: Path, *, hostile: bool) -> str:
        folder.mkdir()
        page = build_run_page(score_rows(folder, list_rows(2, hostile=hostile))).read_text(encoding="utf-8")
        return re.sub(r'(id="data">)[A-Za-z0-9+/=]*', r"\1", page)

    page = skeleton(tmp_path / "a", hostile=True)
    assert page == skeleton(tmp_path / "b", hostile=False)
    outline = Outline(page)
    assert [address for address in outline.addresses if not address.startswith(("#", "data:,"))] == []
    assert outline.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert outline.policy.count("'sha256-") == len(outline.scripts)
    assert not any(text in page for text in HOSTILE[:2])


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = score_rows(tmp_path, list_rows(5))
    assert build_run_page(run).read_bytes() == build_run_page(run).read_bytes()


@pytest.mark.parametrize("name", ["records.jsonl", "rejected_rows.jsonl", "choices.jsonl"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    run = choose_from_rows(tmp_path, [*list_rows(1, grouped=True), {"prompt": "Hi"}])
    (run / name).write_bytes(b"[]\n")
    with pytest.raises(RunError, match=re.escape(name)):
        build_run_page(run)


def test_what_is_no_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    run = score_rows(tmp_path, list_rows(1))
    assert is_run(run)
    (run / "manifest.json").write_bytes(orjson.dumps({"kind": "grpo"}))
    with pytest.raises(RunError, match="train"):
        build_run_page(run)


def test_the_command_says_where_the_page_is(tmp_path: Path) -> None:
    score_rows(tmp_path, list_rows(1))
    finished = run_command(tmp_path, "report", "run")
    assert finished.returncode == 0, finished.stderr
    assert "run/report.html" in finished.stdout
    assert run_command(tmp_path, "report", "run", "--step", "1").returncode != 0


def test_of_thousands_of_candidates_some_stand_for_the_others(tmp_path: Path) -> None:
    """A row can hold more of them than a page has room for; what is chosen and the ends of the rewards are kept."""
    texts = [*[f"word {index} " * (index % 7 + 1) for index in range(3000)], "Hi"]
    rows: list[dict[str, object]] = [{"prompt": "Say hi.", "responses": texts}, *list_rows(2)]
    run = choose_from_rows(tmp_path, rows, reward=load_shared("shortest", {}))
    page, kept = read_page(run)
    assert page["responses"] == 3003
    first = page["samples"][0]
    assert (first["size"], first["recorded"]) == (3001, 3001)
    assert 50 < len(first["candidates"]) <= 101
    assert kept[first["candidates"][first["chosen"]]["response"]] == "Hi"
    assert first["top"] == [first["chosen"]]
    assert len(page["samples"]) == 3, "the other rows are there, too"
