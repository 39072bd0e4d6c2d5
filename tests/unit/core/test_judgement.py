from collections import Counter
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Group
from flip_reward.core.judgement import (
    Judgement,
    PositionBias,
    draw_orders,
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


GROUP = Group.of("Name a fruit.", ["Apple.", "Pear.", "Bread.", "Plum."])


def test_orders_never_change() -> None:
    """They are part of every result: a change here changes the results of the same seed."""
    assert draw_orders(GROUP, range(4), count=3) == [(1, 2, 3, 0), (0, 3, 2, 1), (2, 0, 3, 1)]
    assert draw_orders(GROUP, range(4), seed=1) == [(2, 0, 1, 3)]


@given(st.integers(1, 5), st.integers(1, 150), st.integers(0, 9))
def test_orders_are_different_and_complete(size: int, count: int, seed: int) -> None:
    orders = draw_orders(GROUP, range(size), seed=seed, count=count)
    assert len(orders) == len(set(orders)) == min(count, factorial(size))
    assert all(sorted(order) == list(range(size)) for order in orders)


def test_more_orders_begin_with_the_same_ones() -> None:
    assert draw_orders(GROUP, range(4), count=5)[:2] == draw_orders(GROUP, range(4), count=2)


def test_the_texts_count_and_the_id_does_not() -> None:
    named = Group(GROUP.messages, GROUP.responses, id="row-7")
    others = {tuple(draw_orders(Group.of(f"Name {n}.", GROUP.responses), range(4), count=2)) for n in range(9)}
    assert draw_orders(named, range(4)) == draw_orders(GROUP, range(4))
    assert len(others) > 1


def test_every_order_is_as_likely() -> None:
    drawn = Counter(draw_orders(Group.of(str(n), ["a", "b", "c"]), range(3))[0] for n in range(1200))
    assert len(drawn) == 6
    assert all(140 <= count <= 260 for count in drawn.values()), drawn
