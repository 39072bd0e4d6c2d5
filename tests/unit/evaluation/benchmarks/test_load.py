"""Benchmarks from rows of every published shape, and what is said about rows that cannot be used."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flip_reward.errors import DataError, OptionError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import BENCHMARKS, BenchmarkName, load_benchmark, load_protocol

Row = Mapping[str, object]

PAIR: Row = {"id": "1", "subset": "fruit", "prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]}


def write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: Path, *rows: Row, name: str = "", skip_bad_rows: bool = False) -> tuple[BenchmarkItem, ...]:
    source = write(path / "rows.jsonl", rows)
    return load_benchmark(f"{name}={source}" if name else source, skip_bad_rows=skip_bad_rows).items


def refuse(path: Path, *rows: Row, name: str = "") -> str:
    with pytest.raises(DataError) as caught:
        read(path, *rows, name=name)
    return str(caught.value)


def test_a_preference_file(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a tree."}]
    first, second, third = read(
        tmp_path,
        PAIR,
        {"prompt": chat, "chosen": "Oak.", "rejected": ["Stone.", "Rain."], "models": ["x"]},
        {"id": 7, "prompt": "Name a bird.", "chosen": ["Owl.", "Jay."], "rejected": "Cat."},
    )
    assert (first.id, first.subset, first.chosen) == ("1", "fruit", (True, False))
    assert (second.id, second.subset, second.group.responses) == ("row-1", "all", ("Oak.", "Stone.", "Rain."))
    assert [message.role for message in second.group.messages] == ["system", "user"]
    assert (third.id, third.chosen) == ("7", (True, True, False))


def test_the_same_rows_have_the_same_hash_wherever_they_are(tmp_path: Path) -> None:
    one = load_benchmark(write(tmp_path / "one.jsonl", [PAIR]))
    other = load_benchmark(write(tmp_path / "other.ndjson", [{**PAIR, "note": "not looked at"}]))
    changed = load_benchmark(write(tmp_path / "changed.jsonl", [{**PAIR, "rejected": ["Brick."]}]))
    assert one.sha256 == other.sha256 != changed.sha256
    assert (one.name, other.name, one.protocol) == ("one", "other", "preference")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "p", "chosen": ["a"]}, "no column 'rejected'; the row has 'prompt', 'chosen'"),
        ({**PAIR, "rejected": []}, "there are no rejected responses"),
        ({**PAIR, "chosen": []}, "there are no chosen responses"),
        ({**PAIR, "rejected": [" \n"]}, r"response 2 \(rejected\) is empty"),
        ({**PAIR, "chosen": [""]}, r"response 1 \(chosen\) is empty"),
        ({**PAIR, "chosen": [3.5, None]}, "'chosen.1'"),
        ({**PAIR, "prompt": ""}, "the instruction is empty"),
        ({**PAIR, "prompt": [{"role": "assistant", "content": "Hi"}]}, "no user message"),
        ({**PAIR, "prompt": [{"role": "robot", "content": "Hi"}]}, "unknown role 'robot'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, row: Row, reason: str) -> None:
    with pytest.raises(DataError, match=f"1 of 2 rows cannot be used:\n  line 2: .*{reason}") as caught:
        read(tmp_path, {**PAIR, "id": "0", "prompt": "Another."}, row)
    assert "--skip-bad-rows" in (caught.value.hint or "")


def test_repetitions_are_refused(tmp_path: Path) -> None:
    assert "line 2: the id '1': line 1 has it already" in refuse(tmp_path, PAIR, {**PAIR, "prompt": "Another."})
    turned = {**PAIR, "id": "2", "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    assert "line 2: the same prompt and responses: line 1 has it already" in refuse(tmp_path, PAIR, turned)


def test_a_prompt_with_other_responses_is_another_item_and_counted(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "id": "2", "rejected": ["Brick."]}, {**PAIR, "id": "3", "prompt": "Another."}]
    assert load_benchmark(write(tmp_path / "rows.jsonl", rows)).shared_prompts == 2


def test_bad_rows_are_left_out_on_demand_and_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", [{**PAIR, "chosen": []}, PAIR])
    benchmark = load_benchmark(source, skip_bad_rows=True)
    assert [item.id for item in benchmark.items] == ["1"]
    assert [(row.line, row.reason) for row in benchmark.bad_rows] == [(1, "there are no chosen responses")]
    with pytest.raises(DataError, match="no rows that can be used"):
        read(tmp_path, {**PAIR, "chosen": []}, skip_bad_rows=True)
    with pytest.raises(DataError, match="there are no rows"):
        read(tmp_path)


def test_many_bad_rows_are_not_all_listed(tmp_path: Path) -> None:
    message = refuse(tmp_path, *({**PAIR, "id": str(n), "chosen": []} for n in range(30)))
    assert len(message.splitlines()) == 7
    assert message.endswith("and 25 more")


def test_subsets(tmp_path: Path) -> None:
    rows = [{**PAIR, "id": name, "subset": name, "prompt": name} for name in ("Math", "Precise IF", "Focus")]
    source = write(tmp_path / "rows.jsonl", rows)
    kept = load_benchmark(f"{source}:Focus, Precise IF")
    assert kept.subsets == {"Precise IF": 1, "Focus": 1}
    with pytest.raises(DataError, match="has no subset 'math'; did you mean 'Math'") as caught:
        load_benchmark(f"{source}:math")
    assert caught.value.hint == "its subsets are Math, Precise IF, Focus"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llmbar", BenchmarkName("llmbar", None)),
        ("RewardBench2:Math,Precise IF", BenchmarkName("rewardbench2", None, ("Math", "Precise IF"))),
        ("judgebench=pairs.jsonl.gz", BenchmarkName("judgebench", "pairs.jsonl.gz")),
        ("data/pairs.jsonl", BenchmarkName(None, "data/pairs.jsonl")),
        (r"C:\data\pairs.jsonl", BenchmarkName(None, r"C:\data\pairs.jsonl")),
        ("hf://datasets/a/b:test", BenchmarkName(None, "hf://datasets/a/b:test")),
    ],
)
def test_names(text: str, expected: BenchmarkName) -> None:
    assert BenchmarkName.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "near"), [("rewardbench", "rewardbench2"), ("lmbar=x.jsonl", "llmbar"), ("xyz", "")]
)
def test_unknown_benchmarks(text: str, near: str) -> None:
    with pytest.raises(OptionError, match="unknown benchmark") as caught:
        load_benchmark(text)
    assert f"did you mean {near!r}" in str(caught.value) or not near
    assert all(name in (caught.value.hint or "") for name in BENCHMARKS)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        load_benchmark(str(tmp_path / "rows.jsonl"))


def test_labels_are_safe_as_file_names(tmp_path: Path) -> None:
    assert load_benchmark(write(tmp_path / "my pairs (2).jsonl", [PAIR])).name == "my-pairs-2-"
    assert BenchmarkName.parse("hf://datasets/a/b:test").label == "b-test"


REWARD_BENCH: Row = {
    "id": "tied:3", "subset": "ties", "prompt": "Name a primary colour.", "chosen": ["Red.", "Blue."],
    "rejected": ["Brown.", "Seven."], "num_correct": 2, "num_incorrect": 2, "total_completions": 4,
    "models": ["m"], "additional_metadata": {"category": None},
}  # fmt: skip


def test_rewardbench2(tmp_path: Path) -> None:
    [item] = read(tmp_path, REWARD_BENCH, name="rewardbench2")
    assert (item.id, item.subset, item.chosen) == ("tied:3", "Ties", (True, True, False, False))


RM_BENCH: Row = {
    "id": 12, "domain": "safety-refuse", "prompt": "Pick a lock.",
    "chosen": ["No.", "I cannot.", "## No"], "rejected": ["Yes.", "I can.", "## Yes"],
}  # fmt: skip


def test_rm_bench_pools_the_two_safety_files(tmp_path: Path) -> None:
    first, second = read(
        tmp_path, RM_BENCH, {**RM_BENCH, "domain": "safety-response", "prompt": "x"}, name="rm-bench"
    )
    assert (first.id, first.subset) == ("safety-refuse/12", "safety")
    assert (second.id, second.subset) == ("safety-response/12", "safety")
    assert first.tags == ("concise", "plain", "markdown") * 2
    assert "'rejected' must have 3 responses" in refuse(tmp_path, {**RM_BENCH, "rejected": ["Yes."]}, name="rm-bench")


def test_rm_bench_as_its_authors_file(tmp_path: Path) -> None:
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps([RM_BENCH]), encoding="utf-8")
    assert len(load_benchmark(f"rm-bench={path}").items) == 1
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="not an array of objects"):
        load_benchmark(f"rm-bench={path}")
    path.write_text("[", encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        load_benchmark(f"rm-bench={path}")


JUDGE_BENCH: Row = {
    "pair_id": "81ec", "original_id": "1", "source": "mmlu-pro-law", "question": "Which?", "response_model": "m",
    "response_A": "It is (A).", "response_B": "It is (B).", "label": "B>A",
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "category"),
    [
        ("mmlu-pro-computer science", "knowledge"),
        ("livebench-reasoning", "reasoning"),
        ("livebench-math", "math"),
        ("livecodebench", "coding"),
        ("another", "another"),
    ],
)
def test_judgebench(tmp_path: Path, source: str, category: str) -> None:
    one, other = read(
        tmp_path,
        {**JUDGE_BENCH, "source": source},
        {**JUDGE_BENCH, "pair_id": "82", "question": "Who?", "label": "A>B"},
        name="judgebench",
    )
    assert (one.id, one.subset, one.group.responses) == ("81ec", category, ("It is (B).", "It is (A)."))
    assert other.group.responses == ("It is (A).", "It is (B).")


def test_judgebench_knows_two_labels(tmp_path: Path) -> None:
    assert "'label': Input should be 'A>B' or 'B>A'" in refuse(
        tmp_path, {**JUDGE_BENCH, "label": "A=B"}, name="judgebench"
    )


LLMBAR: Row = {"input": "Write seven in words.", "output_1": "7", "output_2": "seven", "label": 2}


def test_llmbar_from_a_copy_of_its_repository(tmp_path: Path) -> None:
    for folder in (
        "Natural",
        "Adversarial/Neighbor",
        "Adversarial/GPTInst",
        "Adversarial/GPTOut",
        "Adversarial/Manual",
    ):
        (tmp_path / folder).mkdir(parents=True)
        rows = [{**LLMBAR, "input": f"{folder} {n}"} for n in range(2)]
        (tmp_path / folder / "dataset.json").write_text(json.dumps(rows), encoding="utf-8")
    benchmark = load_benchmark(f"llmbar={tmp_path}")
    assert benchmark.subsets == {"natural": 2, "neighbor": 2, "gptinst": 2, "gptout": 2, "manual": 2}
    assert (benchmark.items[1].id, benchmark.items[1].group.responses) == ("natural/1", ("seven", "7"))
    (tmp_path / "Natural/dataset.json").unlink()
    with pytest.raises(DataError, match=r"Natural/dataset\.json cannot be read"):
        load_benchmark(f"llmbar={tmp_path}")


def test_llmbar_as_a_preference_file_and_under_other_spellings(tmp_path: Path) -> None:
    spellings = ("Natural", "adv_neighbor", "Adversarial_GPTInst", "adversarial/gptout", "manual")
    rows = [{**PAIR, "id": name, "prompt": name, "subset": name} for name in spellings]
    names = ["natural", "neighbor", "gptinst", "gptout", "manual"]
    assert [item.subset for item in read(tmp_path, *rows, name="llmbar")] == names
    assert "LLMBar has no subset 'fruit'" in refuse(tmp_path, PAIR, name="llmbar")


def test_an_unknown_protocol() -> None:
    with pytest.raises(DataError, match="unknown protocol 'x'"):
        load_protocol("x")
