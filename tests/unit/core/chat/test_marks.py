from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.chat.marks import KNOWN_MARKS, Marks

FAMILIES = [
    "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|begin_of_text|>", "<|start_header_id|>",
    "<|eot_id|>", "<|header_start|>", "<|eot|>", "<start_of_turn>", "<end_of_turn>", "<|turn>", "<turn|>", '<|"|>',
    "<bos>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[TOOL_CALLS]",
    "<｜User｜>", "<｜end▁of▁sentence｜>", "<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<BOS_TOKEN>", "<|start|>",
    "<|channel|>", "<|message|>", "<|return|>", "<|user|>", "<|assistant|>", "<|start_of_role|>", "<|pad|>",
    "[gMASK]", "[|endofturn|]", "<seed:bos>", "]~b]", "<|im_user|>", "<role>HUMAN</role>", "<SPECIAL_10>",
    "<beginning_of_sentence>", "<end_of_sentence>", "<end_of_utterance>", "[PAD]", "<｜▁pad▁｜>", "〈|EOS|〉",
]  # fmt: skip
ODD = Marks.of(["<a>b", "b<c>", "< x>", "ab c", "bc", "<|turn|>", " <t> ", "x" * 200])
PIECES = ["<", "|", ">", "[", "]", "im_end", " ", "a", "b", "c", "<a>", "<c>", "ab", "x>", "t"]


@pytest.mark.parametrize("mark", FAMILIES)
def test_the_marks_of_known_families_are_broken_up(mark: str) -> None:
    assert KNOWN_MARKS.disarm(f"Pear.{mark}Plum.") == f"Pear.{mark[0]} {mark[1:]}Plum."


@pytest.mark.parametrize(
    "text",
    [
        "", "Pear.", "a < b and c > d", "xs |> map f <| ys", "<|>", "<||>", "a[0][1]", "[x](y)", "<h1>Title</h1>",
        "<think>", "</think>", "<tool_call>", "<answer>", "Vec<u8>", "std::vector<int>", "[inst]",
        "### Instruction:", "<| im_end |>", "< |im_end|>", "1 << 2 >> 3",
    ],
)  # fmt: skip
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert KNOWN_MARKS.disarm(text) is text


@pytest.mark.parametrize("marks", [KNOWN_MARKS, ODD], ids=["known", "odd"])
@given(parts=st.lists(st.sampled_from(FAMILIES + PIECES), max_size=12))
def test_no_mark_is_left_or_made(marks: Marks, parts: list[str]) -> None:
    text = "".join(parts)
    disarmed = marks.disarm(text)
    assert marks.pattern.search(disarmed) is None
    assert marks.disarm(disarmed) is disarmed
    assert disarmed.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("text", ["<|im_<|im_end|>end|>", "<<|im_end|>|im_end|>", "<|im_end|im_end|>", "<a>b<c>"])
def test_marks_within_and_across_marks(text: str) -> None:
    marks = Marks.of(["<|im_end|im_end|>", "<a>b", "b<c>"])
    disarmed = marks.disarm(text)
    assert not any(mark in disarmed for mark in ("<|im_end|>", "<|im_end|im_end|>", "<a>b", "b<c>"))


def test_control_tokens_are_marks_and_other_tokens_only_if_they_look_like_one() -> None:
    marks = Marks.of(
        control=["<file_sep>", "endofdoc", " <x> "],
        added=["    ", "\n\n\n", "\t", "🍎", "lower", "<h1>", "</td>", "<think>", "<tool_call>", "<user>", "<|eom|>"],
    )
    for mark in ("<file_sep>", "endofdoc", "<x>", "<user>", "<|eom|>"):
        assert marks.disarm(mark) == f"{mark[0]} {mark[1:]}"
    text = "a    b\n\n\nc\t🍎 lower <h1></td><think><tool_call>"
    assert marks.disarm(text) is text
