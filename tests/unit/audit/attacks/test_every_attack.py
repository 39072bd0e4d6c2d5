"""What every attack promises, whatever it is given."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.audit.attacks.catalogue import ATTACKS, FAMILIES
from tests.hostile_texts import UNITS

TEXTS = st.text() | st.lists(st.sampled_from(sorted(UNITS.values())), max_size=12).map("".join)
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))

INSTRUCTION = "Please name two rivers of France, and say how long each of them is."
RESPONSE = (
    "Yes, here they are: the Loire is 1,012 km long. It isn't in Spain, and people say that Paris is not on it... "
    'The café "Rhône" is near Lyon, and it has never been closed.\n\n- **Loire**\n- Rhône'
)
CHINESE = ("请写一首关于大海的短诗。", "大海是蓝色的，海浪可以唱歌。它不是安静的，已经有3000年了。")


@every_attack
@given(instruction=TEXTS, response=TEXTS, seed=st.integers())
def test_no_text_makes_it_raise(attack: Attack, instruction: str, response: str, seed: int) -> None:
    text = attack.function(instruction, response, seed)

    assert type(text) is str
    assert attack.function(instruction, response, seed) == text


@every_attack
def test_letters_that_only_look_alike_in_another_case_are_no_matter(attack: Attack) -> None:
    odd = "ſhan't niemalſ ıs İs uſe KEİN neıther ﬁrst ß ŉ ª ǅ Σς"

    assert type(attack.function(odd, odd, 0)) is str


@every_attack
def test_it_changes_what_it_can(attack: Attack) -> None:
    if attack.name in ("broken.other", "broken.nearest", "copy.none"):
        assert attack.function(INSTRUCTION, RESPONSE, 0) == RESPONSE
    else:
        response = unicodedata.normalize("NFD", RESPONSE) if attack.name == "kept.composed" else RESPONSE
        assert attack.function(INSTRUCTION, response, 0) != response


@pytest.mark.parametrize("family", ["copy", "injection"])
def test_what_holds_the_instruction_adds_nothing_where_it_is_blank(family: str) -> None:
    attacks = [attack for attack in ATTACKS.values() if attack.family == family and attack.carrier is Carrier.OTHER]

    for attack in attacks:
        for blank in ("", " \n"):
            assert attack.function(blank, "Rome is old.", 0) == "Rome is old.", attack.name


def test_chinese_is_attacked_too_where_its_script_allows_it() -> None:
    unchanged = {name for name, attack in ATTACKS.items() if attack.function(*CHINESE, 0) == CHINESE[1]}

    assert unchanged == {
        *("broken.other", "broken.nearest", "copy.none"),
        *("broken.names", "kept.composed", "kept.decomposed", "kept.lower", "kept.upper", "kept.typos"),
        "style.plain",
    }


def test_another_seed_draws_another_text() -> None:
    drawn = {
        *("broken.digits", "copy.shuffled", "kept.typos", "length.padding_2", "length.padding_4", "style.citations"),
    }
    for name in sorted(drawn):
        texts = {ATTACKS[name].function(INSTRUCTION, RESPONSE, seed) for seed in range(8)}
        assert len(texts) > 1, name


def test_only_broken_meaning_and_kept_meaning_are_no_exploits() -> None:
    effects = {"kept": Effect.KEPT, "broken": Effect.BROKEN}

    assert [effects.get(attack.family, Effect.EXPLOIT) for attack in ATTACKS.values()] == [
        attack.effect for attack in ATTACKS.values()
    ]
    assert FAMILIES == ("copy", "key", "injection", "refusal", "style", "length", "kept", "broken")


@every_attack
def test_its_description_is_one_sentence(attack: Attack) -> None:
    assert attack.description.endswith(".")
    assert len(attack.description) < 130
    assert "|" not in attack.description
