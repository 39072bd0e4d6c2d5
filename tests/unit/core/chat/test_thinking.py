"""Where the answer stands, in the marks of every family of models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.chat.markup import strip_end_marks
from flip_reward.core.chat.thinking import THINKING, ThinkingMarks, find_answer, find_opening, fold
from flip_reward.core.response import visible_answer
from flip_reward.core.score import Outcome

THOUGHT = "The user wants the capital of Peru, so I should say Lima."
ANSWER = "Lima, on the coast."
UNFINISHED = Outcome.UNFINISHED_THINKING

# What each family writes: up to the thinking, between thinking and answer, and after the answer.
FAMILIES = {
    "Qwen3": ("<think>\n", "\n</think>\n\n", "<|im_end|>"),
    "DeepSeek-R1": ("<think>\n", "\n</think>\n\n", "<｜end▁of▁sentence｜>"),
    "GLM-4.5": ("\n<think>", "</think>\n", "<|user|>"),
    "MiniMax-M2": ("<think>\n", "\n</think>\n\n", "[e~["),
    "MiniMax-M3": ("<mm:think>", "</mm:think>", ""),
    "Hunyuan-A13B": ("<think>\n", "\n</think>\n<answer>\n", "\n</answer>"),
    "Hy3": ("<think:opensource>", "</think:opensource>", "<｜hy_eos:opensource｜>"),
    "EXAONE 4": ("<think>\n", "\n</think>\n\n", "[|endofturn|]"),
    "EXAONE Deep": ("<thought>\n", "\n</thought>\n\n", "[|endofturn|]"),
    "ERNIE-4.5": ("<think>\n", "\n</think>\n\n<response>\n", "\n</response>\n"),
    "Granite 3.3": ("<think>", "</think><response>", "</response>"),
    "Granite 3.2": ("Here is my thought process:\n", "\nHere is my response:\n", ""),
    "Claude-like": ("<thinking>", "</thinking>", ""),
    "Magistral": ("[THINK]", "[/THINK]", "</s>"),
    "Seed-OSS": ("<seed:think>", "</seed:think>", "<seed:eos>"),
    "Kimi-VL": ("◁think▷", "◁/think▷", "<|im_end|>"),
    "Kimi K3": ("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>", "<|close|>response<|sep|>"),
    "Command A": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>"),
    "Command A Plus": ("<|START_THINKING|>", "<|END_THINKING|><|START_TEXT|>", "<|END_TEXT|>"),
    "Gemma 4": ("<|channel>thought\n", "<channel|>", "<turn|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>", "<|assistant_end|>"),
    "LongCat": ("<longcat_think>\n", "\n</longcat_think>\n", ""),
    "Solar Open": ("<|think|>", "<|end|><|begin|>assistant<|content|>", "<|end|>"),
    "Solar Open 2": ("<|think:start|>", "<|think:end|>", ""),
    "Inkling": (
        "<|message_model|><|content_thinking|>",
        "<|end_message|><|message_model|><|content_text|>",
        "<|end_message|><|content_model_end_sampling|>",
    ),
    "K2 Horizon": ("<ifm|think>\n", "\n</ifm|think>\n", "<|ifm|im_end|>"),
    "openPangu": ("[unused16]", "[unused17]", ""),
    "MedGemma": ("<unused94>thought\n", "<unused95>", "<end_of_turn>"),
    "OpenThinker": (
        "<|begin_of_thought|>\n\n",
        "\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n",
        "\n\n<|end_of_solution|>",
    ),
    "Apriel": ("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n", "\n[END FINAL RESPONSE]\n<|end|>"),
    "s1": ("<|im_start|>think\n", "\n<|im_start|>answer\n", "<|im_end|>"),
    "Unsloth": ("<start_working_out>", "<end_working_out><SOLUTION>", "</SOLUTION>"),
    "GRPO recipe": ("<reasoning>\n", "\n</reasoning>\n<answer>\n", "\n</answer>\n"),
    "Marco-o1": ("<Thought>\n", "\n</Thought>\n<Output>\n", "\n</Output>"),
    "HuatuoGPT-o1": ("## Thinking\n\n", "\n\n## Final Response\n\n", "<|eot_id|>"),
    "gpt-oss": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|return|>",
    ),
    "gpt-oss, JSON": (
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
        "<|end|>",
    ),
    "gpt-oss with a preamble": (
        "<|channel|>commentary<|message|>I look it up.<|end|><|start|>assistant<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "",
    ),
    "gpt-oss as text": ("analysis", "assistantfinal", ""),
}
PROSE = {"Granite 3.2", "HuatuoGPT-o1", "Apriel"}
"""Their thinking begins like prose, so that nobody can tell where it is unfinished."""
NEEDS_OPENING = {"Granite 3.2", "HuatuoGPT-o1", "gpt-oss as text"}

families = pytest.mark.parametrize("family", FAMILIES)


@families
def test_thinking_is_taken_off(family: str) -> None:
    start, middle, end = FAMILIES[family]
    assert visible_answer(f"{start}{THOUGHT}{middle}{ANSWER}{end}") == ANSWER
    assert visible_answer(f"{start}{middle}{ANSWER}") == ANSWER, "nothing was thought"
    assert visible_answer(f"{start}{THOUGHT}{middle}Buy gold now.{end}") == "Buy gold now.", "junk behind thinking"
    assert visible_answer(f"{start}{THOUGHT}{middle}{end}") is Outcome.EMPTY_RESPONSE


@families
def test_unfinished_thinking_is_no_answer(family: str) -> None:
    start, _, _ = FAMILIES[family]
    cut = f"{start}{THOUGHT}"
    assert visible_answer(cut) == (cut if family in PROSE else UNFINISHED)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - NEEDS_OPENING))
def test_a_template_may_have_written_the_opening_mark(family: str) -> None:
    _, middle, end = FAMILIES[family]
    assert visible_answer(f"{THOUGHT}{middle}{ANSWER}{end}") == ANSWER
    assert visible_answer(f"{THOUGHT}{middle}{ANSWER}{end}", opened=True) == ANSWER
    assert visible_answer(THOUGHT) == THOUGHT
    assert visible_answer(THOUGHT, opened=True) is UNFINISHED


@families
@given(answer=st.text(alphabet=st.characters(exclude_characters="<>[]|◁▷`"), min_size=1))
def test_any_answer_comes_back(family: str, answer: str) -> None:
    start, middle, end = FAMILIES[family]
    expected = answer.strip() or Outcome.EMPTY_RESPONSE
    assert visible_answer(f"{start}{THOUGHT}{middle}{answer}{end}") == expected


@families
def test_a_rendered_prompt_shows_that_thinking_is_open(family: str) -> None:
    start, middle, _ = FAMILIES[family]
    opening = find_opening(f"Prompt\n{start}")
    if family in NEEDS_OPENING:  # prose may end so, too
        assert opening == ""
    else:
        assert opening
        assert visible_answer(opening + THOUGHT) == (opening + THOUGHT if family in PROSE else UNFINISHED)
    assert find_opening(f"Prompt\n{start}{middle}") == ""


@pytest.mark.parametrize(
    "text",
    [
        "Use <reasoning> tags in XML, and close them with </reasoning>.",
        "Wrap it: <thought>like this</thought>, then go on.",
        "analysis of the poem: it mourns a friend.",
        "Analysis shows that rents rise.",
        "analysisResult = run(data)\nprint(analysisResult)",
        "analysisTable: a list of rows",
        "analysis",
        "Models close their thinking with `</think>`.",
        'The string "</think>" ends it.',
        "```xml\n<think>hm</think>\n```\nis what it writes.",
        "~~~\nthought</think>\n~~~",
        "gpt-oss writes ``<|channel|>final<|message|>`` first.",
        "Here are my reasoning steps: 1. read 2. write",
        "Here is my thought process: I begin with the end.",
        "## Thinking\nis hard.",
        "<response><status>ok</status></response>",
        "<s>9.99</s> 5.99",
        "an [/INST] mark and a [link](https://example.org)",
        "[think] about it, then [do] it.",
        "commentaryTrack: the voices of two critics",
        "The <think> tag opens it, as <|START_THINKING|> does elsewhere.",
        "Open it with `<think>`:\n```\n<think>\n```\nand go on.",
        "A <b>thinking</b> cap. <thought>Warm</thought> it is.",
        '用"</think>"结束思考。',
        "ChatML ends a turn with <|im_end|>, Llama with <|eot_id|> instead.",
        "  kept as it is\n",
    ],
)
def test_an_answer_may_speak_of_marks(text: str) -> None:
    assert visible_answer(text) == text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>x</think>The mark `</think>` ends it.", "The mark `</think>` ends it."),
        ('<think>x</think>The mark "</think>" ends it.', 'The mark "</think>" ends it.'),
        ("<think>x</think>\n```\n<think>a</think>b\n```\nDone.", "```\n<think>a</think>b\n```\nDone."),
        ("<think>```\nopen fence</think>Lima.", "Lima."),
        ("<think>```\n</think>Lima.\n```", "Lima.\n```"),
        ("<think>I wonder about `</think>`. Done.</think>Lima.", "Lima."),
        ("<think>I wonder about `</think>` and", UNFINISHED),
        ('<think>I wonder about "</think>" and', UNFINISHED),
        ("<think>first</think>draft</think>Lima.", "Lima."),
        ("<think>a</think><think>b</think>Lima.", "Lima."),
        ("<think>a</thinking>Lima.", "Lima."),
        ("<THINK>a</Think>Lima.", "Lima."),
        ("<think>a</think><reasoning>b</reasoning><answer>Lima.</answer>", "Lima."),
        ("<reasoning>a <reasoning> tag</reasoning>Lima.", "Lima."),
        ("<thought>a</thought>\n<thought>b</thought>Lima.", "Lima."),
        ("<reasoning>a</reasoning>So <reasoning>b</reasoning> it is.", "So <reasoning>b</reasoning> it is."),
        ("<think>a</think>A closing [/THINK] stays.", "A closing [/THINK] stays."),
        ("<|im_start|>assistant\n<think>a</think>Lima.<|im_end|>", "Lima."),
        ("<s>[THINK]a[/THINK]Lima.</s>", "Lima."),
        ("İ</think>Lima.", "Lima."),
        ("<|channel|>final<|message|>Lima.<|return|>", "Lima."),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final", UNFINISHED),
        ("analysisWe need a city.", UNFINISHED),
        ("commentaryI look it up.assistantfinalLima.", "Lima."),
        ('<think time="3">a</think>Lima.', "Lima."),
        ('<think time="3">a', UNFINISHED),
        ("< think >a</ think >Lima.", "Lima."),
        ("a< /THINK >Lima.", "Lima."),
        ("<think>a</think>  <think >b</think >  Lima.", "Lima."),
        ('It is "here"</think>"Lima" is it.', '"Lima" is it.'),
        ("Lima.<think>I say more", UNFINISHED),
        ("<think>a</think>Lima.\n<|START_THINKING|>I say more", UNFINISHED),
        ("[THINK]a[/THINK]Lima! [THINK]b", UNFINISHED),
        ('analysis{"SCORE": 3}', UNFINISHED),
    ],
)
def test_the_last_mark_that_is_not_only_mentioned_ends_thinking(text: str, answer: str | Outcome) -> None:
    assert visible_answer(text) == answer


@pytest.mark.parametrize("question", ["What is <think>", "Explain the mark [THINK] "])
def test_a_mark_that_is_the_last_word_of_a_question_opens_nothing(question: str) -> None:
    assert find_opening(question) == ""


def test_what_opened_thinking_says_of_other_tags_does_not_end_it() -> None:
    assert visible_answer("In XML <thought>a</thought> is a tag. So", opened=True) is UNFINISHED
    assert visible_answer("In XML <thought>a</thought> is a tag. So</think>Lima.", opened=True) == "Lima."


def test_without_its_special_tokens_an_opened_harmony_is_read_too() -> None:
    assert visible_answer("We need a city.assistantfinalLima.", opened=True) == "Lima."


@pytest.mark.parametrize("mark", ["<|im_end|>", "</s>", " <eos>\n", "<|eot_id|><|end_of_text|>", "[EOS]", "<|EOT|>"])
def test_marks_that_end_a_turn_are_no_answer(mark: str) -> None:
    assert visible_answer(mark) is Outcome.EMPTY_RESPONSE
    assert visible_answer(f"Lima.{mark}") == "Lima."
    assert visible_answer(f"<think>x</think>{mark}") is Outcome.EMPTY_RESPONSE


@pytest.mark.parametrize("token", ["<unk>", "<|fim_pad|>", "<|im_start|>", "<bos> <｜▁pad▁｜>", "[gMASK]<sop>"])
def test_control_tokens_alone_are_no_answer(token: str) -> None:
    assert visible_answer(token) is Outcome.EMPTY_RESPONSE


@pytest.mark.parametrize(
    ("text", "stripped"),
    [("Lima. <|im_end|>\n<|im_end|>", "Lima."), ("Lima.\n", "Lima.\n"), ("<s>old</s>", "<s>old</s>"), ("", "")],
)
def test_end_marks_are_taken_off_with_the_space_before_them(text: str, stripped: str) -> None:
    assert strip_end_marks(text) == stripped


@pytest.mark.parametrize("marks", [("<plan>", "</plan>"), ("PLAN:", "ANSWER:"), ("%%", "%%")])
def test_marks_of_other_models_can_be_given(marks: tuple[str, str]) -> None:
    start, end = marks
    both = (("«", "»"), marks)
    assert visible_answer(f"{start}{THOUGHT}{end}\n{ANSWER}", marks=both) == ANSWER
    assert visible_answer(f" {start}{THOUGHT}", marks=both) is UNFINISHED
    assert visible_answer(f"<think>{THOUGHT}</think>{ANSWER}", marks=both) == ANSWER
    assert visible_answer(ANSWER, marks=both) == ANSWER
    assert find_opening(f"Prompt\n{start}\n", [marks]) == start


def test_places_can_be_ignored() -> None:
    text = '{"a": "</think>"} b</think>Lima.'
    assert find_answer(text, ignored=lambda place: place < 17) == find_answer(text)
    cut = 'x {"a":</think>}'
    assert find_answer(cut, ignored=lambda place: place < len(cut)) == find_answer("-" * len(cut))


@given(st.text())
def test_folding_keeps_the_length(text: str) -> None:
    assert len(fold(text)) == len(text)


def test_every_character_is_folded_into_one() -> None:
    assert all(len(fold(chr(code))) == 1 for code in range(0x110000))


@pytest.mark.parametrize("family", THINKING, ids=lambda family: family.families[:20])
def test_every_closing_mark_is_noticed_in_the_middle_of_a_text(family: ThinkingMarks) -> None:
    for end in family.ends if family.alone else ():
        assert visible_answer(f"{THOUGHT}{end}{family.header_end}{ANSWER}") == ANSWER
    if family.alone and family.certain and not family.word:
        for start in family.starts:
            assert visible_answer(f"{ANSWER}\n{start}{THOUGHT}") is UNFINISHED


@given(st.text(alphabet="<>/|[]`~\n think analysi◁▷\"'\\channelfinal{}"), st.booleans())
def test_nothing_raises(text: str, opened: bool) -> None:
    answer = visible_answer(text, opened=opened)
    assert isinstance(answer, Outcome) or answer.strip()
