import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.judgement import (
    Judgement,
    PositionBias,
    measure_position_bias,
    read_judgements,
    write_judgements,
)
from flip_reward.core.score import Outcome

texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
verdicts = st.builds(lambda reply: Judgement((2, 0, 1), Outcome.SCORED, 0, reply), texts)
failures = st.builds(lambda reply: Judgement((0, 1), Outcome.UNPARSEABLE_REPLY, None, reply), texts)


@given(st.lists(verdicts | failures))
def test_judgements_survive_being_written(judgements: list[Judgement]) -> None:
    assert read_judgements(write_judgements(judgements)) == tuple(judgements)


def test_nothing_was_judged() -> None:
    assert read_judgements(None) == ()


@pytest.mark.parametrize("text", ["7", "{}", '{"SCORE": 7}', "prose", '{"shown": [0], "outcome": "x", "chosen": 0}'])
def test_other_replies_are_no_judgements(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_judgements(text)


@pytest.mark.parametrize(
    ("outcome", "chosen"), [(Outcome.SCORED, None), (Outcome.EMPTY_REPLY, 0), (Outcome.SCORED, 7)]
)
def test_judgements_that_make_no_sense(outcome: Outcome, chosen: int | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Judgement((0, 1), outcome, chosen)


def chose(chosen: int | None, *shown: int) -> Judgement:
    return Judgement(shown, Outcome.UNPARSEABLE_REPLY if chosen is None else Outcome.SCORED, chosen)


def test_only_pairs_with_a_verdict_in_both_orders_count() -> None:
    group = [
        chose(0, 0, 1), chose(0, 1, 0),  # 0 is better
        chose(0, 0, 2), chose(2, 2, 0),  # whichever stands first
        chose(2, 1, 2), chose(None, 2, 1),
        chose(3, 1, 3),
        chose(0, 0, 1, 2), chose(1, 1, 0, 2),
    ]  # fmt: skip
    assert measure_position_bias(group) == PositionBias(pairs=2, flips=1)


def test_rates_add_up_over_groups() -> None:
    assert PositionBias().rate is None
    assert sum([PositionBias(1, 1), PositionBias(3, 0)], PositionBias()).rate == 0.25
