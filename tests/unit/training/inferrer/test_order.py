from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flip_reward.training.inferrer.order import order_texts

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
