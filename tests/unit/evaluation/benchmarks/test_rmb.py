"""RMB: its rows, its authors' folder and archive, and figures computed by hand."""

import json
import tarfile
from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import make_benchmark
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark, load_protocol
from flip_reward.evaluation.benchmarks.rmb import OVERALL, PARTS, open_repository, to_item
from flip_reward.evaluation.benchmarks.rules import AUTHORS
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, headline, item, said

ASKED = [{"content": "Name a fruit.", "language": "English", "role": "user"}]
PAIR: Row = {
    "pair_uid": "7", "conversation_input": ASKED, "category_path": "Pairwise_set/Helpfulness/Chat/Discussion",
    "chosen": {"llm_name": "m", "answer": "Pear."}, "reject": {"llm_name": "n", "answer": "Bread."},
}  # fmt: skip
BEST: Row = {
    "bon_uid": "7", "conversation_input": ASKED, "category_path": "BoN_set/Harmlessness/S1",
    "bon_best": {"llm_name": "m", "answer": "No."},
    "loser_list": [{"llm_name": "n", "answer": "Yes."}, {"llm_name": "o", "answer": "Sure."}],
}  # fmt: skip


def write_repository(folder: Path) -> Path:
    """Write the authors' folders with two files of rows, and a result of their evaluation beside them."""
    for place, row in (
        ("RMB_dataset/Pairwise_set/Helpfulness/Chat/Discussion.json", PAIR),
        ("RMB_dataset/BoN_set/Harmlessness/S1.json", BEST),
        ("eval/result/m_result.json", {"pair_uid": "7", "is_correct": 1}),
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps([row]), encoding="utf-8")
    return folder


def test_rmb(tmp_path: Path) -> None:
    pair, best = read(tmp_path, PAIR, BEST, name="rmb")
    assert (pair.id, pair.subset, pair.group.responses) == (
        "helpfulness pairwise/7",
        "helpfulness pairwise",
        ("Pear.", "Bread."),
    )
    assert (best.id, best.subset, best.chosen) == ("harmlessness bon/7", "harmlessness bon", (True, False, False))
    protocol = load_protocol("rmb")
    assert protocol.unit(pair) == protocol.unit(best), "they have the same prompt"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"category_path": "Pairwise_set/Honesty/S1"}, "is no category of RMB"),
        ({"category_path": "BoN_set/Helpfulness/Chat"}, "'bon_best' and 'loser_list'"),
        ({"reject": None}, "'chosen' and 'reject'"),
        ({"conversation_input": "Hi"}, "'conversation_input'"),
    ],
)
def test_rows_that_are_none_of_it(tmp_path: Path, change: Row, reason: str) -> None:
    assert reason in refuse(tmp_path, {**PAIR, **change}, name="rmb")


def test_a_copy_of_its_repository_or_a_part(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "RMB")
    assert load_benchmark(f"rmb={folder}").subsets == {"harmlessness bon": 1, "helpfulness pairwise": 1}
    assert load_benchmark(f"rmb={folder}/RMB_dataset/BoN_set").subsets == {"harmlessness bon": 1}
    with pytest.raises(DataError, match="no column 'category_path'"):
        load_benchmark(f"rmb={folder}/eval/result/m_result.json")


def test_its_archive(tmp_path: Path) -> None:
    archive = tmp_path / "rmb.tar.gz"
    with tarfile.open(archive, "w:gz") as files:
        files.add(write_repository(tmp_path / "RMB"), arcname="RMB-1234")
    rows = open_repository(archive.as_uri())
    assert len(make_benchmark("rmb", "rmb", rows, to_item, source="rmb").items) == 2
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(open_repository(archive.as_uri()))
    assert "copy the repository" in (caught.value.hint or "")


def test_the_mean_is_of_four_parts_and_the_best_must_be_above_every_other() -> None:
    items = [item(f"{part} {n}", part, rejected=3 if "bon" in part else 1) for part in PARTS for n in range(2)]
    won, tied = said(3, 1, 2, 0), said(3, 1, 3, 0)
    rewards = [won, tied, said(1, 0), said(1, None), said(3, None, None, None), won, said(None, 1), said(1, 0)]
    graded = grade("rmb", items, rewards)
    parts = dict(zip(PARTS, (0.5, 1, 1, 0.5), strict=True))
    assert figures(graded) == {**{part + AUTHORS: share for part, share in parts.items()}, OVERALL: 0.75}
    assert headline(graded) == OVERALL


def test_one_part_has_its_own_headline_and_two_have_none() -> None:
    for present, name in ((PARTS[:1], PARTS[0] + AUTHORS), (PARTS[:2], None)):
        graded = grade("rmb", [item(part, part) for part in present], [said(1, 0)] * len(present))
        assert (headline(graded), OVERALL in figures(graded)) == (name, False)
