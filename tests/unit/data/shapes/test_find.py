"""Every shape that is recognised, with rows of its own; what is asked where none is; what runs keep of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.data.rows import Input, InvalidRow, RawRow
from flip_reward.data.shapes import Need, Shape, find_shape, parse_columns
from flip_reward.errors import DataError, OptionError

ASK, GOOD, BAD = "Name a tree.", "An oak is a tree.", "It is late."
USER = {"role": "user", "content": ASK}
SYSTEM = {"role": "system", "content": "Be brief."}
OLDER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def says(text: str | None) -> dict[str, object]:
    return {"role": "assistant", "content": text}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def batch_answer(text: str) -> dict[str, object]:
    return {"status_code": 200, "body": {"choices": [{"index": 0, "message": says(text)}]}}


SINGLE: list[dict[str, Any]] = [
    {"question": ASK, "answer": GOOD},
    {"Question ": ASK, " Answer": GOOD, "Agent": "anna"},
    {"Prompt": ASK, "RESPONSE": GOOD},
    {"instruction": ASK, "output": GOOD},
    {"prompt": ASK, "completion": GOOD},
    {"prompt": ASK, "completion": GOOD, "label": True},
    {"query": ASK, "text": GOOD},
    {"input": ASK, "output": GOOD},
    {"prompt": ASK, "response": None, "generated_text": GOOD},
    {"prompt": ASK, "completion": [says(GOOD)]},
    {"prompt": [USER], "completion": [says(GOOD)]},
    {"prompt": [USER], "response": says(GOOD)},
    {"prompt": [USER], "response": [{"type": "text", "text": GOOD}]},
    {"messages": [USER, says(GOOD)]},
    {"messages": [USER, {"role": "assistant", "content": [{"type": "output_text", "text": GOOD}]}]},
    {"messages": [USER], "answer": GOOD},
    {"conversations": [human(ASK), gpt(GOOD)]},
    {"messages": [human(ASK), gpt(GOOD)]},
    {"conversation": [USER, says(GOOD)], "model": "m"},
    {"dialogue": [{"role": "prompter", "text": ASK}, {"role": "bot", "text": GOOD}]},
    {"messages": [USER], "choices": [{"index": 0, "message": says(GOOD)}]},
    {"input": ASK, "output": [{"type": "reasoning", "summary": []}, {"type": "message", **says(GOOD)}]},
    {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": ASK}]}],
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": GOOD, "annotations": []}],
            }
        ],
    },
    {"messages": [USER], "response": batch_answer(GOOD), "custom_id": "7"},
    {"prompt": f"\n\nHuman: {ASK}\n\nAssistant:", "response": f" {GOOD}".strip()},
]


@pytest.mark.parametrize("row", SINGLE, ids="+".join)
def test_an_instruction_and_its_response_are_found(row: dict[str, Any]) -> None:
    group = find_shape([row]).to_group(row, "row-0")
    assert ([message.content for message in group.messages], group.responses) == ([ASK], (GOOD,))


CANDIDATES: list[dict[str, Any]] = [
    {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
    {"prompt": ASK, "chosen": [GOOD], "rejected": [BAD]},
    {"prompt": ASK, "chosen_response": GOOD, "rejected_response": BAD},
    {"prompt": [USER], "chosen": [says(GOOD)], "rejected": [says(BAD)]},
    {"prompt": ASK, "chosen": [USER, says(GOOD)], "rejected": [USER, says(BAD)], "score_chosen": 8.0},
    {"chosen": [USER, says(GOOD)], "rejected": [USER, says(BAD)]},
    {"messages": [USER, says(GOOD)], "chosen": [USER, says(GOOD)], "rejected": [USER, says(BAD)]},
    {
        "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}",
    },
    {"context": [USER], "response1": GOOD, "response2": BAD, "overall_preference": -2},
    {"history": ASK, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1},
    {"prompt": ASK, "response_0": GOOD, "response_1": BAD, "better_response_id": 0},
    {"question": ASK, "response_j": GOOD, "response_k": BAD},
    {"pair_uid": "1", "conversation_input": [USER], "chosen": {"answer": GOOD}, "reject": {"answer": BAD}},
    {"conversation_input": [USER], "bon_best": {"answer": GOOD}, "loser_list": [{"answer": BAD}]},
    {"input": {"messages": [USER]}, "preferred_output": [says(GOOD)], "non_preferred_output": [says(BAD)]},
    {
        "instruction": ASK,
        "completions": [{"response": GOOD, "overall_score": 8.5}, {"response": BAD, "overall_score": "3"}],
    },
    {
        "prompt": f"\n\nHuman: {ASK}\n\nAssistant: ",
        "answers": [{"answer": GOOD, "rank": 1}, {"answer": BAD, "rank": 4}],
    },
    {"conversation_a": [USER, says(GOOD)], "conversation_b": [USER, says(BAD)], "winner": "model_a"},
    {"prompt": ASK, "response_a": GOOD, "response_b": BAD, "winner": "A"},
    {"prompt": ASK, "Answer A": GOOD, "Answer B": BAD, "Winner": "Answer A"},
    {"prompt": ASK, "answer_1": GOOD, "answer_2": BAD, "preference": 1},
    {"prompt": ASK, "output_1": GOOD, "output_2": BAD, "label": "1"},
    {"question": ASK, "assistant_a": GOOD, "assistant_b": BAD, "winner": "assistant_a"},
    {"prompt": ASK, "model_a": GOOD, "model_b": BAD, "winner": "model_a"},
    {
        "prompt": ASK, "model_a": "gpt", "model_b": "llama", "response_a": GOOD, "response_b": BAD, "winner": "gpt",
    },
    {"prompt": ASK, "response_left": GOOD, "response_right": BAD, "choice": "left"},
    {"prompt": ASK, "response_a": GOOD, "response_b": BAD, "chosen": "response_a"},
]  # fmt: skip


@pytest.mark.parametrize("row", CANDIDATES, ids="+".join)
def test_candidates_are_found_and_which_is_better(row: dict[str, Any]) -> None:
    shape = find_shape([row], need=Need.PREFERENCES)
    group = shape.to_group(row, "row-0")
    assert ([message.content for message in group.messages], group.responses) == ([ASK], (GOOD, BAD))
    assert shape.choose(row) == (True, False)
    assert find_shape([row]).to_group(row, "row-0") == group


@pytest.mark.parametrize("row", [*SINGLE, *CANDIDATES], ids="+".join)
def test_what_a_run_keeps_of_a_shape_gives_the_shape_again(row: dict[str, Any]) -> None:
    shape = find_shape([row])
    again = find_shape([row], shape.columns)
    assert (again.columns, again.to_group(row, "row-0")) == (shape.columns, shape.to_group(row, "row-0"))


@pytest.mark.parametrize("row", [*SINGLE, *CANDIDATES], ids="+".join)
def test_prompts_are_found_without_their_responses(row: dict[str, Any]) -> None:
    group = find_shape([row], need=Need.PROMPTS).to_group(row, "row-0")
    assert [message.content for message in group.messages if message.role == "user"] == [ASK]
    assert group.responses == ("",)


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "instruction": ASK, "response": GOOD},
        {"prompt": [USER], "responses": [GOOD, BAD], "answer": "gold", "prompt_id": "x"},
        {"messages": [USER, says(GOOD)], "source": "s"},
        {"prompt": ASK, "response": GOOD, "chosen": "a", "rejected": "b"},
    ],
    ids="+".join,
)
def test_our_own_columns_leave_the_configuration_of_a_run_as_it_was(row: dict[str, Any]) -> None:
    shape = find_shape([row])
    assert (shape.columns, shape.found, shape.candidate_columns) == ({}, False, ())


def test_recognised_columns_are_the_configuration_that_a_user_would_have_typed() -> None:
    shape = find_shape([{"question": ASK, "answer": GOOD}])
    assert list(shape.columns.items()) == [("instruction", "question"), ("response", "answer")]
    typed = find_shape([{"question": ASK, "answer": GOOD}], {"response": "answer", "instruction": "question"})
    assert (typed.columns, typed.found) == (shape.columns, False)


def test_alpaca_joins_instruction_and_input() -> None:
    rows = [
        {"instruction": ASK, "input": "", "output": GOOD},
        {"instruction": "Add.", "input": "2 and {3}", "output": "5"},
    ]
    shape = find_shape(rows)
    asked = [shape.to_group(row, "").messages[0].content for row in rows]
    assert asked == [ASK, "Add.\n\n2 and {3}"]
    assert shape.description.startswith("Alpaca: instruction = 'instruction' + 'input'")


def test_an_input_beside_our_own_columns_is_not_passed_over_in_silence() -> None:
    shape = find_shape([{"instruction": "Add.", "input": "2 and 3", "response": "5"}])
    assert shape.columns == {}
    assert shape.found
    assert r"'input' is not read, to join it: --columns 'instruction={instruction}\n\n{input}'" in shape.description


def test_a_line_that_is_shown_for_joining_can_be_copied() -> None:
    row = {"instruction": "Add.", "input": "2 and 3", "response": "5"}
    line = find_shape([row]).description.partition("--columns ")[2].strip("'")
    [message] = find_shape([row], parse_columns(line)).to_group(row, "").messages
    assert message.content == "Add.\n\n2 and 3"


def test_what_stands_before_the_last_turn_is_the_conversation() -> None:
    chat = [SYSTEM, *OLDER, USER]
    for row in (
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                human("Hi"),
                gpt("Hello!"),
                human(ASK),
                gpt(GOOD),
            ]
        },
        {"prompt": chat, "completion": [says(GOOD)]},
        {"prompt": ASK, "chosen": [*chat, says(GOOD)], "rejected": [*chat, says(BAD)]},
        {"prompt": chat, "chosen": [USER, says(GOOD)], "rejected": [USER, says(BAD)]},
    ):
        group = find_shape([row]).to_group(row, "")
        assert [message.content for message in group.messages] == ["Be brief.", "Hi", "Hello!", ASK]


def test_turns_with_tools_belong_to_the_conversation() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    answer = [calls, {"role": "tool", "content": "18 C"}, says("It is mild.")]
    row = {"prompt": [USER], "completion": answer}
    group = find_shape([row]).to_group(row, "")
    assert [message.role for message in group.messages] == ["user", "assistant", "tool"]
    assert group.responses == ("It is mild.",)


@pytest.mark.parametrize(
    "last",
    [
        {"role": "assistant", "content": None, "reasoning_content": "An oak, perhaps."},
        {"role": "assistant", "reasoning_content": "An oak, perhaps."},
        {"role": "assistant", "content": ""},
    ],
)
def test_a_reply_that_never_came_is_an_empty_response(last: dict[str, object]) -> None:
    row = {"messages": [USER, last]}
    assert find_shape([row]).to_group(row, "").responses == ("",)


def test_a_refusal_is_a_response() -> None:
    row = {"messages": [USER, {"role": "assistant", "content": None, "refusal": "I must not."}]}
    assert find_shape([row]).to_group(row, "").responses == ("I must not.",)


@pytest.mark.parametrize(
    "responses",
    [
        [GOOD, BAD],
        [says(GOOD), says(BAD)],
        [[says(GOOD)], [says(BAD)]],
        [{"text": GOOD}, {"text": BAD}],
        [{"message": says(GOOD)}, {"message": says(BAD)}],
        {"choices": [{"message": says(GOOD)}, {"message": says(BAD)}]},
    ],
)
def test_a_cell_may_hold_several_candidates(responses: object) -> None:
    for row in ({"prompt": ASK, "responses": responses}, {"question": ASK, "Outputs": responses}):
        shape = find_shape([row])
        assert (shape.to_group(row, "").responses, shape.many) == ((GOOD, BAD), True)


def test_several_columns_keep_their_places() -> None:
    row = {"id": 3, "question": ASK, "answer_a": GOOD, "answer_b": None, "answer_c": BAD}
    shape = find_shape([row, {**row, "answer_b": "x"}])
    assert shape.candidate_columns == ("answer_a", "answer_b", "answer_c")
    assert shape.to_group(row, "").responses == (GOOD, "", BAD)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Ticket ID"], "T1"),
        (["uuid"], "T1"),
        (["user_id"], "row-0"),
        (["prompt_id", "sample_id"], "row-0"),
    ],
)
def test_ids_are_recognised_by_what_they_name(names: list[str], expected: str) -> None:
    row = {**dict.fromkeys(names, "T1"), "question": ASK, "answer": GOOD}
    assert find_shape([row]).to_group(row, "row-0").id == expected


@pytest.mark.parametrize(
    ("row", "reason", "line"),
    [
        (
            {"question": ASK, "answer": GOOD, "output": BAD},
            "which column is the response, 'answer' or 'output'?",
            "--columns response=answer",
        ),
        (
            {"question": ASK, "query": ASK, "Antwort lang": GOOD},
            "there is no column with responses",
            "--columns 'response=Antwort lang'",
        ),
        (
            {"question": ASK, "query": ASK, "answer": GOOD},
            "which column is the instruction, 'question' or 'query'?",
            "--columns instruction=question,response=answer",
        ),
        ({"prompt": ASK, "reponse": GOOD}, "did you mean 'reponse'?", "--columns response=reponse"),
        ({"Frage": ASK, "Antwort": GOOD}, "the rows have 'Frage', 'Antwort'", "instruction=Frage,response=Antwort"),
        ({"Nr": "17", "Frage": ASK, "Antwort": GOOD}, "'Nr'", "instruction=Frage,response=Antwort"),
        ({"frage": ASK, "answer": GOOD}, "there is no column with instructions", "instruction=frage,response=answer"),
        ({"prompt": ASK}, "there is no column with responses", "add it to the rows"),
        ({"messages": [SYSTEM, USER]}, "'messages' does not end with an assistant message", "add it to the rows"),
        ({"text": ASK}, "there is no column with instructions", "add it to the rows"),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            "there is no column with instructions",
            "add",
        ),
        ({"custom_id": "1", "response": batch_answer(GOOD)}, "OpenAI's batch API", "custom_id"),
        ({"prompt": ASK, "score": 0.5}, "there is no column with responses", "add it to the rows"),
    ],
    ids=lambda case: "+".join(case) if isinstance(case, dict) else None,
)
def test_what_is_missing_or_open_is_asked_for_with_a_line_to_copy(
    row: dict[str, Any], reason: str, line: str
) -> None:
    with pytest.raises(DataError) as caught:
        find_shape([row])
    assert reason in str(caught.value)
    assert line in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": ASK, "response": GOOD}, "no columns with better and worse responses"),
        ({"prompt": ASK, "completion": GOOD, "label": "history"}, "no columns with better and worse responses"),
        ({"prompt": ASK, "answer_a": GOOD, "answer_b": BAD}, "which of 'answer_a', 'answer_b' is better?"),
    ],
)
def test_preferences_that_are_not_there_are_asked_for(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        find_shape([row], need=Need.PREFERENCES)
    assert "winner=YOURS" in (caught.value.hint or "")


def test_a_column_that_the_user_named_must_be_there() -> None:
    with pytest.raises(DataError, match="there is no column 'anwser' \\(did you mean 'answer'\\?\\)"):
        find_shape([{"question": ASK, "answer": GOOD}], {"response": "anwser"})
    with pytest.raises(DataError, match="no column 'more'"):
        find_shape([{"question": ASK, "answer": GOOD}], {"instruction": "{question} {more}"})
    with pytest.raises(OptionError, match="'respnse'"):
        find_shape([], {"respnse": "answer"})


def test_columns_named_by_the_user_win() -> None:
    row = {"prompt": "not this", "question": ASK, "a+b": GOOD, "good one": GOOD, "bad one": BAD}
    read = {
        "prompt=question,response=a+b": (GOOD,),
        "prompt=question,responses=good one+bad one": (GOOD, BAD),
        'instruction={question},chosen="good one",rejected=bad one': (GOOD, BAD),
    }
    for columns, responses in read.items():
        group = find_shape([row], parse_columns(columns)).to_group(row, "")
        assert ([message.content for message in group.messages], group.responses) == ([ASK], responses)


def test_the_first_rows_of_every_input_decide() -> None:
    plain = rows_of("a", {"prompt": ASK, "response": GOOD}, {"prompt": ASK, "responses": [GOOD]})
    chats = rows_of("b", {"messages": [USER, says(GOOD)]})
    asked = rows_of("c", {"question": ASK, "answer": GOOD})
    empty = rows_of("d")
    assert find_shape([plain, chats, empty]).columns == {}
    with pytest.raises(DataError, match=r"a: .*c: instruction = 'question'"):
        find_shape([plain, asked])
    assert find_shape([empty]) == Shape()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([ASK, "", "a", "\n\nHuman: Hi", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "from", "content", "value", "messages", "body", "type"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
names = st.sampled_from(sorted({name for row in [*SINGLE, *CANDIDATES] for name in row}))


@given(st.lists(st.dictionaries(names, values, max_size=5), max_size=4), st.sampled_from(sorted(Need, key=str)))
def test_any_rows_have_a_shape_or_a_reason(rows: list[dict[str, object]], need: Need) -> None:
    try:
        shape = find_shape(rows, need=need)
    except DataError:
        return
    for row in rows:
        try:
            assert shape.to_group(row, "row-0").responses
            assert need is not Need.PREFERENCES or shape.choose(row)
        except DataError:
            pass


def rows_of(name: str, *rows: Mapping[str, object]) -> Input:
    bad = InvalidRow(0, 1, "not JSON")
    return Input(name, lambda _: iter([bad, *(RawRow(place, place + 1, row) for place, row in enumerate(rows, 1))]))


def test_lists_in_the_cells_of_a_table_are_candidates_where_all_of_them_are() -> None:
    rows = [{"prompt": ASK, "chosen": '["An oak.", "An elm."]', "rejected": '["A cup."]'}]
    shape = find_shape(rows, need=Need.PREFERENCES)
    assert shape.to_group(rows[0], "").responses == ("An oak.", "An elm.", "A cup.")
    assert shape.choose(rows[0]) == (True, True, False)
    mixed = [*rows, {"prompt": ASK, "chosen": '["a", "list", "as", "asked"]', "rejected": "No list."}]
    assert find_shape(mixed).to_group(mixed[1], "").responses == ('["a", "list", "as", "asked"]', "No list.")


def test_the_items_of_an_answer_are_read_in_a_table_too() -> None:
    items = [
        {"type": "reasoning"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": GOOD}]},
    ]
    row = {"input": ASK, "output": json.dumps(items)}
    assert find_shape([row]).to_group(row, "").responses == (GOOD,)
    row = {"prompt": ASK, "response": '[{"type": "oak", "height": 30}]'}
    assert find_shape([row]).to_group(row, "").responses == (row["response"],)


@pytest.mark.parametrize("sides", [{"chosen": GOOD, "rejected": BAD}, {"output_1": GOOD, "output_2": BAD}])
@pytest.mark.parametrize("need", [Need.RESPONSES, Need.PROMPTS])
def test_alpaca_joins_them_for_pairs_too(sides: dict[str, str], need: Need) -> None:
    row = {"instruction": "Translate.", "input": "Eiche", **sides}
    assert find_shape([row], need=need).to_group(row, "").messages[0].content == "Translate.\n\nEiche"


def test_a_context_beside_pairs_is_not_passed_over_in_silence() -> None:
    row = {"instruction": ASK, "context": "A wood.", "response_a": GOOD, "response_b": BAD, "winner": "a"}
    assert "'context' is not read" in find_shape([row]).description


def test_a_conversation_is_not_offered_as_its_own_response() -> None:
    with pytest.raises(DataError) as caught:
        find_shape([{"conversations": [human("Hi"), gpt("Hello!"), human(ASK)]}])
    assert "--columns" not in (caught.value.hint or "")
    assert "--generate" in (caught.value.hint or "")
