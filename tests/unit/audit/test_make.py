"""Which responses attacks change, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.audit.make import make_attacked
from flip_reward.audit.nearest import find_nearest
from flip_reward.audit.prompts import AttackedText, AuditPrompt
from flip_reward.core.conversation import Message
from flip_reward.core.response import visible_answer


def mark(instruction: str, response: str, seed: int) -> str:
    """Show what the attack was given."""
    return f"{instruction}|{response}|{seed}"


def unchanged(_instruction: str, response: str, _seed: int) -> str:
    """Change nothing."""
    return response


def prompt(text: str, *genuine: str, chosen: tuple[bool, ...] | None = None) -> AuditPrompt:
    return AuditPrompt(text, (Message("user", text),), genuine, chosen, ())


def carriers(prompts: Sequence[AuditPrompt], attack: Attack, seed: int = 0) -> list[tuple[str, int | None]]:
    """The response that was changed in each prompt, and its place."""
    made = [one.attacked for one in make_attacked(prompts, [attack], visible_answer, seed=seed)]
    return [(text.text.split("|")[1], text.changed) for [text] in made]


PROMPTS = [prompt(f"ask {n}", *(f"answer {n}.{k}" for k in range(4))) for n in range(40)]


def test_the_same_response_carries_all_attacks_on_a_prompt_and_another_seed_draws_another() -> None:
    one, other = Attack("a.one", Effect.EXPLOIT, mark), Attack("a.two", Effect.KEPT, mark)
    found = carriers(PROMPTS, one)
    assert found == carriers(PROMPTS, other)
    assert {place for _, place in found} == {0, 1, 2, 3}
    assert all(text == PROMPTS[n].genuine[place or 0] for n, (text, place) in enumerate(found))
    assert found != carriers(PROMPTS, one, seed=1)
    assert found[:5] == carriers(PROMPTS[:5], one), "more prompts change nothing"


def test_labels_say_which_response_is_changed() -> None:
    labelled = [replace(one, chosen=(False, True, False, True)) for one in PROMPTS]
    for effect, places in ((Effect.EXPLOIT, {0, 2}), (Effect.KEPT, {0, 2}), (Effect.BROKEN, {1, 3})):
        assert {place for _, place in carriers(labelled, Attack("a.b", effect, mark))} == places
    all_bad = [replace(one, chosen=(False,) * 4) for one in PROMPTS]
    assert {place for _, place in carriers(all_bad, Attack("a.b", Effect.BROKEN, mark))} == {0, 1, 2, 3}


def test_the_visible_answer_is_changed() -> None:
    thinking = prompt("ask", "<think>Hm.</think>Pear.", "", "<think>never ends")
    assert carriers([thinking], Attack("a.b", Effect.EXPLOIT, mark)) == [("Pear.", 0)]


def test_a_response_to_another_prompt_is_one_to_another_instruction() -> None:
    twice = [*PROMPTS, *(replace(one, id=f"{one.id} again") for one in PROMPTS)]
    for carrier in (Carrier.OTHER, Carrier.NEAREST):
        found = carriers(twice, Attack("a.b", Effect.EXPLOIT, mark, carrier))
        assert {place for _, place in found} == {None}
        assert not any(text in one.genuine for (text, _), one in zip(found, twice, strict=True))
    drawn = [text.split(".")[0] for text, _ in carriers(twice, Attack("a.b", Effect.EXPLOIT, mark, Carrier.OTHER))]
    assert len(set(drawn)) > len(PROMPTS) / 3


def test_an_instruction_that_differs_in_blanks_case_and_punctuation_is_no_other() -> None:
    alike = [
        prompt("Name a fruit.", "pear"),
        prompt("name a  fruit", "plum"),
        prompt("Ask why", "so"),
        prompt("?", "!"),
    ]
    for carrier in (Carrier.OTHER, Carrier.NEAREST):
        found = carriers(alike, Attack("a.b", Effect.EXPLOIT, mark, carrier))
        assert {text for text, _ in found[:2]} <= {"so", "!"}


def test_one_prompt_has_no_others_and_what_changes_nothing_is_no_attack() -> None:
    attacks = [
        Attack("a.other", Effect.BROKEN, unchanged, Carrier.OTHER),
        Attack("a.nearest", Effect.BROKEN, unchanged, Carrier.NEAREST),
        Attack("a.same", Effect.KEPT, unchanged),
        Attack("a.mark", Effect.KEPT, mark),
    ]
    [alone] = make_attacked(PROMPTS[:1], attacks, visible_answer)
    assert [text.attack for text in alone.attacked] == ["a.mark"]
    [two, _] = make_attacked(PROMPTS[:2], attacks, visible_answer)
    assert [text.attack for text in two.attacked] == ["a.other", "a.nearest", "a.mark"], "taken as it is, it is one"


def test_half_a_character_is_replaced() -> None:
    [made] = make_attacked(PROMPTS[:1], [Attack("a.b", Effect.EXPLOIT, lambda *_: "\ud83d")], visible_answer)
    assert made.attacked == (AttackedText("a.b", "\N{REPLACEMENT CHARACTER}", made.attacked[0].changed),)


def test_the_nearest_instruction_shares_rare_words() -> None:
    asked = [
        "Bake bread with rye.",
        "Write a poem about the sea.",
        "Bake a cake.",
        "写一首关于海的诗",
        "写一首诗",
        "Zzz",
    ]
    assert find_nearest(asked) == [2, 2, 0, 4, 3, None]


def test_common_words_do_not_make_it_quadratic() -> None:
    asked = [f"Tell me about word{n} now." for n in range(3000)]
    assert find_nearest(asked) == [None] * 3000


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_nearest_is_another_one_whatever_stands_in_instructions(texts: list[str]) -> None:
    assert all(found != place for place, found in enumerate(find_nearest(texts)))
