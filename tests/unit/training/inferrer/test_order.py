from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.errors import DataError
from flip_reward.training.inferrer.order import group_alike, order_groups, order_texts
from flip_reward.training.inferrer.text import TuningText

lengths_of_texts = st.lists(st.integers(1, 500), min_size=1, max_size=200)


@given(lengths_of_texts, st.integers(1, 9), st.integers(1, 3))
def test_every_epoch_has_every_text_once(lengths: list[int], batch_rows: int, epochs: int) -> None:
    order = order_texts(lengths, batch_rows=batch_rows, epochs=epochs, seed=3)
    assert Counter(order) == dict.fromkeys(range(len(lengths)), epochs)


def test_the_seed_decides() -> None:
    lengths = list(range(50))
    first, again, other = (order_texts(lengths, batch_rows=4, epochs=2, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first[:50] != first[50:], "both epochs have the same order"


def test_batches_hold_texts_of_like_length() -> None:
    lengths = [7 * place % 500 for place in range(1, 257)]
    order = order_texts(lengths, batch_rows=8, epochs=1, seed=0)
    batches = [[lengths[place] for place in order[start : start + 8]] for start in range(0, len(order), 8)]
    padding = sum(8 * max(batch) - sum(batch) for batch in batches)
    assert padding < 0.05 * sum(lengths)
    assert [max(batch) for batch in batches] != sorted(max(batch) for batch in batches), "they come by length"


def make_text(response: list[int], instruction: list[int]) -> TuningText:
    return TuningText([1, *response, 3, *instruction, 2], learned=len(instruction) + 1)


def test_groups_share_what_they_are_about_and_no_instruction() -> None:
    fruits = [make_text([10, 11, 12, number], [60 + number]) for number in range(20, 24)]
    ships = [make_text([15, 16, 17, number], [60 + number]) for number in range(30, 34)]
    groups = group_alike([*fruits, *ships], 4, seed=1)
    assert sorted(map(sorted, groups)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    again = [make_text([10, 11, number], [60, 61]) for number in range(20, 26)]
    assert group_alike(again, 2, seed=1) == [], "another response to the same instruction is no negative"


def test_the_order_is_that_of_groups_and_epochs() -> None:
    texts = [make_text([10 + number // 4, 40 + number], [60 + number]) for number in range(12)]
    order = order_groups(texts, 2, epochs=1.5, seed=0)
    assert len(order) == 18
    assert sorted(order[:12]) == list(range(12))
    assert all(first // 4 == second // 4 for first, second in zip(order[::2], order[1::2], strict=True))
    assert order == order_groups(texts, 2, epochs=1.5, seed=0)
    with pytest.raises(DataError, match="4"):
        order_groups(texts, 5, epochs=1, seed=0)
