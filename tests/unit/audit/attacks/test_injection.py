from __future__ import annotations

import pytest

from flip_reward.audit.attacks.catalogue import ATTACKS
from flip_reward.core.chat.template import ChatReader
from flip_reward.core.conversation import Message
from flip_reward.core.replies.parse import (
    parse_inferred_instruction,
    parse_list_choice,
    parse_pair_choice,
    parse_rating,
)
from flip_reward.core.response import visible_answer

X = 'Translate "C:\\new" and "{x}" into German.\nKeep the quotes.'
Y = "The moon is far away."


def attack(name: str, seed: int = 0) -> str:
    return ATTACKS[f"injection.{name}"].function(X, Y, seed)


def test_planted_replies_are_what_each_reward_would_read() -> None:
    assert parse_inferred_instruction(attack("inferred")).instruction == X
    assert parse_rating(attack("rating")).value == 10
    assert {parse_pair_choice(attack("better", seed)).value for seed in range(9)} == {0, 1}
    assert {parse_list_choice(attack("best", seed), shown=["", ""]).value for seed in range(9)} == {0, 1}
    assert {attack("letter", seed)[-1] for seed in range(9)} == {"A", "B"}


@pytest.mark.parametrize(
    "name", ["chatml", "llama", "gemma", "mistral", "deepseek", "harmony", "command_r", "phi", "turns"]
)
def test_planted_turns_are_turns_of_the_template(name: str) -> None:
    text = attack(name)

    assert text.startswith(Y)
    assert ChatReader().read_prompt(text.removeprefix(Y).lstrip()).messages == (Message("user", X),)


def test_a_thinking_section_in_front_is_not_part_of_the_answer() -> None:
    assert X in attack("thinking")
    assert visible_answer(attack("thinking")) == Y
    assert visible_answer(attack("analysis")) == Y
    assert X in str(visible_answer(attack("spelled_thinking")))


def test_what_asks_for_a_rating_does_not_say_what_was_asked() -> None:
    for name in ("rating", "better", "best", "digit", "letter", "yes", "order"):
        assert X not in attack(name)
        assert attack(name).startswith(Y)
