from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.shapes.columns import Column, check_columns, format_columns, parse_columns
from flip_reward.errors import DataError, OptionError


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("instruction=question,response=answer", {"instruction": "question", "response": "answer"}),
        (" id = my id , messages=a=b", {"id": "my id", "messages": "a=b"}),
        ("instruction=Name, first,response=b", {"instruction": "Name, first", "response": "b"}),
        ('instruction="a,b=c",response="say ""it"""', {"instruction": "a,b=c", "response": 'say "it"'}),
        (r"prompt={a}, {b}\n\n{c},responses=d+e f", {"prompt": "{a}, {b}\n\n{c}", "responses": "d+e f"}),
        ("chosen=good,rejected=bad,subset=kind", {"chosen": "good", "rejected": "bad", "subset": "kind"}),
    ],
)
def test_columns_are_read_as_pairs(text: str, columns: dict[str, str]) -> None:
    assert parse_columns(text) == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not of the form ours=theirs"),
        ("question", "'question' is not of the form ours=theirs"),
        ("instruction=", "is not of the form"),
        ("=question", "is not of the form"),
        ("instruction=a,", "'' is not of the form"),
        ("instrution=question", "there is no 'instrution' to map (did you mean 'instruction'?)"),
        ("id=a,id=b", "'id' is mapped twice"),
        ("instruction=a,prompt=b", "'prompt'"),
        ("response=a,responses=b", "'responses'"),
        ("response=a,chosen=b", "'chosen'"),
    ],
)
def test_columns_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_columns(text)
    assert message in str(caught.value)


def test_a_mapping_of_a_recipe_is_checked_as_the_option_is() -> None:
    check_columns({"instruction": "question"})
    with pytest.raises(OptionError, match="did you mean 'response'"):
        check_columns({"respnse": "answer"})


@given(
    st.dictionaries(
        st.sampled_from(["instruction", "response", "id"]), st.from_regex(r"[\w ,=+\"]*\w", fullmatch=True)
    )
)
def test_what_is_shown_to_copy_is_read_as_it_was_meant(columns: dict[str, str]) -> None:
    columns = {ours: theirs.strip() for ours, theirs in columns.items()}
    shown = shlex.split(format_columns(columns))
    assert shown[0] == "--columns"
    assert not columns or parse_columns(shown[1]) == columns


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("{a}\n\n{b}", {"a": "Translate.", "b": "Hi"}, "Translate.\n\nHi"),
        ("{a}\n\n{b}", {"a": "Translate.", "b": ""}, "Translate."),
        ("{a}\n\n{b}", {"a": "{b} and {0}", "b": "{a}"}, "{b} and {0}\n\n{a}"),
        ("{a} of {b c}", {"a": 3, "b c": 0.5}, "3 of 0.5"),
        ("{a}{b}", {"a": None, "b": float("nan")}, None),
    ],
)
def test_a_template_is_filled_in_one_pass(template: str, values: dict[str, object], text: str | None) -> None:
    assert Column.of(template, values).read(values) == text


def test_a_list_does_not_stand_in_a_template() -> None:
    with pytest.raises(DataError, match="'a' must be text to stand in a template, not a list"):
        Column.of("{a}", []).read({"a": ["x"]})


def test_a_column_in_braces_is_a_column_where_there_is_one() -> None:
    assert Column.of("{a}", ["{a}"]).read({"{a}": "x", "a": "y"}) == "x"
