"""Which rows belong to which shard, and how a shard is named."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.errors import OptionError
from flip_reward.scoring.shards.spec import MOST_SHARDS, ShardSpec, find_number


def array(task: int, first: int, last: int, count: int, step: int = 1) -> dict[str, str]:
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@given(st.integers(0, 1 << 30), st.integers(1, MOST_SHARDS))
def test_every_group_is_in_one_shard(position: int, count: int) -> None:
    number = find_number(position, count)
    assert 1 <= number <= count
    assert ShardSpec(number=number, count=count).holds(position)
    assert ShardSpec(number=number % count + 1, count=count).holds(position) == (count == 1)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 16, 64, 100, 256])
@pytest.mark.parametrize("count", [2, 3, 4, 8, 64])
def test_shards_of_groups_of_one_size_are_about_equal(count: int, size: int) -> None:
    held = Counter(find_number(position, count) for position in range(0, 6400 * size, size))
    assert len(held) == count
    assert max(held.values()) < 1.2 * 6400 / count


@pytest.mark.parametrize(("text", "number", "count"), [("3/8", 3, 8), (" 1 / 1 ", 1, 1), ("9999/9999", 9999, 9999)])
def test_a_shard_is_read(text: str, number: int, count: int) -> None:
    assert ShardSpec.parse(text, {}) == ShardSpec(number=number, count=count)


@pytest.mark.parametrize(
    "text", ["", "0/8", "-1/8", "1/0", "1/10000", "1/3/4", "3", "3/", "4/3", "9" * 5000 + "/3", "half", "٣/٨"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--shard"):
        ShardSpec.parse(text, {})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (array(0, 0, 7, 8), "1/8"),
        (array(7, 0, 7, 8), "8/8"),
        (array(8, 1, 8, 8), "8/8"),
        (array(5, 5, 7, 3), "1/3"),
        (array(4, 0, 15, 8, step=2), "3/8"),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}, "3/3"),
    ],
)
def test_the_tasks_of_an_array_are_numbered(environment: dict[str, str], expected: str) -> None:
    assert str(ShardSpec.parse("auto", environment)) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_ARRAY_TASK_ID": "3"},
        array(3, 3, 7, 2),  # two tasks of eight, queued again
        array(1, 0, 6, 4, step=2),
        array(9, 1, 8, 8),
        array(0, 1, 8, 8),
        array(1, 1, 8, 8) | {"SLURM_ARRAY_TASK_ID": "one"},
    ],
)
def test_what_is_no_whole_array_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="--shard"):
        ShardSpec.parse("auto", environment)
