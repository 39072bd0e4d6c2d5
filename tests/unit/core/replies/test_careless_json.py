import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_reward.core.replies.careless_json import compile_members, mend_backslashes, read_members, unescape
from flip_reward.core.replies.parse import ReplyStatus, parse_inferred_instruction

LAYOUTS = [
    '{"REASONING": "fine", "INFERRED INSTRUCTION": "%s"}',
    '{"INFERRED INSTRUCTION": "%s", "REASONING": "It fits."}',
    '```json\n{\n  "REASONING": "fine",\n  "INFERRED INSTRUCTION": "%s"\n}\n```',
    '```json\n{\n  "INFERRED INSTRUCTION": "%s",\n  "REASONING": "It "fits"."\n}\n```',
    'Here it is:\n{"REASONING": "fine", "INFERRED INSTRUCTION": "%s"}<|im_end|>',
    "{“REASONING”： “fine”， “INFERRED INSTRUCTION”： “%s”}",
]


def infer(reply: str) -> str | None:
    return parse_inferred_instruction(reply).instruction


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "instruction",
    [
        'Spell "rhythm", "liaison" and "queue".',
        'Which is older: "The Iliad", or "The Odyssey"?',
        '"Yes", "no", or "maybe"',
        'Turn {"city": "Oslo", "rain": true} into YAML.',
        "Why does while (x) { y(); } never end?",
        'Finish the pairs "up": "down", "left": ?',
        'Set id="top", and class="wide".',
        'A 27" screen, or two 24" ones?',
        r"Differentiate $\frac{x}{2} + \tan x$.",
        r"Show that $\beta \neq \nu$.",
        r"Is $\nabla f$ a vector in $\mathbb{R}^3$?",
        r"What does \b match in \bcat\b?",
        r"Split on \s*,\s* or on \t, not on \n.",
        r"Move C:\new\table to D:\temp.",
        r"List \\server\share\reports.",
        r"Say \unlikely things.",
        r"Solve $\left\{ x > 0 \right.$",
    ],
)
def test_text_pasted_into_an_object_is_read_whole(layout: str, instruction: str) -> None:
    assert infer(layout % instruction) == instruction


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (r"1. apples\n2. pears", "1. apples\n2. pears"),
        (r"Translate:\nnew shoes\told hats", "Translate:\nnew shoes\told hats"),
        (r"Q:\nwhat is it?\nA:\nnothing", "Q:\nwhat is it?\nA:\nnothing"),
        (r"one\nu or\nne", "one\nu or\nne"),
        (r"Mac \/ Windows\r\nor both", "Mac / Windows\r\nor both"),
        (r"caf\u00e9 \ud83d\ude00", "café \ud83d\ude00"),
        (r"a\\b and \\frac", r"a\b and \frac"),
        (r"don\'t say \"hi\"", 'don\'t say "hi"'),
        (r"Solve:\n1. $\frac{1}{2}x = 3$\n2. $\beta = 1$", "Solve:\n1. $\\frac{1}{2}x = 3$\n2. $\\beta = 1$"),
        (r"Use \(x\).\n\nThen say \"hi\".", 'Use \\(x\\).\n\nThen say "hi".'),
        (r"Why \d?\ndef f():\n    return 1", "Why \\d?\ndef f():\n    return 1"),
        ("Print\n\\d", "Print\n\\d"),
        (
            r"Run this:\n```python\nx = 1\n```\nand explain \d+.",
            "Run this:\n```python\nx = 1\n```\nand explain \\d+.",
        ),
        (r"Solve $\frac{1}{2}x$. \n\nShow steps. \n- first", "Solve $\\frac{1}{2}x$. \n\nShow steps. \n- first"),
        (r"\frac{1}{2}\ny=3\nand \(x\),\nthen \(y\)", "\\frac{1}{2}\ny=3\nand \\(x\\),\nthen \\(y\\)"),
        (r"\section{A}\nHello\n\section{B}\r\nbye\n", "\\section{A}\nHello\n\\section{B}\r\nbye\n"),
        (r"for (;;) {\n  x;\n}\n\d\n<b>x</b>\n</p>", "for (;;) {\n  x;\n}\n\\d\n<b>x</b>\n</p>"),
        (r"def f():\n\treturn '\d'\nName\tage\tB", "def f():\n\treturn '\\d'\nName\tage\tB"),
        (r"Say:\n\"hi\"\n\"bye\" \(x\)", 'Say:\n"hi"\n"bye" \\(x\\)'),
        (r"写一首诗\n关于\(x\), caf\u00e9", "写一首诗\n关于\\(x\\), café"),
        (r"It is in D:\temp\notes.\nRead it", "It is in D:\\temp\\notes.\nRead it"),
        (r"He said \"\n. And", 'He said "\n. And'),
        (r"Plan B:\nuse it", "Plan B:\nuse it"),
        (r'Say:\n"a"\n"b!"\n"¿c?"', 'Say:\n"a"\n"b!"\n"¿c?"'),
        (r"Is it so?\nexists x\ne poi", "Is it so?\nexists x\ne poi"),
    ],
)
def test_escapes_that_are_meant_are_decoded(raw: str, meant: str) -> None:
    assert unescape(raw) == meant


@pytest.mark.parametrize(
    "text",
    [
        r"What is \nu?",
        r"if x \ne y or a \nmid b",
        r"Simplify $\nicefrac{1}{2}$",
        r"\textbackslash, \textsuperscript{2}, \triangleleft",
        r"Open src\new\data.csv and src\data\new.csv",
        r"C:\Program Files (x86)\new\table.txt",
        r'split("\n") in \d',
        r"Match [\n\t] or \s",
        r'print("a\n") with \d',
        r'What does "\n" mean in C?',
        r"Cut it at '\t', please",
    ],
)
def test_backslashes_that_are_meant_are_kept(text: str) -> None:
    assert unescape(text) == text


def test_only_careless_strings_of_a_complete_object_change() -> None:
    mended = json.loads(mend_backslashes(r'{"a": "$\theta$ and \"b\"", "b": "x\ty\nz", "c": [1, "\\tan"]}'))
    assert mended == {"a": '$\\theta$ and "b"', "b": "x\ty\nz", "c": [1, "\\tan"]}


def test_a_real_line_break_beside_careless_backslashes_stays_one() -> None:
    instruction = "Solve \\(x\\) on drive C:\nand show why."
    assert infer(f'{{"REASONING": "fine", "INFERRED INSTRUCTION": "{instruction}"}}') == instruction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"SCORE": 8/10, "REASONING": "So "good"."}', ("8/10", 'So "good".')),
        ('{"REASONING": "So "good".", "SCORE": 8}', (8, 'So "good".')),
        ("{'REASONING': \"It's fine.\", 'SCORE': None}", (None, "It's fine.")),
        ('{REASONING: "fine", SCORE: "8"}', ("8", "fine")),
        ('"REASONING": "fine {x}",\n"SCORE": 8', (8, "fine {x}")),
        ('{"REASONING": "fine"\n"SCORE": 8,}', (8, "fine")),
        ('{"SCORE": 8, "confidence": "He "is" sure", "REASONING": "x"}', (8, "x")),
        ('{"REASONING": "x", "SCORE": "8", "NOTES": "He said "b"."}', ("8", "x")),
        ('{"language": "en", "REASONING": "a "b"", "SCORE": 8, "sure": true, "by": "me"}', (8, 'a "b"')),
        ('｛"REASONING"："fine"，"SCORE"："8"｝', ("8", "fine")),
    ],
)
def test_other_carelessness(text: str, expected: tuple[object, str]) -> None:
    assert read_members(text, compile_members("score")) == expected


@pytest.mark.parametrize(
    "reply",
    [
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "Say "hello" to me',
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "Explain {"type": "object"} in JSON',
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "Explain {"type": "object"}',
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "What does "}" mean in C?"}',
        '{"INFERRED INSTRUCTION": "Explain "}, and why" it stands there", "REASONING": "fine"}',
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "Explain "}{" in LaTeX"}',
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "Where is "} else {" used?"}',
        '{"INFERRED INSTRUCTION": "Write "reasoning": in capitals, "reasoning": first", "REASONING": "fine"}',
        '{"INFERRED INSTRUCTION": "Say "a".", "NOTES": "He said "b".", "REASONING": "fine"}',
        '{"INFERRED INSTRUCTION": "Say "a".",\n "notes": "He said "b"."}',
        '{"INFERRED INSTRUCTION": ["Say "a"", "b"]}',
        '{"INFERRED INSTRUCTION": Say hello."}',
        '{"REASONING": "fine", "INFERRED INSTRUCTION": "Go to C:\\"}',
        '{"INFERRED INSTRUCTION": "one", "REASONING": "fine", "INFERRED INSTRUCTION": "two"}',
    ],
)
def test_where_a_part_could_be_lost_there_is_no_verdict(reply: str) -> None:
    assert parse_inferred_instruction(reply).status is ReplyStatus.UNPARSEABLE


@given(st.text(alphabet=string.ascii_letters + "\"'{}[]:. ", min_size=1), st.sampled_from(LAYOUTS[:4]))
@settings(max_examples=500)
def test_no_letter_is_lost(instruction: str, layout: str) -> None:
    read = infer(layout % instruction)
    assert read is None or list(filter(str.isalpha, read)) == list(filter(str.isalpha, instruction))


@given(st.text(alphabet=string.printable))
def test_nothing_raises(text: str) -> None:
    unescape(text)
    read_members(text, compile_members("score"))
