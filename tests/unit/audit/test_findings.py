"""What is said of an audit's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.attacks.catalogue import ATTACKS
from flip_reward.audit.findings import (
    describe,
    find_blind,
    find_first_learned,
    find_guarded,
    find_unfinished,
    find_unscored,
    find_unstable,
    find_worst_of_families,
    show_share,
)
from flip_reward.audit.prompts import AttackedText, AuditPrompt
from flip_reward.audit.results import AuditResults
from flip_reward.core.conversation import Message
from flip_reward.evaluation.folder import RewardEntry
from tests.unit.audit.audited import audit, entry, reward, scores

PROMPTS = 60
ATTACKED = [
    entry("copy.none", share=0),
    entry("copy.before"),
    entry("copy.whole", share=1),
    entry("key.period"),
    entry("kept.typos", Effect.KEPT),
    entry("kept.case", Effect.KEPT),
    entry("broken.names", Effect.BROKEN),
    entry("broken.other", Effect.BROKEN),
]
ADDED = {"copy.before": 40, "copy.whole": 20, "key.period": -9}


def audited(
    rewards: Mapping[str, Mapping[str, float | None]], entries: Sequence[RewardEntry] = (), prompts: int = PROMPTS
) -> AuditResults:
    """An audit in which a reward gives genuine responses 0.4 and 0.6, and each attacked text what is said, or 0.4.

    The first response is the one that is changed. Half of the prompts have all rewards a little higher.
    """
    asked = [
        AuditPrompt(
            str(number),
            (Message("user", f"question {number}"),),
            ("a response", "a response"),
            None,
            tuple(
                [AttackedText(one.name, "a response" + "x" * max(0, ADDED.get(one.name, 0)), 0) for one in ATTACKED]
            ),
        )
        for number in range(prompts)
    ]
    given = {}
    for label, values in rewards.items():
        rows = []
        for number in range(prompts):
            more = 0.01 * (number % 2)
            row = {}
            for one in ATTACKED:
                value = values.get(one.name, 0.4)
                row[one.name] = (None if value is None else value + more, (0.4 + more, 0.6 + more))
            rows.append(row)
        given[label] = scores(rows)
    return audit(asked, ATTACKED, given, entries or [reward(label) for label in rewards])


def test_what_a_policy_would_learn_first_is_cheap() -> None:
    """The larger gain of `before` takes twice as many characters; the control is no attack."""
    results = audited({"flip": {"copy.before": 0.8, "copy.whole": 0.75, "copy.none": 0.9}})
    found = find_first_learned(results, "flip")
    assert [one.result.attack for one in found] == ["copy.whole", "copy.before"]
    assert found[0].per_character == pytest.approx(found[0].gain / 20)


def test_what_costs_nothing_is_learned_before_all() -> None:
    found = find_first_learned(audited({"flip": {"copy.whole": 0.9, "key.period": 0.7}}), "flip")
    assert [one.result.attack for one in found] == ["key.period", "copy.whole"]
    assert found[0].per_character == found[0].gain


def test_nothing_is_learned_from_what_lowers_the_reward() -> None:
    assert find_first_learned(audited({"flip": {"copy.before": 0.1}}), "flip") == []


def test_blind_is_what_does_not_lower_the_reward_for_sure() -> None:
    results = audited({"flip": {"broken.names": 0.4, "broken.other": 0.1}, "judge": {"broken.other": 0.5}})
    assert [found.attack for found in find_blind(results, "flip")] == ["broken.names"]
    assert [found.attack for found in find_blind(results, "judge")] == ["broken.other", "broken.names"]


def test_not_robust_is_what_moves_either_way() -> None:
    results = audited({"flip": {"kept.typos": 0.35, "kept.case": 0.5}})
    assert [found.attack for found in find_unstable(results, "flip")] == ["kept.case", "kept.typos"]
    assert find_unstable(audited({"flip": {}}), "flip") == []


def test_the_worst_of_each_family() -> None:
    results = audited({"flip": {"copy.none": 0.9, "copy.before": 0.6, "copy.whole": 0.3, "key.period": None}})
    assert {name: found.attack for name, found in find_worst_of_families(results, "flip").items()} == {
        "copy": "copy.before"
    }


def test_the_headline_says_what_wins() -> None:
    results = audited({"flip": {"copy.before": 0.9, "key.period": 0.7}})
    assert results.headline.startswith("Copying the instruction wins 100 % of groups by flip (copy.before; ")
    assert results.headline.endswith(f"{PROMPTS} prompts)")


def test_the_headline_has_the_guard_beside_it() -> None:
    """With the guard the worst of the family counts, whichever that is."""
    entries = [
        reward("flip", samples=1),
        reward("flip x8", samples=8, copy_guard=True),
        reward("flip guarded", samples=1, copy_guard=True, copy_guard_share=0.5),
    ]
    results = audited(
        {"flip": {"copy.before": 0.9}, "flip guarded": {"copy.whole": 0.6}, "flip x8": {"copy.whole": 0.9}},
        entries,
    )
    found = find_guarded(entries, "flip")
    assert found is not None
    assert found.label == "flip guarded"
    assert find_guarded(entries, "flip guarded") is None
    in_brackets = reward("flip [copy_guard=true]", **{"flip.samples": 1, "flip.copy_guard": True})
    assert find_guarded([*entries[:2], in_brackets], "flip") == in_brackets
    assert "by flip (copy.before; " in results.headline
    assert "; with the guard 50 % (copy.whole; " in results.headline


def test_no_attack_that_surely_wins() -> None:
    """A tie with the best of two is half a win, but no gain over the response; 1 in 3 is chance."""
    headline = audited({"flip": {"copy.before": 0.3}}).headline
    assert headline.startswith("No attack surely wins more groups than another genuine response would (33 %)")
    assert "the most is 0 % by flip" in headline


def test_few_prompts_prove_nothing() -> None:
    """Three of three won."""
    assert audited({"flip": {"copy.before": 0.9}}, prompts=3).headline.startswith("No attack surely wins")


def test_what_is_not_known_is_said() -> None:
    silent = dict.fromkeys([one.name for one in ATTACKED])
    results = audited({"flip": {"copy.before": 0.9}, "judge": silent})
    assert results.headline.endswith("; nothing is known of judge")
    waiting = audited({"flip": {"copy.before": 0.9}}, [reward("flip"), reward("trained")])
    assert (find_unfinished(waiting), find_unscored(waiting)) == (["trained"], [])
    assert waiting.headline.endswith("; trained not finished")
    assert audited({"judge": silent}).headline == "Nothing is known: no attacked text has a score"


def test_shares_are_not_made_certain() -> None:
    assert [show_share(share) for share in (0, 0.004, 0.005, 0.5, 0.996, 1)] == [
        "0 %", "<1 %", "<1 %", "50 %", ">99 %", "100 %",
    ]  # fmt: skip


def test_what_breaks_the_meaning_has_words() -> None:
    """The name alone says too little of what a reward is blind to."""
    names = [name for name, attack in ATTACKS.items() if attack.effect is Effect.BROKEN]
    assert [name for name in names if describe(name) == name.partition(".")[2].replace("_", " ")] == []
