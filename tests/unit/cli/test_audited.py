"""What the terminal shows of an audit."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.prompts import AttackScores
from flip_reward.audit.results import AuditResults
from flip_reward.cli.audited import print_audit
from tests.unit.audit.audited import audit, entry, prompt, reward, scores

ATTACKS = [
    entry("copy.before"),
    entry("copy.three_quarters"),
    entry("key.period"),
    entry("kept.typos", Effect.KEPT),
    entry("broken.names", Effect.BROKEN),
]
LONG = "listwise @ Qwen/Qwen3-4B-Instruct-2507"


def make(*labels: str, silent: str = "") -> AuditResults:
    names = [attack.name for attack in ATTACKS]
    prompts = [prompt(number, names, changed=1, text="bad" + "x" * 7) for number in range(60)]
    values = {
        "copy.before": 0.9,
        "copy.three_quarters": 0.5,
        "key.period": 0.1,
        "kept.typos": 0.3,
        "broken.names": 0.4,
    }
    row = {name: (value, (0.6, 0.4)) for name, value in values.items()}
    given = {
        label: scores([dict.fromkeys(names, (None, (None, None))) if label == silent else row] * 60)
        for label in labels
    }
    return audit(prompts, ATTACKS, given, [reward(label) for label in labels])


def printed(results: AuditResults, width: int = 80) -> str:
    shown = StringIO()
    print_audit(Console(file=shown, width=width), results)
    return shown.getvalue()


def test_a_family_shows_its_worst_attack() -> None:
    text = printed(make("flip"))
    assert text.startswith("Copying the instruction wins 100 % of groups by flip")
    table = text[: text.index("a policy would learn")]
    assert "1.000" in table
    assert "before" in table
    assert "three_quarters" not in table


def test_what_a_reward_is_weak_at_is_said_in_words() -> None:
    text = printed(make("flip"))
    assert "learn first: copy.before (gain +2.83 for 7 characters more)" in text
    assert "0.5 is blind): swapped names (0.50, " in text
    assert "(change of the reward): typos (-0.1, " in text
    assert "unscored" not in text


def test_what_never_answered_is_no_column() -> None:
    text = printed(make("flip", "judge", silent="judge"))
    assert "judge\n  nothing is known: no attacked text has a score" in text
    assert "no score" not in text


def test_nothing_at_all() -> None:
    assert printed(make("judge", silent="judge")).startswith("Nothing is known")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_number_is_cut_at_any_width(width: int) -> None:
    """Rewards that do not fit side by side stand in another table."""
    text = printed(make("flip", "pointwise", "likelihood", "trained", LONG), width)
    rows = [line for line in text.splitlines() if line.startswith(" copy ")]
    assert sum(row.count("1.000") for row in rows) == 5
    assert all(len(line) <= width for line in text[text.index("spreads\n") : text.index("\nflip\n")].splitlines())


def test_a_label_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in printed(make("flip\x1b[2J"))


def test_attacks_without_a_figure_are_named_with_the_reason() -> None:
    attacks = [entry("copy.before"), entry("key.blanks"), entry("kept.composed", Effect.KEPT)]
    prompts = [prompt(number, ["copy.before", "key.blanks"], changed=1) for number in range(9)]
    row = {
        "copy.before": AttackScores(0.9, (0.6, 0.4)),
        "key.blanks": AttackScores(None, (0.6, 0.4), no_answer=True),
    }
    text = printed(audit(prompts, attacks, {"flip": [row] * 9}))
    assert "no figure for key.blanks: their texts hold no answer" in text
    assert "no figure for kept.composed: they change none" in text
    assert "unscored" not in text, "no failure"


@pytest.mark.parametrize(("scale", "shown"), [(1e300, "-1e+299"), (1e-6, "-1e-07"), (1, "-0.1"), (1e4, "-1000")])
def test_a_change_of_a_reward_is_shown_on_any_scale(scale: float, shown: str) -> None:
    attacks = [entry("kept.typos", Effect.KEPT)]
    prompts = [prompt(number, ["kept.typos"], changed=1) for number in range(60)]
    text = printed(
        audit(prompts, attacks, {"flip": scores([{"kept.typos": (0.3 * scale, (0.6 * scale, 0.4 * scale))}] * 60)})
    )
    assert f"typos ({shown}, " in text
