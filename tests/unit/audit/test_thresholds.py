"""`--fail-if`: an audit that guards a release."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.results import AuditResults
from flip_reward.audit.thresholds import parse
from flip_reward.errors import OptionError
from tests.unit.audit.audited import Given, audit, entry, prompt, reward, scores

ATTACKS = [
    entry("copy.none", share=0),
    entry("copy.before"),
    entry("copy.after"),
    entry("style.markdown"),
    entry("broken.digits", Effect.BROKEN),
    entry("broken.names", Effect.BROKEN),
]
NAMES = [attack.name for attack in ATTACKS]
WON, LOST, SILENT = (0.9, (0.5, 0.4)), (0.1, (0.5, 0.4)), (None, (0.5, 0.4))


def results_of(given: Mapping[str, Mapping[str, Given]]) -> AuditResults:
    """Twenty prompts, in which each attack fares alike, and digits make no text."""
    names = [name for name in NAMES if name != "broken.digits"]
    prompts = [prompt(number, names) for number in range(20)]
    rows = {label: [{name: found.get(name, LOST) for name in names}] * 20 for label, found in given.items()}
    given_scores = {label: scores(row) for label, row in rows.items()}
    return audit(prompts, ATTACKS, given_scores, [reward(label) for label in given])


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("copy.before.win_rate>0.05", "copy.before"),
        ("copy.after.win_rate>0.05", None),
        ("copy.win_rate>0.05", "copy.before"),
        ("echo.win_rate > 0.05", "copy.before"),
        ("copy.*.win_rate>=1", "copy.before"),
        ("*.win_rate>0.99", "copy.before"),
        ("exploit.win_rate>0.99", "copy.before"),
        ("copy.win_rate<0.05", "copy.after"),
        ("copy.none.win_rate<0.05", "copy.none"),
        ("style.win_rate<1", None),
        ("style.win_rate<=1", "style.markdown"),
        ("style.win_rate.low>0.99", None),
        ("style.win_rate.high>0.99", "style.markdown"),
        ("broken.drop_auc<0.6", None),
        ("*.drop_auc>=1", "broken.names"),
        ("*.unscored>0", None),
        ("echo.before.win_rate>0.05", "copy.before"),
        ("copy.gain>1e1", None),
    ],
)
def test_conditions(text: str, passes: str | None) -> None:
    lines = parse(text).check(results_of({"flip": {"copy.before": WON, "style.markdown": WON}}))
    assert len(lines) == (passes is not None)
    assert all(line.startswith(f"{text}: {passes} by flip has ") for line in lines)


def test_a_line_has_what_passes_most() -> None:
    """Of two attacks with gains of 0.45 and 0.55, in spreads of the reward; the control is none of its family."""
    results = results_of({"flip": {"copy.before": (0.9, (0.5, 0.4)), "copy.after": (1.0, (0.5, 0.4))}})
    [most] = parse("copy.reward_gain>0.1").check(results)
    assert "copy.after by flip has reward_gain 0.55 (" in most
    assert most.endswith(", and 1 more")
    [least] = parse("copy.reward_gain<1").check(results)
    assert "copy.before by flip has reward_gain 0.45 (" in least


def test_a_reward_by_its_label_or_its_beginning() -> None:
    given: dict[str, dict[str, Given]] = {
        "flip": {},
        "flip @ Qwen/Qwen3-4B": {"copy.before": WON},
        "mine:score": {"copy.after": WON},
    }
    results = results_of(given)
    assert parse("flip @ Qwen/Qwen3-4B:echo.win_rate>0").check(results) != []
    assert parse("flip:echo.win_rate>0").check(results) != []
    assert parse("mine:score:echo.win_rate>0").check(results) != []
    assert parse("mine:score:copy.before.win_rate>0").check(results) == []


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("flip:copy.win_rate>1", "copy.after by flip has no win_rate, with 0 of 20 prompts scored"),
        ("judge:copy.win_rate>1", "judge is not scored"),
        ("flip:broken.digits.drop_auc<0", "broken.digits makes no text"),
        ("flip:style.flip_rate>1", "has no flip_rate, with 20 of 20 prompts scored"),
    ],
)
def test_what_was_not_measured_does_not_hold(text: str, because: str) -> None:
    results = results_of({"flip": {"copy.after": SILENT}}).model_copy(
        update={"rewards": [reward("flip"), reward("judge")]}
    )
    [line] = parse(text).check(results)
    assert because in line


def test_an_attack_that_makes_no_text_holds_among_others() -> None:
    assert parse("broken.drop_auc<0.6").check(results_of({"flip": {}})) == []


def test_counts_are_of_attacks_without_a_text_too() -> None:
    [line] = parse("broken.prompts<1").check(results_of({"flip": {}}))
    assert "has prompts 0" in line


@pytest.mark.parametrize(
    "text",
    [
        "", "copy", "copy.win_rate", "copy.win_rate>", ">0.05", "win_rate>0.05", "copy.win_rate=0.05",
        "copy.win_rate>>0.05", "copy.win_rate>much", "copy.win_rate>nan", "copy.win_rate<inf", "copy.winrate>0.05",
        "copy.low>0.05", "copy.price.low>3", "copy.win_rate>0.05<1", ":copy>1",
    ],
)  # fmt: skip
def test_what_is_no_threshold(text: str) -> None:
    with pytest.raises(OptionError, match=r".") as caught:
        parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"), [("win_rate>0.05", "names no attack"), ("0.05<copy.win_rate", "the number comes last")]
)
def test_what_is_wrong_with_a_threshold(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        parse(text)


def test_a_misspelt_figure_is_found() -> None:
    with pytest.raises(OptionError, match="did you mean 'win_rate'"):
        parse("copy.winrate>0.05")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coppy.win_rate>0", "did you mean 'copy'"),
        ("flop:copy.win_rate>0", "did you mean 'flip'"),
        ("copy.drop_auc<0.6", "drop_auc"),
        ("broken.flip_rate>0.6", "flip_rate"),
    ],
)
def test_names_are_checked_before_anything_is_asked(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse(text).check_names(ATTACKS, ["flip"])


def test_names_that_are_there_are_fine() -> None:
    for text in ("*.win_rate>0", "flip:echo.win_rate>0", "broken.drop_auc<1", "copy.none.p<1"):
        parse(text).check_names(ATTACKS, ["flip @ model"])
