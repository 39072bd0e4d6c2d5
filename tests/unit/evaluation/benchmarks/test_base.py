"""Items of rows, and what is said about rows that cannot be used."""

from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark
from tests.unit.evaluation.benchmarks.rows import PAIR, Row, read, refuse, write


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
        ({**PAIR, "chosen": [3.5, None]}, r"response 2 \(chosen\) is empty"),
        ({**PAIR, "prompt": ""}, "'prompt' is empty"),
        ({**PAIR, "prompt": [{"role": "assistant", "content": "Hi"}]}, "no user message"),
        ({**PAIR, "prompt": [{"role": "robot", "content": "Hi"}]}, "unknown role 'robot'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, row: Row, reason: str) -> None:
    with pytest.raises(DataError, match=f"1 of 2 rows cannot be used:\n  line 2: .*{reason}") as caught:
        read(tmp_path, {**PAIR, "id": "0", "prompt": "Another."}, row)
    assert "--skip-bad-rows" in (caught.value.hint or "")


def test_repetitions_are_refused(tmp_path: Path) -> None:
    assert "line 2: the id '1'" in refuse(tmp_path, PAIR, {**PAIR, "prompt": "Another."})
    turned = {**PAIR, "id": "2", "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    assert "line 2: the prompt" in refuse(tmp_path, PAIR, turned)


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
