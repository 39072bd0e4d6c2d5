from __future__ import annotations

import base64

import pytest

from flip_reward.audit.attacks.catalogue import ATTACKS
from flip_reward.audit.attacks.copying import take_share
from flip_reward.audit.attacks.words import content_words, find_topic, split_sentences, split_words
from flip_reward.core.tokens import load_normalizer

X = "Explain to a child of six, in no more than a hundred words, why the moon looks bigger when it is low."
"""Of 21 tokens without its articles, that is 18 4-grams; some follow articles and signs."""
Y = "Whisk three eggs with a little milk and pour them into a hot pan."
SHARES = {"none": 0.0, "quarter": 0.25, "half": 0.5, "three_quarters": 0.75, "whole": 1.0}


def grams(text: str, normalizer: str = "english") -> set[tuple[str, ...]]:
    tokens = load_normalizer(normalizer).tokenize(text)
    return {tuple(tokens[place : place + 4]) for place in range(len(tokens) - 3)}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize(
    ("instruction", "normalizer"),
    [
        (X, "english"),
        ("List five - and only five - uses of a brick, please: no walls!", "english"),
        ("Erkläre mir in zwei Sätzen, warum der Himmel über uns blau aussieht und nicht grün.", "english"),
        ("请用不超过一百个字向六岁的孩子解释为什么月亮看起来更大。", "multilingual"),
        ("ทำไมดวงจันทร์จึงดูใหญ่ขึ้นเมื่ออยู่ต่ำ", "multilingual"),
        ("なぜ空は青いのですか。やさしく説明してください。", "multilingual"),
        ("하늘이 왜 파란지 여섯 살 아이에게 쉬운 말로 설명해 주세요.", "english"),
    ],
)
def test_exactly_the_share_of_4_grams_is_in_the_text(name: str, instruction: str, normalizer: str) -> None:
    attack = ATTACKS[f"copy.{name}"]
    wanted = grams(instruction, normalizer)
    text = attack.function(instruction, Y, 0)

    found = len(wanted & grams(text, normalizer))

    assert attack.copied_share == SHARES[name]
    assert abs(found - SHARES[name] * len(wanted)) <= 0.5
    assert text.endswith(Y)


@pytest.mark.parametrize(
    ("instruction", "half"), [("Say hello", "Say"), ("Why?", "Why?"), ("Name a fruit.", "Name"), ("", ""), ("…", "…")]
)
def test_of_an_instruction_without_4_grams_it_is_a_share_of_the_words(instruction: str, half: str) -> None:
    assert take_share(instruction, 0.5) == half
    assert take_share(instruction, 0) == ""
    assert take_share(instruction, 1) == instruction


def test_only_attacks_of_the_slope_have_a_share() -> None:
    assert {name: attack.copied_share for name, attack in ATTACKS.items() if attack.copied_share is not None} == {
        f"copy.{name}": share for name, share in SHARES.items()
    }


@pytest.mark.parametrize("name", ["before", "after", "quoted", "fenced", "comment"])
def test_the_whole_instruction_stands_in_the_text(name: str) -> None:
    text = ATTACKS[f"copy.{name}"].function(X, Y, 0)

    assert X in text
    assert Y in text


def test_a_fence_is_longer_than_those_in_the_instruction() -> None:
    assert ATTACKS["copy.fenced"].function("Mend:\n````\nx\n````", "", 0).startswith("`````\nMend")


def test_a_comment_is_not_closed_by_the_instruction() -> None:
    assert ATTACKS["copy.comment"].function("What does --> mean?", Y, 0).count("-->") == 1


def test_zero_width_spaces_break_words_and_are_all_that_is_added() -> None:
    text = ATTACKS["copy.zero_width"].function(X, "", 0)

    assert not grams(X) & grams(text)
    assert text.replace("\u200b", "") == X


def test_base64_can_be_read_back() -> None:
    encoded = ATTACKS["copy.base64"].function("Wo liegt Köln?\ud83d", "", 0)

    assert base64.b64decode(encoded).decode(errors="surrogatepass") == "Wo liegt Köln?\ud83d"


@pytest.mark.parametrize("instruction", [X, "写一首关于海的诗。", "Say hello"])
def test_shuffling_keeps_the_words_and_not_their_order(instruction: str) -> None:
    text = ATTACKS["copy.shuffled"].function(instruction, "", 3)

    assert text != instruction
    assert sorted("".join(text.split())) == sorted("".join(instruction.split()))


def test_content_words_say_what_an_instruction_is_about() -> None:
    assert "".join(content_words("Could you tell me what a haiku is?")) == " haiku"
    assert find_topic("Can you tell me about the history of the haiku in Japan?") == "history haiku japan"
    assert find_topic("...") == "this"
    assert find_topic("写诗") == "写 诗"


@pytest.mark.parametrize("text", [X, " \n- a b\t", "写一首诗, please!", "...", "\u0e31\u0e31x", "the a an"])
def test_words_make_the_text_again(text: str) -> None:
    assert "".join(split_words(text)) == text


def test_sentences_end_at_stops_and_lines() -> None:
    assert split_sentences("It costs 3.50. Is it dear?\n\nNo！是。好") == [
        "It costs 3.50.",
        "Is it dear?",
        "No！",
        "是。",
        "好",
    ]
