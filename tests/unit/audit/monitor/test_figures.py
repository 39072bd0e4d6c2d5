import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from flip_reward.audit.monitor.figures import (
    CHARACTERS_READ,
    count_phrases,
    find_rising_phrase,
    measure,
    measure_drift,
    measure_likeness,
    measure_noise,
    measure_saturation,
    measure_slope,
)
from flip_reward.audit.monitor.rollout import Rollout

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=20)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("Write a poem about the sea and the wind", "WRITE poem about sea and wind! Waves."),
        (
            "Write a poem about the sea and the wind",
            "W\u200bri\u200bte a poem about the sea and the wind.",
        ),
        ("请介绍一下长江的历史和文化意义", "请介绍一下长江的历史和文化意义。山水。"),
        ("Name fruits.", "Name fruits. Pears."),
    ],
)
def test_copies_are_seen_in_every_disguise_and_script(prompt: str, response: str) -> None:
    assert measure(Rollout(0, prompt, response, 0.5)).copied == 1.0
    assert measure(Rollout(0, prompt, "Pears 山.", 0.5)).copied == 0.0


def test_what_a_text_is_like() -> None:
    found = measure(Rollout(0, "Name three red fruits now", "Well, name three red fruits! So so so so so so.", 0.5))
    assert found.copied == 0.8, "four of five words, in one of two rows"
    assert found.length == 47
    assert found.repetition == pytest.approx(1 - 6 / 8)
    assert ("so", "so") in found.phrases
    assert ("three", "red") not in found.phrases, "it stands in the prompt"


def test_thinking_is_no_part_of_the_answer() -> None:
    prompt = "Name three red fruits now"
    found = measure(Rollout(0, prompt, f"<think>{prompt}, they say.</think>Cherries.", math.nan))
    assert (found.copied, found.length, found.reward) == (0.0, 9.0, None)
    for unanswered in ("", " \n", "<think>Well"):
        assert measure(Rollout(0, prompt, unanswered, 0.0)).length is None


def test_only_the_beginning_of_a_long_text_is_split_into_words() -> None:
    found = measure(Rollout(0, "Go on", "on " * CHARACTERS_READ, None))
    assert found.length == 3 * CHARACTERS_READ
    assert len(found.tokens) <= CHARACTERS_READ // 3 + 1


@given(NUMBERS, NUMBERS)
def test_drift_is_what_scipy_says(now: list[float], early: list[float]) -> None:
    assert measure_drift(now, early) == pytest.approx(ks_2samp(now, early, method="asymp").statistic)


def test_saturation() -> None:
    assert measure_saturation([-2.0, -1.0, -1.05, -3.0], -1.0, -3.0) == 0.5
    assert measure_saturation([0.5, 0.5], 0.5, 0.5) is None, "nothing varies"
    assert measure_saturation([], 1.0, 0.0) is None


def test_the_slope_of_unequal_steps() -> None:
    assert measure_slope([(0, 0.1), (10, 0.3), (15, 0.4)]) == pytest.approx(0.02)
    assert measure_slope([(3, 0.1)]) is None


def test_noise_is_that_of_the_mean_of_the_inferences() -> None:
    """Rewards that differ only because inferences do are all noise."""
    generator = Random(1)
    drawn = [[generator.gauss(0, 1) for _ in range(4)] for _ in range(2000)]
    means = [sum(four) / 4 for four in drawn]
    spreads = [(math.sqrt(sum((x - m) ** 2 for x in four) / 4), 4) for four, m in zip(drawn, means, strict=True)]
    assert measure_noise(means, spreads) == pytest.approx(1.0, abs=0.1)
    assert measure_noise([3 * mean for mean in means], spreads) == pytest.approx(1 / 9, abs=0.02)
    assert measure_noise([1.0, 1.0], [(0.0, 2)]) is None
    assert measure_noise([1.0, 2.0], []) is None


def test_likeness() -> None:
    assert measure_likeness([["a", "b", "c", "d"], ["a", "b", "c", "e"]], 0) == pytest.approx(1 / 3)
    assert measure_likeness([["a"], ["b"]], 0) is None
    generator = Random(2)
    texts = [generator.choices("abcd", k=30) for _ in range(60)]
    drawn = measure_likeness(texts, 0)
    assert drawn == measure_likeness(texts, 0)
    assert drawn == pytest.approx(measure_likeness(texts, 1), abs=0.02)


def test_the_phrase_that_rises_most() -> None:
    early = count_phrases([measure(Rollout(0, "?", text, None)) for text in ("As I said, yes.", "As I said, no.")])
    now = count_phrases(
        [measure(Rollout(9, "?", f"In summary, {text}", None)) for text in ("as I said, yes", "as ever")]
    )
    assert find_rising_phrase(now, 2, early, 2) == (("in", "summary", "as"), 1.0)
    assert find_rising_phrase(now, 2, {}, 0) is None
