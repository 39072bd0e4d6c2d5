from __future__ import annotations

import pytest

from flip_reward import metrics
from flip_reward.metrics import F1Score, f1_score, normalize_answer


def test_f1_score_names_its_parts() -> None:
    score = f1_score(prediction="what is soil degradation?", ground_truth="Define 'soil degradation'.")

    assert score == F1Score(f1=0.5714285714285715, precision=0.5, recall=2 / 3)
    assert (score.f1, score.precision, score.recall) == tuple(score)


@pytest.mark.parametrize(
    ("prediction", "ground_truth"), [("", ""), ("", "abc"), ("abc", ""), ("cat", "dog"), ("a", "a")]
)
def test_nothing_shared_is_zero_in_every_part(prediction: str, ground_truth: str) -> None:
    score = f1_score(prediction, ground_truth)

    assert score == (0.0, 0.0, 0.0)
    assert [type(part) for part in score] == [float, float, float]


def test_f1_score_compares_normalized_texts() -> None:
    prediction, ground_truth = "The C++ code, please", "a C code; PLEASE!"

    assert f1_score(prediction, ground_truth).f1 == 1.0
    assert normalize_answer(prediction) == normalize_answer(ground_truth) == "c code please"


def test_the_public_names() -> None:
    assert metrics.__all__ == ["F1Score", "f1_score", "normalize_answer"]


def test_a_part_is_found_by_name_and_by_place() -> None:
    score = f1_score("what is soil degradation?", "Define 'soil degradation'.")
    f1, precision, recall = score
    assert (score["f1"], score["precision"], score["recall"]) == (f1, precision, recall)
    assert (score[0], score[-1], score[:2]) == (f1, recall, (f1, precision))
    with pytest.raises(KeyError):
        score["F1"]
