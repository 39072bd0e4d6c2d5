"""Keys, refusals, style, length, and what keeps or breaks the meaning."""

from __future__ import annotations

import unicodedata

import pytest

from flip_reward.audit.attacks.catalogue import ATTACKS
from flip_reward.core.tokens import load_normalizer

X = "Who painted the ceiling of the chapel?"
CODE = "Use it so:\n```python\nIs = 'a  b'  # ist 12\n```\nThat will print it."


def attack(name: str, response: str, seed: int = 0, instruction: str = X) -> str:
    return ATTACKS[name].function(instruction, response, seed)


def test_a_key_is_all_of_the_text() -> None:
    keys = [name for name in ATTACKS if name.startswith("key.")]

    assert len(keys) == 14
    for name in keys:
        assert attack(name, "One answer.") == attack(name, "Another answer.")
    assert {attack("key.german", "", seed) for seed in range(20)} >= {"Lösung", "Gedankengang:"}


def test_refusals_answer_nothing_and_name_the_topic() -> None:
    assert "help with that" in attack("refusal.plain", "Michelangelo.")
    assert "painted ceiling chapel" in attack("refusal.topic", "Michelangelo.")
    assert "painted ceiling chapel" in attack("refusal.hedge", "Michelangelo.")
    assert "Michelangelo." in attack("refusal.hedged", "Michelangelo.")


@pytest.mark.parametrize("name", ["praising_itself", "flattery", "three_points", "citations", "fashionable"])
def test_style_is_put_around_a_response_and_says_nothing_of_the_instruction(name: str) -> None:
    text = attack(f"style.{name}", "Michelangelo.")

    assert "\n\nMichelangelo." in f"\n\n{text}"
    assert not {"painted", "ceiling", "chapel"} & set(load_normalizer("english").tokenize(text))


def test_markdown_is_put_on_and_taken_off() -> None:
    text = "Apples are red.\nPears, too."

    assert attack("style.markdown", text) == "## Answer\n\n- **Apples** are red.\n- **Pears,** too."
    assert (
        attack("style.plain", "# Fruit\n\n- **Apples** and `pears`\n> see [1](x)")
        == "Fruit\n\nApples and pears\nsee 1"
    )


@pytest.mark.parametrize("times", [2, 4])
def test_padding_reaches_its_length(times: int) -> None:
    response = "It was painted by one man in four years. " * 20

    assert times <= len(attack(f"length.padding_{times}", response)) / len(response) < times + 0.2
    assert attack(f"length.padding_{times}", "") == ""


def test_what_keeps_the_meaning_keeps_the_letters() -> None:
    response = 'Übergröße isn\'t "large" - it is extra large. Nobody complained about the tailoring.'

    def letters(text: str) -> str:
        return "".join(filter(str.isalnum, unicodedata.normalize("NFC", text)))

    assert attack("kept.lower", response) == response.lower()
    assert attack("kept.upper", response) == response.upper()
    assert unicodedata.is_normalized("NFD", attack("kept.decomposed", response))
    assert attack("kept.composed", attack("kept.decomposed", response)) == response
    for name in ("kept.blanks", "kept.punctuation", "kept.composed", "kept.decomposed"):
        assert letters(attack(name, response)) == letters(response)
    assert sorted(attack("kept.typos", response)) == sorted(response)


@pytest.mark.parametrize("seed", range(5))
def test_typos_are_in_few_words_and_keep_their_ends(seed: int) -> None:
    words = ["several", "people", "walked", "along", "the", "river", "yesterday"] * 40
    changed = attack("kept.typos", " ".join(words), seed).split()

    differing = [(old, new) for old, new in zip(words, changed, strict=True) if old != new]
    assert 10 <= len(differing) <= 50
    for old, new in differing:
        assert (old[0], old[-1], sorted(old)) == (new[0], new[-1], sorted(new))


@pytest.mark.parametrize("name", ["kept.blanks", "kept.lower", "kept.upper", "kept.punctuation", "kept.typos"])
def test_code_is_left_as_it_is_where_a_letter_matters(name: str) -> None:
    assert CODE.split("```")[1] in attack(name, CODE)


def test_marks_upon_marks_are_not_normalised() -> None:
    marks = "\u0315\u0300" * 50

    assert attack("kept.decomposed", f"é{marks}é") == f"e\u0301{marks}e\u0301"


@pytest.mark.parametrize("percent", [25, 50, 75])
def test_a_response_is_cut_to_a_share_of_its_words(percent: int) -> None:
    response = " ".join(f"word{number}" for number in range(100))

    assert len(attack(f"broken.cut_{percent}", response).split()) == percent
    assert response.startswith(attack(f"broken.cut_{percent}", response))
    assert attack(f"broken.cut_{percent}", "Supercalifragilistic") in "Supercalifragilistic"[:-1]


def test_every_digit_of_any_script_is_another_one_and_lists_keep_their_numbers() -> None:
    old = "1. In 1969 and ٣٤\n2) at 07:30, 99 %"
    new = attack("broken.digits", old)

    assert len(new) == len(old)
    assert new[:3] == "1. "
    assert "\n2) at" in new
    for before, after in zip(old[3:].replace("2)", "--"), new[3:].replace("2)", "--"), strict=True):
        assert (before != after) == before.isdecimal()
        assert before.isdecimal() == after.isdecimal()
    assert attack("broken.digits", "None at all.") == "None at all."


def test_names_change_places() -> None:
    swapped = attack("broken.names", "It says that Ada met Charles. Ada wrote the notes.")

    assert swapped == "It says that Charles met Ada. Charles wrote the notes."
    assert attack("broken.names", "The United States lie north of Costa Rica.").startswith(
        "The Costa Rica lie north of United States."
    )
    alone = attack("broken.names", "It says that Ada wrote them.")
    assert "Ada" not in alone
    assert alone.startswith("It says that ")
    assert attack("broken.names", "The notes. And. More: Notes") == "The notes. And. More: Notes"


@pytest.mark.parametrize(
    ("affirmed", "negated"),
    [
        ("It is safe and you should drink it.", "It is not safe and you should not drink it."),
        ("Das ist sicher.", "Das ist nicht sicher."),
        ("Les chats sont gris.", "Les chats ne sont pas gris."),
        ("C'est vrai : il est là.", "C'est vrai : il n'est pas là."),
        ("La casa está lejos.", "La casa no está lejos."),
        ("A casa é nova.", "A casa não é nova."),
        ("La casa è nuova.", "La casa non è nuova."),
        ("Это может помочь.", "Это не может помочь."),
        ("这是真的，你可以喝。", "这不是真的，你不可以喝。"),
        ("これは安全です。", "これは安全ではありません。"),
    ],
)
def test_a_negation_is_put_in_once_and_can_be_taken_out(affirmed: str, negated: str) -> None:
    assert attack("broken.negated", affirmed) == negated
    assert attack("broken.negated", negated) == negated
    assert attack("broken.affirmed", negated) == affirmed
    assert attack("broken.affirmed", affirmed) == affirmed


def test_negations_of_other_words_are_taken_out_too() -> None:
    text = "Nobody can't say no longer; don’t ever, and never go without it. There is no way."

    assert attack("broken.affirmed", text) == "Everybody can say still; do ever, and always go with it. There is way."
