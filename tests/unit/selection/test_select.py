"""Which of scored rows are kept, which are left out, and why."""

import tracemalloc
from collections import Counter
from collections.abc import Iterable

import pytest

from flip_reward.core.conversation import Group, Message
from flip_reward.selection.select import (
    LeftOut,
    Pair,
    ScoredResponse,
    select_above,
    select_best_of_groups,
    select_pairs,
    select_top,
)

GROUPS: dict[str, list[float | None]] = {
    "a": [0.9, 0.1, 0.5],
    "b": [None, 0.2],
    "c": [0.3, 0.3],
    "d": [0.5, 0.5, 0.4],
}


def read() -> Iterable[ScoredResponse]:
    """Every group over rows of their own, not next to each other."""
    for turn in range(3):
        for name, rewards in GROUPS.items():
            if turn < len(rewards):
                group = Group.of(f"say {name}", f"{name}{turn}")
                yield ScoredResponse({}, group, 0, rewards[turn])


def texts(found: Iterable[object]) -> list[str]:
    return [one.text for one in found if isinstance(one, ScoredResponse)]


def reasons(found: Iterable[object]) -> Counter[str]:
    return Counter(one.reason for one in found if isinstance(one, LeftOut))


def test_a_threshold_keeps_what_reaches_it() -> None:
    found = list(select_above(read, 0.5))
    assert texts(found) == ["a0", "d0", "d1", "a2"]
    assert reasons(found) == {"a reward below 0.5": 5, "not scored": 1}


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0, []),
        (1 / 9, ["a0"]),
        (0.2, ["a0", "d0"]),
        (0.3, ["a0", "d0", "d1"]),
        (1, ["a0", "c0", "d0", "a1", "b1", "c1", "d1", "a2", "d2"]),
    ],
)
def test_a_share_is_exact_and_ties_go_to_the_first(share: float, kept: list[str]) -> None:
    assert texts(select_top(read, share)) == kept


def test_a_small_share_is_named_as_it_was_given() -> None:
    assert reasons(select_top(read, 0.005))["not among the best 0.5%"] == 8


def test_the_best_of_each_group() -> None:
    found = list(select_best_of_groups(read))
    assert texts(found) == ["a0", "c0", "d0", "b1"]
    assert reasons(found) == {"not the best of its group": 5, "not scored": 1}


def test_pairs_of_the_best_and_the_worst() -> None:
    found = list(select_pairs(read))
    pairs = [(one.chosen.text, one.rejected.text) for one in found if isinstance(one, Pair)]
    assert pairs == [("a0", "a1"), ("d0", "d2")]
    assert reasons(found) == {
        "not scored": 1,
        "the only scored response of its group": 1,
        "no difference in its group": 2,
        "neither the best nor the worst of its group": 2,
    }
    wide = list(select_pairs(read, 0.2))
    assert sum(isinstance(one, Pair) for one in wide) == 1
    assert reasons(wide)["a difference below 0.2 in its group"] == 3
    exact = [ScoredResponse({}, Group.of("say", "x"), 0, reward) for reward in (0.7, 0.4)]
    assert [type(one) for one in select_pairs(lambda: exact, 0.3)] == [Pair], "they differ by 0.3, almost"


def test_pairs_are_laid_out_as_trl_reads_them() -> None:
    short = Group.of("say", ["good", "bad"])
    pair = Pair(ScoredResponse({}, short, 0, 0.9), ScoredResponse({}, short, 1, 0.1))
    assert pair.to_row() == {
        "prompt": "say", "chosen": "good", "rejected": "bad", "reward_chosen": 0.9, "reward_rejected": 0.1,
    }  # fmt: skip
    long = Group.of([Message("system", "Be brief."), Message("user", "say")], ["good", "bad"])
    row = Pair(ScoredResponse({}, long, 0, 0.9), ScoredResponse({}, long, 1, 0.1)).to_row()
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say"}]
    assert row["chosen"] == [{"role": "assistant", "content": "good"}]


def test_responses_to_different_conversations_are_never_a_pair() -> None:
    rows = [ScoredResponse({}, Group.of(prompt, "x"), 0, reward, "g") for prompt, reward in (("a", 1.0), ("b", 0.0))]
    assert reasons(select_pairs(lambda: rows)) == {"the only scored response of its group": 2}


def test_responses_that_wait_for_their_pair_are_not_in_memory() -> None:
    def far_apart() -> Iterable[ScoredResponse]:
        for reward in (0.0, 1.0):
            for number in range(400):
                yield ScoredResponse({}, Group.of(f"prompt {number}", f"{reward}" * 10_000), 0, reward)

    tracemalloc.start()
    pairs = sum(isinstance(one, Pair) for one in select_pairs(far_apart))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pairs == 400
    assert most < 4_000_000, "they have 12 MB of text"
