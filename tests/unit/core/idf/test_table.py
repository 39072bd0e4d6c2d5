from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.idf.table import (
    FIRST_BYTES,
    MOST_WORDS,
    count_words,
    load_shipped_table,
    parse_table,
)
from flip_reward.core.tokens import NORMALIZERS, load_normalizer
from flip_reward.errors import FlipRewardError

ENGLISH = load_normalizer("english")
PROMPTS = ["Write a poem about the sea.", "Write an essay, write it well.", "Sing!"]


def test_a_word_counts_once_for_each_instruction() -> None:
    table = count_words(PROMPTS, ENGLISH)
    assert table.instructions == 3
    assert table.counts == {
        "write": 2, "poem": 1, "about": 1, "sea": 1, "essay": 1, "it": 1, "well": 1, "sing": 1,
    }  # fmt: skip


def test_the_same_instruction_and_one_without_words_count_once_and_never() -> None:
    assert count_words([*PROMPTS, PROMPTS[0], "", " ?! the a"], ENGLISH) == count_words(PROMPTS, ENGLISH)


def test_a_weight_is_the_logarithm_of_how_rare_a_word_is() -> None:
    table = count_words(PROMPTS, ENGLISH)
    weights = [table.weigh(count) / 2**32 for count in (0, 1, 2, 3)]
    assert weights == pytest.approx([math.log(4), math.log(2), math.log(4 / 3), 0.0], abs=1e-9)
    assert table.weigh(3) == 0


@pytest.mark.parametrize("prompts", [[], ["?"], ["Sing."], ["Sing.", "Sing."]], ids=["none", "blank", "one", "twice"])
def test_too_few_prompts_are_refused(prompts: list[str]) -> None:
    with pytest.raises(FlipRewardError, match="rare words"):
        count_words(prompts, ENGLISH)


def test_what_rare_words_leave_is_smaller() -> None:
    table = count_words(PROMPTS, ENGLISH).without_rare(2)
    assert (table.instructions, table.counts) == (3, {"write": 2})


@pytest.mark.parametrize("name", NORMALIZERS)
@given(prompts=st.lists(st.text(), min_size=2))
def test_a_table_is_read_back_as_it_was_written(name: str, prompts: list[str]) -> None:
    table = count_words([*prompts, "one", "two"], load_normalizer(name))
    again = parse_table(table.to_bytes())
    assert again == table
    assert again.digest == table.digest
    assert count_words([*reversed(prompts), "two", "one"], load_normalizer(name)).digest == table.digest


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'"normalizer":"english"}\n', "first line"),
        (b'"normalizer":"english","instructions":"9"}\n', "first line"),
        (b'"normalizer":["english"],"instructions":9}\n', "unknown normalizer"),
        (b'"normalizer":"english","instructions":-2}\n', "-2 instructions"),
        (b"\n", "first line"),
        (b'"normalizer":"english","instructions":9}\n1 a\n\xff\xfe\n', "first line"),
        (b'"normalizer":"english","instructions":9}\n1 a\n10 b\n', "line 3"),
        (b'"normalizer":"english","instructions":9}\n0 a\n', "line 2"),
        (b'"normalizer":"english","instructions":9}\n1 a  b\n', "line 2"),
        (b'"normalizer":"english","instructions":9}\none a\n', "line 2"),
        (b'"normalizer":"english","instructions":9}\n' + b"9" * 5000 + b"\n", "line 2"),
        (b'"normalizer":"english","instructions":9}\n1\n', "line 2"),
        (b'"normalizer":"english","instructions":9}\n1 poem hai', "ends within a line"),
        (b'"normalizer":"english","instructions":9}', "first line"),
        (b'"normalizer":"english","instructions":' + b"9" * 400 + b"}\n", "cannot be of 9"),
        (b'"normalizer":"latin","instructions":9}\n', "latin"),
    ],
)
def test_a_damaged_table_is_refused(content: bytes, where: str) -> None:
    with pytest.raises(FlipRewardError, match=where):
        parse_table(FIRST_BYTES + content)


def test_the_line_ends_of_another_system_are_no_part_of_words() -> None:
    table = count_words(PROMPTS, ENGLISH)
    assert parse_table(table.to_bytes().replace(b"\n", b"\r\n")) == table


def test_of_too_many_words_the_common_ones_are_kept() -> None:
    def many() -> Iterator[str]:
        for number in range(110):
            yield "write " + " ".join(f"{number}x{index}" for index in range(10_000))

    table = count_words(many(), load_normalizer("multilingual"))
    assert len(table.counts) <= MOST_WORDS
    assert table.counts["write"] == table.instructions == 110


@pytest.mark.parametrize(("normalizer", "digest"), [("english", "edde3e85"), ("multilingual", "13569130")])
def test_the_tables_of_the_package_are_those_that_their_names_stand_for(normalizer: str, digest: str) -> None:
    table = load_shipped_table(normalizer)
    assert table.digest[:8] == digest
    assert table.normalizer.name == normalizer
    assert table.instructions == 14_897
    assert min(table.counts.values()) == 3
    assert table.counts["haiku"] < table.counts["poem"] < table.counts["write"] < table.counts["what"]
