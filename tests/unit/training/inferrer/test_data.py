from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.rows import RawRow
from flip_reward.errors import DataError
from flip_reward.training.inferrer.data import (
    TuningData,
    TuningInputs,
    draw,
    find_duplicates,
    find_evaluated,
    prepare_data,
    repeat,
    warn_of_swapped_columns,
)
from flip_reward.training.inferrer.pairs import Removal, SourcePairs, TrainingPair
from flip_reward.training.inferrer.recipe import DataSource, InferrerRecipe
from flip_reward.training.inferrer.text import TuningText
from tests.unit.training.pairs import pair, source

LANDLORD = "Write a letter to my landlord who does not want to repair the heating in winter"
RECIPE = InferrerRecipe(model="tiny", data=[DataSource(source="rows")], keep_near_duplicates=True, held_out=0.0)
PAIRS = [
    pair(f"Say what number {n} is called in language {n * 7}", f"It is called {n} times {n}") for n in range(200)
]


def encode(one: TrainingPair) -> TuningText | Removal:
    """A token for each letter; the instruction and the end are learned."""
    return TuningText([1] * (len(one.response) + len(one.instruction) + 1), len(one.instruction) + 1)


def prepare(*sources: SourcePairs, evaluated: tuple[str, ...] = (), **options: float | None) -> TuningData:
    return prepare_data(sources, evaluated, RECIPE.model_copy(update=options), encode)


def test_prompts_of_evaluations_are_found_exactly_and_nearly() -> None:
    pairs = [pair(LANDLORD), pair(LANDLORD + "!"), pair(LANDLORD.replace("winter", "May")), pair("Name a fruit")]
    assert find_evaluated(pairs, [LANDLORD.upper()]) == [
        Removal.EVALUATED,
        Removal.EVALUATED,
        Removal.NEAR_EVALUATED,
        None,
    ]


def test_duplicates_have_the_same_prompt_and_response() -> None:
    pairs = [
        pair("Name a fruit.", "Apple."),
        pair("Name a fruit.", "A pear is one, and so is a plum."),
        pair("name a fruit", "apple"),
        pair(LANDLORD, "Dear Sir, it is cold."),
        pair(LANDLORD, "Dear Sir, it is so cold."),
    ]
    assert find_duplicates(pairs) == [None, None, Removal.DUPLICATE, None, Removal.NEAR_DUPLICATE]
    assert find_duplicates(pairs, near=False) == [None, None, Removal.DUPLICATE, None, None]


def test_weights_repeat_rows_and_fractions_draw_some() -> None:
    data = prepare(source(*PAIRS[:40], weight=2), source(*PAIRS[40:80], weight=0.5), source(*PAIRS[80:90]))
    assert [one.seen for one in data.counts] == [80, 20, 10]
    assert len(data.train) == 110


def test_long_rows_are_left_out_and_counted() -> None:
    long_response, long_instruction = pair("Name a fruit.", "Pear. " * 50), pair("Name a fruit. " * 8, "Pear.")
    data = prepare(source(PAIRS[0], long_response, long_instruction), max_tokens=200, max_instruction_tokens=100)
    assert data.counts[0].removed == {Removal.TOO_LONG: 2}
    assert len(data.train) == 1


def test_a_prompt_is_held_out_with_all_its_responses_and_is_never_learned() -> None:
    several = [replace(one) for one in PAIRS] + [pair(one.instruction, "Something else.") for one in PAIRS]
    known: dict[int, str] = {}

    def encode_numbered(one: TrainingPair) -> TuningText:
        known[len(known)] = one.instruction
        return TuningText([len(known) - 1, 0], 1)

    data = prepare_data([source(*several)], (), RECIPE.model_copy(update={"held_out": 0.2}), encode_numbered)
    learned, held_out = ({known[text.tokens[0]] for text in texts} for texts in (data.train, data.held_out))
    assert not learned & held_out
    assert 20 < len(held_out) < 60
    assert len(data.held_out) == 2 * len(held_out)


def test_fewer_rows_are_a_part_of_more_rows() -> None:
    some, more = draw(PAIRS, 20, seed=4), draw(PAIRS, 50, seed=4)
    assert [one for one in more if one in some] == some
    assert draw(PAIRS, 20, seed=5) != some
    assert len(prepare(source(*PAIRS), rows=20).train) == 20


@given(st.integers(0, 60), st.floats(0.01, 5, allow_nan=False))
def test_repeating_keeps_the_proportion(count: int, weight: float) -> None:
    seen = Counter(repeat(range(count), weight, seed=0))
    assert abs(seen.total() - weight * count) <= 0.5
    assert all(int(weight) <= times <= int(weight) + 1 for times in seen.values())


def test_swapped_columns_are_told() -> None:
    swapped = source(*(pair(one.response * 20, "Which?") for one in PAIRS[:5]), name="swapped.jsonl")
    assert "swapped.jsonl" in str(warn_of_swapped_columns(swapped))
    assert "are the columns swapped?" in prepare(swapped, max_instruction_tokens=999).warnings[0]
    assert warn_of_swapped_columns(source(*PAIRS)) is None
    assert warn_of_swapped_columns(source()) is None


def test_nothing_left_says_where_it_went() -> None:
    with pytest.raises(DataError, match="row") as caught:
        prepare(source(pair(LANDLORD), pair("Name a fruit", "Pear")), evaluated=(LANDLORD,), max_tokens=8)
    assert caught.value.hint == "left out: 1 evaluated, 1 too_long"


def test_the_same_seed_gives_the_same_data() -> None:
    assert prepare(source(*PAIRS), held_out=0.1, rows=50) == prepare(source(*PAIRS), held_out=0.1, rows=50)


def test_data_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("instruction,response\nGrüße?,Äpfel\n".encode("cp1252"))
    data = [DataSource(source=str(tmp_path / "rows.csv"), encoding="cp1252")]
    [opened] = TuningInputs.open(RECIPE.model_copy(update={"data": data})).data
    [row] = opened.rows()
    assert isinstance(row, RawRow)
    assert row.values == {"instruction": "Grüße?", "response": "Äpfel"}
