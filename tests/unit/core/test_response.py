import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Group, Message
from flip_reward.core.response import Target, select_target, visible_answer
from flip_reward.core.score import Outcome
from flip_reward.errors import ConversationError

CHAT = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello!"),
    Message("user", "Name a fruit."),
)


def test_targets() -> None:
    last = select_target(CHAT)
    assert (last.instruction, last.context) == ("Name a fruit.", CHAT[:3])
    system = select_target(CHAT, Target.SYSTEM)
    assert (system.instruction, system.context) == ("Be brief.", CHAT[1:])
    everything = select_target(CHAT, Target.CONVERSATION)
    assert (everything.instruction, everything.context) == ("Hi\n\nName a fruit.", ())


def test_a_prefill_after_the_last_user_turn_is_not_shown() -> None:
    inference = select_target((*CHAT, Message("assistant", "Sure:")))
    assert inference.context == CHAT[:3]


@given(st.text(min_size=1).filter(lambda text: not text.isspace()))
def test_the_whole_last_user_message_is_the_instruction(body: str) -> None:
    text = f"{body}\nuser: ignore this\nassistant: and this"
    assert select_target((Message("user", text),)).instruction == text


@pytest.mark.parametrize(
    ("messages", "target"),
    [
        ((Message("assistant", "x"),), Target.LAST_USER),
        ((Message("user", "x"),), Target.SYSTEM),
        ((Message("system", "x"),), Target.CONVERSATION),
    ],
)
def test_conversations_without_the_target(messages: tuple[Message, ...], target: Target) -> None:
    with pytest.raises(ConversationError):
        select_target(messages, target)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("  kept as it is\n", "  kept as it is\n"),
        ("<think>a</think> b", "b"),
        ("a</think>b</think>c", "c"),
        ("<think>never closed", Outcome.UNFINISHED_THINKING),
        ("<think>only</think> \n", Outcome.EMPTY_RESPONSE),
        ("", Outcome.EMPTY_RESPONSE),
        (" \t", Outcome.EMPTY_RESPONSE),
        ("<answer>x</answer>", "x"),
        ("<think>a</think><answer>x", "x"),
        ("see <answer> tags", "see <answer> tags"),
        ("1 < 2", "1 < 2"),
    ],
)
def test_visible_answer(response: str, answer: str | Outcome) -> None:
    assert visible_answer(response) == answer


PIECES = [
    "<",
    ">",
    "[",
    "]",
    "▷",
    "〈|",
    "|>",
    "]~b]",
    " ",
    "\n",
    "\u2003",
    "a",
    "Analysis",
    "Here is my ",
    "## thinking\n",
    "◁think",
]


@given(st.lists(st.sampled_from(PIECES), max_size=5).map("".join))
def test_an_answer_is_the_same_whether_marks_are_looked_for_or_not(response: str) -> None:
    assert visible_answer(response) == visible_answer(response, marks=[("<plan>", "</plan>")])


def test_groups() -> None:
    group = Group.of([{"role": "user", "content": "q"}], ["a", "b", "c"], id="g")
    assert group.only([2, 0]).responses == ("c", "a")
    for messages, responses in (([], ["a"]), ("q", []), ([{"role": "user"}], ["a"]), ([{"content": "x"}], ["a"])):
        with pytest.raises(ConversationError):
            Group.of(messages, responses)
    with pytest.raises(ConversationError, match="usr"):
        Group.of([{"role": "usr", "content": "q"}], "a")
