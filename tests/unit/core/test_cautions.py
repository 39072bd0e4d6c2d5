from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.cautions import Caution, ReliabilityLimits, share_of_code, share_of_english

LIMITS = ReliabilityLimits(least_words=3, most_code=0.8, least_english=0.1)

FUNCTION = "```python\ndef add(a, b):\n    return a + b\n```"
BARE = """\
#include <stdio.h>

int main() {
    int total = 0;
    for (int i = 0; i < 3; i++) {
        total += i;
    }
    printf("%d", total);
}"""
GERMAN = "Birnen und Pflaumen wachsen auf Bäumen, die im Frühling blühen und im Herbst ihre Früchte tragen."
CHINESE = "梨和李子长在树上，春天开花，秋天结果。"
LIST = "1. Pears\n2. Plums\n3. Apples\n4. Cherries"
QUOTED = "To add two numbers, use a plus sign. It also joins texts and lists:\n" * 3 + FUNCTION


@pytest.mark.parametrize(
    ("answer", "cautions"),
    [
        ("No.", (Caution.SHORT_RESPONSE,)),
        ("梨", (Caution.SHORT_RESPONSE,)),
        (FUNCTION, (Caution.MOSTLY_CODE,)),
        ("```\nan open fence\nis code to its end", (Caution.MOSTLY_CODE,)),
        (BARE, (Caution.MOSTLY_CODE,)),
        (GERMAN, (Caution.OTHER_LANGUAGE,)),
        (CHINESE, (Caution.OTHER_LANGUAGE,)),
        (LIST, ()),
        ("def avg(numbers):\n    return sum(numbers) / len(numbers)", (Caution.MOSTLY_CODE,)),
        ("<ul>\n  <li>Pears</li>\n</ul>", (Caution.MOSTLY_CODE,)),
        ("for a quick dinner: boil pasta and add sauce (any kind).\nif you want to, I can help: just ask.", ()),
        ("x is 5 and y is 3:\nx = 5.\ny = 3.", ()),
        ("x + y = 5", ()),
        ("<b>Paris</b> is the capital of France,\n<i>and</i> it lies on a river.", ()),
        (QUOTED, ()),
        ("Pears grow on trees, and so do plums. In the north they are in flower in April.", ()),
    ],
)
def test_what_an_inferrer_cannot_know(answer: str, cautions: tuple[Caution, ...]) -> None:
    assert LIMITS.find_cautions(answer) == cautions


def test_an_inferrer_of_any_language() -> None:
    assert ReliabilityLimits(3, 0.8, 0.0).find_cautions(GERMAN) == ()


@given(st.text())
def test_shares_are_shares(text: str) -> None:
    assert 0 <= share_of_code(text) <= 1
    assert 0 <= share_of_english(text) <= 1


@given(st.integers(1, 2000))
def test_nothing_takes_long(count: int) -> None:
    for part in ("a.", "(", "x = ", "```", "< ", "def (", "<a ", "<a>", "import a.", "for :"):
        assert 0 <= share_of_code(part * count) <= 1
