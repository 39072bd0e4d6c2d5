from __future__ import annotations

import re
import string
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flip_reward.core.tokens import load_normalizer, normalize_answer
from flip_reward.errors import OptionError

tokenize = load_normalizer("multilingual").tokenize

# Texts of the characters where a fast path could go wrong: articles, white space and control characters of every
# kind, punctuation and look-alikes of it, letters that lower-case to ASCII or to two characters, lone surrogates.
TRICKY_TEXTS = st.text(
    st.one_of(
        st.sampled_from("aAnNtThHeE"),
        st.sampled_from(string.punctuation),
        st.sampled_from(" \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u2003\u2028\u3000"),
        st.sampled_from("\x00\x01\x1b\x7f\x80\u200b\u200d\ufeff\ud800\udc00"),
        st.sampled_from("éİıΣςK“”’—¿²٣_＿。诗ⓐ\u0301👍"),
    )
)
TEXTS = st.one_of(
    TRICKY_TEXTS,
    st.text(),
    st.lists(st.sampled_from(["a", "An", "THE", "cat", "the-cat", "“the”", "a\x00an", "_a_", "x"])).map(" ".join),
)


def plain_normalize(text: str) -> str:
    """What normalize_answer must equal: the four steps of SQuAD's normalisation, one after another."""
    punctuation = set(string.punctuation)
    kept = "".join(character for character in text.lower() if character not in punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


@given(TEXTS)
@example("a\x00the\x00an")
@example("“a” the’an")
@example("A_the_an")
@example("a\x1cthe\x1fb\x85an\xa0a")
@example("\ud83d!\ude00 the")
@example("ΑΣ' Σ")
def test_english_equals_the_plain_version(text: str) -> None:
    assert normalize_answer(text) == plain_normalize(text)


@pytest.mark.parametrize("template", ["{0}a{0}The{0}", "x{0}an {0}", "{0}{0} the{0}n"])
def test_english_equals_the_plain_version_around_every_character_below_u_3100(template: str) -> None:
    texts = [template.format(chr(code)) for code in range(0x3100)]

    assert [normalize_answer(text) for text in texts] == [plain_normalize(text) for text in texts]


def test_no_white_space_is_a_word_character() -> None:
    """The English fast path stands on this: the edge of a word is a word boundary."""
    assert not [code for code in range(sys.maxunicode + 1) if chr(code).isspace() and re.match(r"\w", chr(code))]


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The quick-witted  Fox", "quickwitted fox"),
        ("it's 1.5%", "its 15"),
        ("plan A", "plan"),
        ("another theory, Anna", "another theory anna"),
        ("“a” cat", "“ ” cat"),
        ("写一首诗。", "写一首诗。"),
        ("?! the", ""),
        ("", ""),
    ],
)
def test_english_examples(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("写一首诗。", ["写", "一", "首", "诗"]),
        ("写一首关于AI的诗,用30个字", ["写", "一", "首", "关", "于", "ai", "的", "诗", "用", "30", "个", "字"]),
        ("東京タワーへ行く！", ["東", "京", "タ", "ワ", "ー", "へ", "行", "く"]),
        ("กี่ วัน ๑๒๓", ["กี่", "วั", "น", "๑๒๓"]),
        ("ສະບາຍດີ", ["ສ", "ະ", "ບ", "າ", "ຍ", "ດີ"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("ကျေးဇူး၊ ဒုက္ခ", ["ကျေး", "ဇူး", "ဒု", "က္ခ"]),
        ("한국어로 시를 써 주세요!", ["한국어로", "시를", "써", "주세요"]),
        ("हिन्दी में कविता।", ["हिन्दी", "में", "कविता"]),
        ("שלום, עולם؟", ["שלום", "עולם"]),
        ("The state-of-the-art", ["the", "state", "of", "the", "art"]),
        ("Don't, don’t DONʼT", ["dont", "dont", "dont"]),
        ("“Straße” ‹STRASSE› «ﬁne»", ["strasse", "strasse", "fine"]),
        ("ＦＵＬＬ　ｗｉｄｔｈ", ["full", "width"]),
        ("می‌خواهم soft\u00adhyphen", ["میخواهم", "softhyphen"]),
        ("zero\u200bwidth\u2003space\x00nul\x1cfs", ["zero", "width", "space", "nul", "fs"]),
        ("❤️👍🏽 © ■", ["❤", "👍", "©"]),
        ("$5 + 3 = 8 … ±", ["5", "3", "8"]),
        ("\u0301 a\u0301", ["á"]),
        ("؟ 。…", []),
    ],
)
def test_multilingual_examples(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(TEXTS)
def test_multilingual_is_blind_to_the_normal_form(text: str) -> None:
    assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(unicodedata.normalize("NFKC", text))


@given(st.text(st.characters(max_codepoint=127)))
def test_multilingual_treats_ascii_alike_alone_and_among_other_characters(text: str) -> None:
    assert [*tokenize(text), "é"] == tokenize(text + " é")


@given(TEXTS)
def test_multilingual_tokens_hold_no_white_space_and_no_punctuation(text: str) -> None:
    for token in tokenize(text):
        assert token
        assert not [character for character in token if unicodedata.category(character)[0] in "PZ"]


def test_an_unknown_normalizer_is_refused_with_the_list() -> None:
    with pytest.raises(OptionError, match="'klingon'") as caught:
        load_normalizer("klingon")
    assert caught.value.hint == "normalizers are english, multilingual"
