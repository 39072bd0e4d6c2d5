"""What attacks do to rewards, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.figures import measure
from flip_reward.audit.prompts import AttackedText, AuditPrompt
from flip_reward.audit.results import AttackResult
from flip_reward.core.conversation import Message
from flip_reward.evaluation.statistics import Estimate, Quantity, estimate_mean
from tests.unit.audit.audited import Given, entry, measure_one, prompt, scores

COPY = entry("copy.before")
TYPOS = entry("kept.typos", Effect.KEPT)
NAMES = entry("broken.names", Effect.BROKEN)


def test_win_rate_and_chance_by_hand() -> None:
    """One won, one lost, one tied, of two responses each."""
    prompts = [prompt(number, ["copy.before"]) for number in range(3)]
    found = measure_one(COPY, prompts, [(0.9, (0.5, 0.1)), (0.2, (0.5, 0.1)), (0.5, (0.5, 0.1))])
    assert found.win_rate == estimate_mean([1, 0, 0.5], [""] * 3)
    assert (found.prompts, found.unscored) == (3, 0)
    assert found.chance == pytest.approx(1 / 3)


def test_gain_is_in_units_of_the_median_spread() -> None:
    """Deviations within the prompts are 0.2/sqrt(2), 0.4/sqrt(2) and, which counts for nothing, 0."""
    prompts = [prompt(number, ["copy.before"]) for number in range(3)]
    given: list[Given] = [(0.7, (0.4, 0.6)), (0.9, (0.3, 0.7)), (0.5, (0.5, 0.5))]
    figures = measure(prompts, [COPY], {"r": scores([{"copy.before": one} for one in given])})
    [reward], [result] = figures.audited, figures.results
    spread = 0.3 / math.sqrt(2)
    assert reward.spread == pytest.approx(spread)
    assert reward.mean == pytest.approx(0.5)
    assert result.gain is not None
    assert result.gain.value == pytest.approx((0.2 + 0.4 + 0.0) / 3 / spread)
    expected = estimate_mean(np.array([0.2, 0.4, 0]) / spread, [""] * 3, quantity=Quantity.NUMBER)
    assert (result.gain.low, result.gain.high) == pytest.approx((expected.low, expected.high))


def test_reward_gain_is_against_the_response_that_is_changed() -> None:
    changed = measure_one(TYPOS, [prompt(0, ["kept.typos"], changed=1)], [(0.3, (0.9, 0.2))])
    assert changed.reward_gain is not None
    assert changed.reward_gain.value == pytest.approx(0.1)
    other = measure_one(COPY, [prompt(0, ["copy.before"])], [(0.3, (0.9, 0.2))])
    assert other.reward_gain is not None
    assert other.reward_gain.value == pytest.approx(0.3 - 0.55)


def test_the_changed_response_may_lack_a_score() -> None:
    """The text has been compared with the best one all the same."""
    found = measure_one(TYPOS, [prompt(0, ["kept.typos"], changed=1)], [(0.3, (0.2, None))])
    assert found.unscored == 0
    assert found.win_rate is not None
    assert found.win_rate.value == 1
    assert (found.reward_gain, found.p) == (None, None)


@pytest.mark.parametrize(
    ("changed", "scored", "flips"),
    [
        pytest.param(2, (0.7, (0.8, 0.6, 0.1)), 0.5, id="beats one of the two chosen"),
        pytest.param(2, (0.6, (0.8, 0.6, 0.1)), 0.25, id="ties with one"),
        pytest.param(2, (0.7, (0.8, 0.6, 0.65)), 0.0, id="one chosen was below it before"),
        pytest.param(2, (0.9, (0.1, 0.2, 0.5)), None, id="no decision was right"),
        pytest.param(None, (0.7, (0.8, 0.6, 0.1)), 0.5, id="another prompt's text"),
        pytest.param(2, (0.7, (0.8, None, 0.1)), 0.0, id="a chosen one without a score"),
        pytest.param(2, (0.7, (0.8, 0.6, None)), None, id="the rejected one without a score"),
    ],
)
def test_flip_rate(changed: int | None, scored: Given, flips: float | None) -> None:
    asked = prompt(0, ["copy.before"], genuine=("a", "b", "c"), chosen=(True, True, False), changed=changed)
    found = measure_one(COPY, [asked], [scored]).flip_rate
    assert (None if found is None else found.value) == flips


@pytest.mark.parametrize("chosen", [None, (True, True), (False, False)])
def test_no_flip_rate_without_both_labels(chosen: tuple[bool, bool] | None) -> None:
    asked = prompt(0, ["copy.before"], chosen=chosen, changed=1)
    assert measure_one(COPY, [asked], [(0.7, (0.8, 0.1))]).flip_rate is None


def test_drop_auc() -> None:
    """Against the response that was broken; a text of another prompt against the chosen one, or all."""
    own = prompt(0, ["broken.names"], changed=1)
    labelled = prompt(1, ["broken.names"], chosen=(False, True))
    plain = prompt(2, ["broken.names"])
    given: list[Given] = [(0.3, (0.1, 0.5)), (0.3, (0.1, 0.3)), (0.3, (0.1, 0.5))]
    found = [measure_one(NAMES, [asked], [one]) for asked, one in zip([own, labelled, plain], given, strict=True)]
    assert [one.drop_auc.value if one.drop_auc else None for one in found] == [1.0, 0.5, 0.5]
    assert [one.flip_rate for one in found] == [None] * 3
    assert measure_one(COPY, [own], [(0.3, (0.1, 0.5))]).drop_auc is None


def test_price_is_the_median_of_added_characters() -> None:
    prompts = [
        prompt(0, ["copy.before"], genuine=("four", "sixsix"), text="x" * 15),
        prompt(1, ["copy.before"], genuine=("four", "sixsix"), text="x" * 5, changed=0),
        prompt(2, ["copy.before"], genuine=("four", "sixsix"), text="x" * 2, changed=1),
    ]
    assert measure_one(COPY, prompts, [(1, (1, 1))] * 3).price == 1.0


def test_sign_test_counts_a_conversation_once() -> None:
    """Five of five above: p is 2/32. The same question five times is one draw, which proves nothing."""
    given: list[Given] = [(0.9, (0.5, 0.5))] * 5
    apart = measure_one(COPY, [prompt(number, ["copy.before"]) for number in range(5)], given)
    assert apart.p == pytest.approx(2 / 32)
    together = measure_one(COPY, [prompt(number, ["copy.before"], asked="same") for number in range(5)], given)
    assert together.p == 1.0


def test_intervals_draw_conversations() -> None:
    """Ten questions, each of which stands in the data twelve times, are ten draws."""
    values = [1, 0, 0, 0, 0, 1, 0, 1, 1, 0]
    given: list[Given] = [(float(values[number % 10]), (0.5, 0.4)) for number in range(120)]
    prompts = [prompt(number, ["copy.before"], asked=f"question {number % 10}") for number in range(120)]
    expected = estimate_mean([values[number % 10] for number in range(120)], [""] * 120, [n % 10 for n in range(120)])
    assert measure_one(COPY, prompts, given).win_rate == expected


def test_holm_is_over_all_attacks_and_rewards() -> None:
    names = ["copy.before", "copy.after"]
    prompts = [prompt(number, names) for number in range(8)]
    strong = scores([dict.fromkeys(names, (0.9, (0.5, 0.4)))] * 8)
    even = scores([dict.fromkeys(names, (0.9 if number % 2 else 0.1, (0.5, 0.5))) for number in range(8)])
    found = measure(prompts, [entry(name) for name in names], {"a": strong, "b": even}).results
    assert [result.p for result in found] == pytest.approx([2 / 256, 2 / 256, 1, 1])
    assert [result.holm_p for result in found] == pytest.approx([8 / 256, 8 / 256, 1, 1])


def test_what_never_answers_has_no_figure() -> None:
    found = measure_one(COPY, [prompt(number, ["copy.before"]) for number in range(3)], [(None, (None, None))] * 3)
    assert (found.prompts, found.unscored) == (3, 3)
    assert figures_of(found) == [None] * 5
    assert (found.p, found.holm_p, found.chance) == (None, None, None)


def test_what_was_not_asked_is_unscored() -> None:
    """A row that a reward rejects has no scores at all."""
    prompts = [prompt(number, ["copy.before"]) for number in range(2)]
    figures = measure(prompts, [COPY], {"r": scores([{"copy.before": (0.9, (0.5, 0.5))}, {}])})
    assert (figures.results[0].prompts, figures.results[0].unscored) == (2, 1)


def test_an_attack_without_a_text_has_no_figure() -> None:
    prompts = [prompt(0, [])]
    found = measure(prompts, [COPY], {"r": scores([{}])})
    assert (found.results[0].prompts, found.results[0].win_rate, found.results[0].price) == (0, None, None)
    assert (found.audited[0].spread, found.audited[0].mean, found.audited[0].unscored) == (None, None, 0)


def test_a_constant_reward_has_no_gain_in_spreads() -> None:
    found = measure_one(COPY, [prompt(number, ["copy.before"]) for number in range(4)], [(0.1, (0.1, 0.1))] * 4)
    assert found.gain is None
    assert found.reward_gain == Estimate(0, 0, 0, 4)
    assert found.win_rate is not None
    assert found.win_rate.value == 0.5
    assert found.p == 1.0


def test_unscored_genuine_responses_are_counted_once() -> None:
    """A reward that compares responses gives them a score beside each text: here the second lacks one of two."""
    names = ["copy.before", "copy.after"]
    given = scores([{"copy.before": (0.9, (0.5, None)), "copy.after": (0.2, (0.4, 0.6))}])
    figures = measure([prompt(0, names)], [entry(name) for name in names], {"r": given})
    assert figures.audited[0].unscored == 1
    assert figures.audited[0].mean == pytest.approx(0.5)
    assert [result.win_rate.value if result.win_rate else None for result in figures.results] == [1.0, 0.0]


@pytest.mark.parametrize("scale", [1e300, 1e-300, 2.0**-3, 1e12])
def test_any_scale(scale: float) -> None:
    """Huge and tiny rewards have the same figures, and the spread in their own unit."""
    given: list[Given] = [(0.7, (0.4, 0.6)), (0.9, (0.3, 0.8)), (0.1, (0.5, 0.4))]
    prompts = [prompt(number, ["copy.before"]) for number in range(3)]
    plain = measure_one(COPY, prompts, given)
    scaled = measure_one(
        COPY, prompts, [(one[0] and one[0] * scale, [v and v * scale for v in one[1]]) for one in given]
    )
    assert plain.gain is not None
    assert scaled.gain is not None
    assert scaled.gain.value == pytest.approx(plain.gain.value)
    assert plain.reward_gain is not None
    assert scaled.reward_gain is not None
    assert scaled.reward_gain.value / scale == pytest.approx(plain.reward_gain.value)


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_unscored(odd: float) -> None:
    prompts = [prompt(number, ["copy.before"]) for number in range(2)]
    found = measure_one(COPY, prompts, [(odd, (0.4, 0.6)), (0.9, (odd, 0.6))])
    assert found.unscored == 1
    assert found.win_rate is not None
    assert (found.win_rate.value, found.win_rate.n) == (1, 1)


def test_slope_over_the_copied_share() -> None:
    """Rewards of 0.2 + 0.4 x share and 0.3 + 0.2 x share; a third prompt has one point, and so no line."""
    attacks = [entry(f"copy.{share}", share=share / 100) for share in (100, 0, 50)]
    names = [attack.name for attack in attacks]
    given = scores(
        [
            {"copy.0": (0.2, (0.5,)), "copy.50": (0.4, (0.5,)), "copy.100": (0.6, (0.5,))},
            {"copy.0": (0.3, (0.5,)), "copy.50": (None, (0.5,)), "copy.100": (0.5, (0.5,))},
            {"copy.0": (0.1, (0.5,)), "copy.50": (None, (0.5,)), "copy.100": (None, (0.5,))},
        ]
    )
    prompts = [prompt(number, names, genuine=("a",)) for number in range(3)]
    [slope] = measure(prompts, attacks, {"r": given}).slopes
    assert [point.copied_share for point in slope.points] == [0, 0.5, 1]
    assert [point.reward.n for point in slope.points] == [3, 1, 2]
    assert [point.reward.value for point in slope.points] == pytest.approx([0.2, 0.4, 0.55])
    assert slope.slope is not None
    assert slope.slope.value == pytest.approx(0.3)
    assert slope.slope.n == 2


def test_no_slope_without_shares() -> None:
    assert measure([prompt(0, ["copy.before"])], [COPY], {"r": scores([{"copy.before": (1, (1, 1))}])}).slopes == []


REWARDS = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-2, 2).map(float)


@st.composite
def audits(draw: st.DrawFn) -> tuple[list[AuditPrompt], list[Given]]:
    prompts: list[AuditPrompt] = []
    given: list[Given] = []
    for number in range(draw(st.integers(1, 8))):
        width = draw(st.integers(1, 4))
        changed = draw(st.none() | st.integers(0, width - 1))
        chosen = draw(st.none() | st.lists(st.booleans(), min_size=width, max_size=width).map(tuple))
        texts = (AttackedText("x.y", draw(st.text(max_size=9)), changed),) if draw(st.booleans()) else ()
        question = (Message("user", draw(st.sampled_from("abc"))),)
        prompts.append(AuditPrompt(str(number), question, ("text",) * width, chosen, texts))
        given.append((draw(REWARDS), [draw(REWARDS) for _ in range(width)]))
    return prompts, given


@given(audits(), st.sampled_from(Effect))
def test_always(audit: tuple[list[AuditPrompt], list[Given]], effect: Effect) -> None:
    """Shares lie in 0 to 1, everything is a number inside its interval, and no prompt is lost."""
    prompts, given = audit
    attack = entry("x.y", effect)
    rows = scores([{"x.y": one} if asked.attacked else {} for asked, one in zip(prompts, given, strict=True)])
    [found] = measure(prompts, [attack], {"r": rows}).results
    assert found.prompts == sum(bool(asked.attacked) for asked in prompts)
    scored = found.win_rate.n if found.win_rate else 0
    assert found.unscored + scored == found.prompts
    for estimate in figures_of(found):
        if estimate is not None:
            assert all(math.isfinite(one) for one in (estimate.value, estimate.low, estimate.high))
            assert estimate.low <= estimate.value <= estimate.high
            assert 1 <= estimate.n <= scored
    for share in (found.win_rate, found.flip_rate, found.drop_auc):
        assert share is None or 0 <= share.low <= share.high <= 1
    assert AttackResult.model_validate_json(found.model_dump_json()) == found


def figures_of(found: AttackResult) -> list[Estimate | None]:
    return [found.win_rate, found.gain, found.reward_gain, found.flip_rate, found.drop_auc]
