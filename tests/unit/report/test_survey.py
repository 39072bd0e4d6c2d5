import pytest

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome, Score
from flip_reward.report.meanings import CAUTIONS, OUTCOMES
from flip_reward.report.survey import RunSurvey, spread
from flip_reward.scoring.records import Record


def survey_of(values: list[float | None], *, cautious: int = -1) -> RunSurvey:
    return RunSurvey.of(
        Record(
            row,
            str(row),
            1,
            0,
            "say it",
            Score(
                value,
                Outcome.EMPTY_REPLY if value is None else Outcome.SCORED,
                cautions=(Caution.SHORT_RESPONSE,) if row == cautious else (),
            ),
        )
        for row, value in enumerate(values)
    )


def test_everything_has_a_meaning() -> None:
    assert set(OUTCOMES) == set(Outcome)
    assert set(CAUTIONS) == set(Caution)


def test_what_is_rare_is_among_the_chosen() -> None:
    values: list[float | None] = [0.31] * 10_000
    values[5000], values[7000], values[9000] = 0.97, None, 0.02
    survey = survey_of(values, cautious=1234)
    chosen = survey.choose_rows(100)
    assert {1234, 5000, 7000, 9000} <= chosen
    assert 90 <= len(chosen) <= 100
    assert max(b - a for a, b in zip(sorted(chosen), sorted(chosen)[1:], strict=False)) < 250, "all over the input"


def test_all_are_chosen_where_there_is_room() -> None:
    assert survey_of([0.1, None, 0.9]).choose_rows(3) == {0, 1, 2}


def test_an_unscored_response_is_in_no_bar() -> None:
    histogram = survey_of([0.0, 0.04, 1.0, None]).draw()
    assert histogram is not None
    assert (histogram.counts[0], histogram.counts[-1], sum(histogram.counts)) == (2, 1, 3)
    assert histogram.find(None) is None
    assert survey_of([None]).draw() is None


@pytest.mark.parametrize("most", [0, 1, 3, 10, 1000])
def test_never_more_than_wanted(most: int) -> None:
    assert len(spread([range(50), range(20, 70), [3], []], most)) <= most
