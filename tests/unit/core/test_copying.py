from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.copying import CAUTIOUS_SHARE, Copying, instruction_without_material

ASKED = "Explain to a young child how the moon makes the tides, with one example from daily life."
ANSWER = "Water follows a pull, as your toys follow a string."
CHINESE = "请用三句话给小朋友解释一下月亮怎样引起海水的涨潮和退潮。"
QUOTES = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "quoting_instructions.jsonl").read_text("utf-8").splitlines()
]


def shuffled(text: str) -> str:
    words = text.split()
    random.Random(3).shuffle(words)
    return " ".join(words)


ECHOES = {
    "alone": ASKED,
    "capitals": ASKED.upper(),
    "quoted": f'You asked: "{ASKED}"',
    "fenced": f"```text\n{ASKED}\n```",
    "comment": f"<!-- {ASKED} -->",
    "marks between words": "* | ".join(ASKED.split()),
    "marks in words": ASKED.replace("moon", "mo\u00adon").replace("tides", "**ti**\u200bdes").replace("*", "\u2060"),
    "without articles": ASKED.replace(" the", "").replace(" a ", " "),
    "zero width": "\u200b".join(ASKED),
    "fullwidth": "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in ASKED),
    "accents": ASKED.replace("o", "ó").replace("e", "ë"),
    "base64": base64.b64encode(ASKED.encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(ASKED.encode()).decode().rstrip("="),
    "another order": shuffled(ASKED),
    "backwards": " ".join(reversed(ASKED.split())),
    "letters apart": " ".join(ASKED),
    "letters with marks": "-".join(ASKED.replace(" ", "")),
    "marks within words": " ".join(f"**{word[:1]}**{word[1:]}" for word in ASKED.split()),
    "no blanks": "".join(word.capitalize() for word in ASKED.split()),
    "numbered": "\n".join(f"{number}. {word}" for number, word in enumerate(ASKED.split(), start=1)),
    "numbers behind": " ".join(f"{word} ({number})" for number, word in enumerate(ASKED.split())),
    "Cyrillic that looks alike": ASKED.translate(str.maketrans("aeopcxiE", "аеорсхіЕ")),
    "small capitals": ASKED.translate(str.maketrans("abcdeimnot", "ᴀʙᴄᴅᴇɪᴍɴᴏᴛ")),
    "tags": "".join(chr(0xE0000 + ord(one)) for one in ASKED),
    "telling words": "Explain young child moon makes tides one example daily life",
}


def copied_share(instruction: str, response: str) -> float | None:
    return Copying.of(instruction).measure_share(response)


def mask_copies(instruction: str, response: str, least_share: float = 0.0) -> str | None:
    return Copying.of(instruction).mask(response, least_share)


@pytest.mark.parametrize("name", sorted(ECHOES))
def test_an_echo_is_found_and_taken_out_however_it_is_written(name: str) -> None:
    assert (copied_share(ASKED, ECHOES[name]) or 0) >= 0.8
    left = mask_copies(ASKED, f"{ECHOES[name]}\n\n{ANSWER}")
    assert left is not None
    assert left.endswith("follows a pull, as your toys follow a string.")
    assert not copied_share(ASKED, left)
    assert not {"moon", "tides", "daily"} & set(left.lower().split())


def test_marks_around_a_copy_go_with_it() -> None:
    assert mask_copies(ASKED, f'So "{ASKED}", you ask? (**{ASKED}**) Waves.') == "So you ask? Waves."


@pytest.mark.parametrize("name", ["alone", "base64", "capitals", "fullwidth", "zero width"])
def test_nothing_is_left_of_an_echo_alone(name: str) -> None:
    assert mask_copies(ASKED, f"> {ECHOES[name]} <!--") == ""


def test_an_answer_in_its_own_words_is_left_as_it_is() -> None:
    assert copied_share(ASKED, ANSWER) == 0
    assert mask_copies(ASKED, ANSWER) is None
    assert mask_copies(ASKED, "The moon makes the water rise, and so there are tides in daily life.") is None


def test_the_share_rises_with_what_is_copied() -> None:
    words = ASKED.replace(" a ", " ").replace(" the ", " ").split()
    beginnings = [" ".join(words[:count]) for count in range(3, len(words) + 1)]
    shares = [copied_share(ASKED, f"{ANSWER} {beginning}") or 0.0 for beginning in beginnings]
    assert shares == sorted(shares)
    assert shares[:7] == pytest.approx([count / (len(words) - 3) for count in range(7)])
    assert shares[-1] == 1
    for beginning, share in zip(beginnings, shares, strict=True):
        assert mask_copies(ASKED, beginning, least_share=0.5) == ("" if share >= 0.5 else None)


def test_scripts_without_blanks() -> None:
    assert copied_share(CHINESE, f"{CHINESE}月亮会拉海水。") == 1
    assert copied_share(CHINESE, "海水被月亮的引力拉向它那一边。") == 0
    assert mask_copies(CHINESE, CHINESE) == ""
    left = mask_copies(CHINESE, "、".join(CHINESE) + "\n\nWater follows.")
    assert left is not None
    assert left.endswith("Water follows.")


LONG = " ".join(
    first + last
    for first in ("moon", "tide", "star", "wind")
    for last in ("light", "water", "field", "storm", "watch", "break", "mill", "song")
)


@pytest.mark.parametrize("instruction", [ASKED, LONG])
def test_letters_are_a_copy_where_most_of_them_stand_there(instruction: str) -> None:
    letters = re.sub("[^a-z]", "", instruction.lower())
    assert copied_share(instruction, "-".join(letters)) == 1.0
    assert copied_share(instruction, "-".join(letters[: len(letters) // 2])) == 0.0


@pytest.mark.parametrize(
    "asked",
    [
        "اشرح لطفل صغير كيف يسبب القمر المد والجزر مع مثال واحد من الحياة اليومية.",
        "달이 어떻게 밀물과 썰물을 일으키는지 어린아이에게 일상생활의 예를 하나 들어 설명해 주세요.",
        "อธิบายให้เด็กเล็กฟังว่าดวงจันทร์ทำให้เกิดน้ำขึ้นน้ำลงได้อย่างไร",
        "Explícale a un niño pequeño cómo la luna causa las mareas, con un ejemplo de la vida diaria.",
        "Объясни ребёнку, как луна вызывает приливы и отливы, с одним примером из жизни.",
    ],
)
def test_letters_of_other_scripts_are_a_copy_too(asked: str) -> None:
    for echo in (asked, " ".join(asked), "-".join(asked), asked.replace(" ", ""), "* ".join(asked.split())):
        left = mask_copies(asked, f"{echo}\n\nWater follows.", CAUTIOUS_SHARE)
        assert re.fullmatch(r"\W*Water follows\.", left or ""), echo
    assert copied_share(asked, "Water follows a pull, as your toys follow a string. 水跟着走。") == 0


def test_letters_that_an_answer_has_in_its_own_words_are_no_copy() -> None:
    assert copied_share("What is the capital of France?", "The capital of France is Paris.") == 0
    assert copied_share("How many days are in a leap year?", "A leap-year has 366 days.") == 0
    assert copied_share("Say it in 1 or 2 short lines", "1 short, 2 long") == 0


@pytest.mark.parametrize(
    ("asked", "response", "left"),
    [
        ("Write haiku", "Write haiku!", ""),
        ("Write haiku", "Snow on the gate. write, HAIKU", "Snow on the gate."),
        ("Write haiku", "I write no haiku.", None),
        ("Hi", "Hello", None),
        ("?!", "?!", None),
        ("", "text", None),
        ("Write haiku", "", None),
    ],
)
def test_of_few_words_all_are_a_copy(asked: str, response: str, left: str | None) -> None:
    assert mask_copies(asked, response) == left


def test_an_instruction_without_words_has_no_share() -> None:
    assert copied_share("?! …", "?! …") is None
    assert copied_share("", "") is None
    assert copied_share("Hi", "") == 0


@pytest.mark.parametrize(
    ("asked", "own"),
    [
        ("Translate into Greek: The shop is closed.", "Translate into Greek:"),
        ("Shorten this.\n\nThe shop is closed today.\n\nCome back on Monday.", "Shorten this."),
        ("The shop is closed today.\n\nShorten the text above.", "Shorten the text above."),
        ('What is wrong in "He go home" here?', "What is wrong in  here?"),
        ("Why does `print(1` fail?", "Why does  fail?"),
        ("```py\nx = 1\n```\nRename x.", "Rename x."),
        ("Who wrote this?\n> It was the best of times,\n> it was the worst of times", "Who wrote this?"),
        ("```py\nx = 1\n```\n\nRename x: y", "Rename x:"),
        ("What does « bonjour tout le monde » mean?", "What does  mean?"),
        ("翻译：今天天气很好。", "翻译："),
        ("Question: how deep is the sea?", "Question: how deep is the sea?"),
        ("What's a dog's life, and isn't it a cat's?", "What's a dog's life, and isn't it a cat's?"),
        ("Be here at 10:30 or call http://x.y", "Be here at 10:30 or call http://x.y"),
        ('"All of it is quoted."', '"All of it is quoted."'),
        ("", ""),
    ],
)
def test_what_an_instruction_gives_to_work_on_is_not_its_own(asked: str, own: str) -> None:
    assert instruction_without_material(asked) == own


def test_material_may_be_quoted_but_goes_with_an_echo_of_everything() -> None:
    asked = "Correct the grammar and keep the meaning of this sentence:\nHim and me was late for the school bus."
    assert mask_copies(asked, "Him and me was late for the school bus -> He and I were late for the bus.") is None
    assert mask_copies(asked, f"{asked} {ANSWER}") == ANSWER


@pytest.mark.parametrize(
    "frame",
    [
        "### Instruction:\n\n{}",
        "**Task**\n\n{}",
        "Question\n{}",
        "Below is an instruction. Write a response that completes it.\n\n### Instruction:\n{}\n\n### Response:",
    ],
)
def test_an_instruction_begins_after_its_label(frame: str) -> None:
    asked = "Write a short poem about the sea in winter."
    assert instruction_without_material(frame.format(asked)) == asked
    assert Copying.of(frame.format(asked)).mask(f"{asked} Waves.") == "Waves."


def test_nothing_invisible_is_left_of_a_copy() -> None:
    copying = Copying.of("Write a short poem about the sea.")
    assert copying.mask("\u202eWrite a short poem about the sea\xad.\u202c Waves.") == "Waves."
    assert copying.mask("\u200bWrite a short poem about the sea!\u200b **") == ""


def test_few_own_words_are_one_with_the_material_they_touch() -> None:
    asked = "Translate: The shop is closed today."
    assert copied_share(asked, "Translate that? The shop is closed today.") == 0
    assert copied_share(asked, f"{asked} {ANSWER}") == 1


@pytest.mark.parametrize(
    "row", [row for row in QUOTES if row["kind"] != "without marks"], ids=lambda row: row["prompt"]
)
def test_right_answers_that_quote_are_left_as_they_are(row: dict[str, str]) -> None:
    assert (copied_share(row["prompt"], row["response"]) or 0) < CAUTIOUS_SHARE


def test_there_are_enough_quotes() -> None:
    kinds = [row["kind"] for row in QUOTES]
    assert len(QUOTES) >= 60
    assert len(set(kinds)) >= 10


@given(st.text(), st.text())
def test_any_text_has_a_share_and_what_is_left_is_of_it(asked: str, response: str) -> None:
    copying = Copying.of(asked)
    share = copying.measure_share(response)
    assert share is None or 0 <= share <= 1
    left = copying.mask(response)
    assert (left is None) == (not share)
    assert left is None or (len(left) <= len(response) and left != response)
    assert copying.mask(asked) in ("", None)


WORDS = st.lists(
    st.sampled_from(["a", "the", "of", "in", "red", "blue", "moon", "tide", "tides", "child", "explain", "write"]),
    max_size=14,
)


def share_of_rows(asked: Sequence[str], given: Sequence[str], span: int) -> float:
    """The share of all rows of so many that stand in both."""
    span = min(span, len(asked))
    rows, others = ({tuple(one[at : at + span]) for at in range(len(one) - span + 1)} for one in (asked, given))
    return len(rows & others) / len(rows)


def measure_plainly(asked: Sequence[str], response: Sequence[str]) -> float | None:
    """The share of copies as it is described, in the shortest words: of instructions without material."""
    letters, others = ("".join(words) for words in (asked, response))
    own, words = ([word for word in one if word not in {"a", "the"}] for one in (asked, response))
    if not own:
        return None
    share = share_of_rows(own, words, 4)
    telling, window = set(own) - {"of", "in"}, len(own) + len(own) // 4
    together = max((len(telling & set(words[at : at + window])) for at in range(len(words))), default=0)
    if len(telling) >= 3 and together >= max(2 / 3 * len(telling), min(4, len(telling))):
        share = max(share, together / len(telling))
    spelled = share_of_rows(letters, others, 16) if len(letters) >= 16 else 0.0
    return spelled if share < 0.8 <= spelled else share


@given(WORDS, WORDS, st.randoms(use_true_random=False))
def test_the_share_is_that_of_a_plain_count(asked: list[str], other: list[str], chance: random.Random) -> None:
    start, stop = sorted(chance.choices(range(len(asked) + 1), k=2))
    copied = asked[start:stop]
    if chance.random() < 0.3:
        chance.shuffle(copied)
    place = chance.randint(0, len(other))
    response = other[:place] + copied + other[place:]
    blank = chance.choice([" ", ", ", "-", ". "])
    assert copied_share(" ".join(asked), blank.join(response)) == measure_plainly(asked, response)


@given(st.text(alphabet="ab \n:\"`'“”*éA", max_size=60), st.text(alphabet="ab \n", max_size=20))
def test_an_instruction_with_anything_around_it_is_found(asked: str, around: str) -> None:
    share = copied_share(asked, f"{around} {asked} {around}")
    assert share in (None, 1)


@pytest.mark.parametrize(
    ("instruction", "response", "marked"),
    [
        (
            "Name three red fruits now.",
            "You ask: **name three red** FRUITS now! Pears.",
            ["name three red** FRUITS now"],
        ),
        ("hello, there", "You said: Hello there! Hello.", ["Hello there"]),
        ("请介绍一下长江的历史和文化", "好的。请介绍一下长江的历史和文化。山水。", ["请介绍一下长江的历史和文化"]),
        ("Name three red fruits.", "N\u200bame three red fruits, Ann.", ["N\u200bame three red fruits"]),
        ("Translate: the sea is calm today", "The sea is calm today? La mer.", ["sea is calm today"]),
        ("Name three red fruits.", "Pears, plums.", []),
        ("...", "...", []),
    ],
)
def test_copies_are_marked_where_they_stand(instruction: str, response: str, marked: list[str]) -> None:
    bounds = Copying.of(instruction).place(response)
    assert [response[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)] == marked
