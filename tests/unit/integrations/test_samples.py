from __future__ import annotations

import numpy as np
import pytest

from flip_reward.core.chat.learning import learn_markup
from flip_reward.core.chat.template import ChatReader
from flip_reward.core.conversation import Group, Message
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import ConversationError
from flip_reward.integrations.samples import SampleGroup, TextOrChat, group_samples, in_order, read_response
from tests.chat_templates import TEMPLATES, make_render, render_prompt

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}]
THOUGHT = {"type": "thinking", "thinking": "Hm"}


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("plain", "plain"),
        ([], ""),
        ([{"role": "tool", "content": "plum"}], ""),
        ([{"role": "assistant", "content": None, "tool_calls": []}], ""),
        ([{"role": "assistant", "content": [{"type": "text", "text": "A plum."}]}], "A plum."),
        ([{"role": "assistant", "content": "Apple.", "reasoning_content": "Hm"}], "Apple."),
        ([{"role": "assistant", "content": " ", "thinking": "Hm"}], "<think>Hm"),
        ([{"role": "assistant", "content": None, "reasoning": "Hm"}], "<think>Hm"),
        ([{"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "Apple."}]}], "Apple."),
        ([{"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "\n"}]}], "<think>Hm"),
        ([{"role": "assistant", "content": [THOUGHT]}], "<think>Hm"),
        ([{"role": "assistant", "content": []}], ""),
        ([{"role": "assistant", "content": "1"}, {"role": "tool", "content": "2"}], "1"),
        ([{"role": "assistant", "content": "1"}, {"role": "assistant", "content": "3"}], "3"),
        ([Message("assistant", "A plum."), Message("tool", "done")], "A plum."),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": "x"}], ""),
    ],
)
def test_the_last_message_of_the_assistant_is_the_response(
    completion: str | list[dict[str, object]], text: str
) -> None:
    assert read_response(completion) == text


def test_an_image_is_no_response() -> None:
    with pytest.raises(ConversationError):
        read_response([{"role": "assistant", "content": [{"type": "image_url"}]}])


def test_samples_of_one_conversation_are_one_group_wherever_they_stand() -> None:
    groups = group_samples(
        [CHAT, "Name a bird.", CHAT], ["Apple.", "Owl.", [{"role": "assistant", "content": "Pear."}]]
    )
    assert groups == [
        SampleGroup(Group.of(CHAT, ["Apple.", "Pear."]), (0, 2)),
        SampleGroup(Group.of("Name a bird.", "Owl."), (1,)),
    ]
    scores = [[Score(0.1, Outcome.SCORED), Score(0.3, Outcome.SCORED)], [Score(0.2, Outcome.SCORED)]]
    assert [score.value for score in in_order(groups, scores)] == [0.1, 0.2, 0.3]


def test_prompts_may_be_arrays_as_pandas_reads_them() -> None:
    prompts: list[TextOrChat] = [np.array(CHAT), np.array(CHAT), np.array(CHAT[1:])]  # type: ignore[list-item]
    assert [one.places for one in group_samples(prompts, ["Apple.", "Pear.", "Plum."])] == [(0, 1), (2,)]


def test_two_groups_of_one_prompt_are_told_apart_when_the_size_is_known() -> None:
    prompts, completions = ["a"] * 4 + ["b"] * 2, list("123456")
    assert [one.places for one in group_samples(prompts, completions)] == [(0, 1, 2, 3), (4, 5)]
    assert [one.places for one in group_samples(prompts, completions, 2)] == [(0, 1), (2, 3), (4, 5)]


def test_a_rendered_prompt_is_the_conversation_it_was_made_of() -> None:
    text = "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n<think>\n"
    [rendered, plain] = group_samples([text, "Name a bird."], ["Hm</think>Apple.", "Owl."])
    assert rendered.group == Group.of("Name a fruit.", "<think>\nHm</think>Apple.")
    assert plain.group == Group.of("Name a bird.", "Owl.")


def test_whatever_opened_the_thinking_belongs_to_the_response() -> None:
    prefilled = [*CHAT, {"role": "assistant", "content": "<think>\n"}]
    prompts: list[TextOrChat] = ["Question: 1+1? Answer: <think>", prefilled, CHAT, CHAT]
    split_off = [{"role": "assistant", "content": "Apple.", "reasoning_content": "Hm"}]
    groups = group_samples(prompts, ["Hm", "Hm", "Hm", split_off], opening="[THINK]")
    assert [one.group.responses for one in groups] == [("<think>Hm",), ("<think>Hm",), ("[THINK]Hm", "Apple.")]


def test_marks_of_an_unknown_template_are_refused_and_learnt_ones_are_read() -> None:
    prompt = render_prompt(TEMPLATES["nobody's"], Message("user", "Name a fruit."))
    reader = ChatReader(learn_markup(make_render(TEMPLATES["nobody's"])))
    [learnt] = group_samples([prompt], ["Apple."], reader=reader)
    assert learnt.group == Group.of("Name a fruit.", "Apple.")
    with pytest.raises(ConversationError, match="unknown chat template"):
        group_samples(["<|bot_user|>Name a fruit.<|bot_end|><|bot_reply|>"], ["Apple."])


def test_images_in_a_prompt_are_left_out() -> None:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    [one] = group_samples([chat], ["A pear."])
    assert one.group == Group.of("What is this?", "A pear.")


def test_parts_of_a_group_keep_their_places() -> None:
    [one] = group_samples(["a"] * 3, list("123"))
    assert one.only({0, 1, 2}) is one
    assert one.only({5}) is None
    assert one.only({2, 0}) == SampleGroup(Group.of("a", ["1", "3"]), (0, 2))


def test_prompts_and_completions_come_in_pairs() -> None:
    assert group_samples([], []) == []
    with pytest.raises(ValueError, match="shorter"):
        group_samples(["one", "two"], ["one"])


def test_a_prompt_without_a_role_is_refused() -> None:
    with pytest.raises(ConversationError):
        group_samples([[{"content": "hi"}]], ["x"])
