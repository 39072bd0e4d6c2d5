"""Rules: what they hold for, and what they refuse."""

import re

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome
from flip_reward.errors import OptionError
from flip_reward.rewards.composite.rules import RULES, RuleReward
from flip_reward.rewards.options import ResponseOptions

GERMAN = "Der Hund läuft jeden Morgen durch den Park und freut sich über das schöne Wetter."
ENGLISH = "The dog runs through the park every morning and enjoys the nice weather outside."


@pytest.mark.parametrize(
    ("name", "parameters", "holds", "fails"),
    [
        ("length", {"max": "5"}, ["Pears", "äöü€🍐"], ["Apples"]),
        ("length", {"min": "2", "max": "3", "unit": "words"}, ["a  b", "a\nb c"], ["a", "a b c d"]),
        ("length", {"min": "0"}, ["x"], []),
        ("matches", {"pattern": "^Dear .*,$"}, ["Dear Ann,"], ["Hi Ann", "dear Ann,"]),
        ("matches", {"pattern": "(?i)pear"}, ["A PEAR.", "half \ud800 pear"], ["apple"]),
        ("json", {}, ['{"a": [1, null]}', " 3 ", '"x"'], ["{'a': 1}", "NaN", '```json\n{"a": 1}\n```', "[" * 5000]),
        ("language", {"code": "de"}, [GERMAN], [ENGLISH, "12345", "\ud800"]),
        ("language", {"code": "en"}, [ENGLISH], [GERMAN]),
    ],
)
def test_rules(name: str, parameters: dict[str, str], holds: list[str], fails: list[str]) -> None:
    scores = RuleReward(name, parameters).score_sync(Group.of("Write something.", [*holds, *fails]))
    assert [score.value for score in scores] == [1.0] * len(holds) + [0.0] * len(fails)


def test_a_rule_reads_the_visible_answer() -> None:
    rule = RuleReward("length", {"max": "5"}, ResponseOptions(thinking_marks=("<plan>", "</plan>")))
    group = Group.of("Name a fruit.", ["<plan>A long plan.</plan>Pear.", "", "<plan>never closed"])
    kept, blank, unfinished = rule.score_sync(group)
    assert kept.value == 1.0
    assert (blank.outcome, unfinished.outcome) == (Outcome.EMPTY_RESPONSE, Outcome.UNFINISHED_THINKING)
    assert rule.settings["max"] == 5
    assert "thinking_marks" in rule.settings


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("length", {}, "neither min nor max"),
        ("length", {"max": "-1"}, "whole number"),
        ("length", {"max": "many"}, "whole number"),
        ("length", {"max": "²"}, "whole number"),
        ("length", {"min": "9", "max": "3"}, "from 9 to 3"),
        ("length", {"max": "3", "unit": "tokens"}, "unit 'tokens'"),
        ("matches", {}, "no pattern"),
        ("matches", {"pattern": "(a"}, "cannot be read"),
        ("matches", {"pattern": r"(a)\1"}, "cannot be read"),
        ("matches", {"pattern": "(?=a)"}, "cannot be read"),
        ("language", {"code": "english"}, "did you mean 'en'"),
        ("language", {}, "unknown language ''"),
    ],
)
def test_wrong_parameters(name: str, parameters: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        RuleReward(name, parameters)


def test_examples_of_rules_are_such() -> None:
    assert all(name in rule.example for name, rule in RULES.items())
