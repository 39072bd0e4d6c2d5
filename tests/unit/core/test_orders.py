from collections import Counter
from math import factorial

from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Group
from flip_reward.core.judgement import draw_orders

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
