from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.similarity import TokenF1
from flip_reward.core.tokens import load_normalizer
from flip_reward.report.highlight import SharedTokens, find_shared_tokens

WORDS = st.sampled_from(
    ["the", "Soil", "soil,", "a", "quick-witted", "写一首诗。", "e\u0301te\u0301", "...", "“a”", "12", "\x00b"]
)
TEXTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40)


def stretches(text: str, bounds: tuple[int, ...]) -> list[str]:
    return [text[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]


def test_shared_words_are_found_on_both_sides_without_their_punctuation() -> None:
    inferred, original = "What is soil degradation?", "Define 'soil degradation', please."
    shared = find_shared_tokens(inferred, original)
    assert stretches(inferred, shared.inferred) == ["soil degradation"]
    assert stretches(original, shared.original) == ["soil degradation"]


def test_a_token_is_shared_as_often_as_it_occurs_in_both() -> None:
    shared = find_shared_tokens("red red red", "red blue red")
    assert stretches("red red red", shared.inferred) == ["red red"]
    assert stretches("red blue red", shared.original) == ["red", "red"]


def test_articles_are_not_tokens_and_end_a_stretch() -> None:
    assert stretches("bake a cake", find_shared_tokens("bake a cake", "bake a cake").inferred) == ["bake", "cake"]


def test_nothing_shared() -> None:
    assert find_shared_tokens("", "x") == find_shared_tokens("y", "x") == SharedTokens((), ())


def test_scripts_without_spaces_are_cut_at_characters() -> None:
    shared = find_shared_tokens("写一首诗。", "请写首歌", "multilingual")
    assert stretches("写一首诗。", shared.inferred) == ["写", "首"]
    assert stretches("请写首歌", shared.original) == ["写首"]


def test_joined_words_are_cut_where_the_normaliser_cuts_them() -> None:
    shared = find_shared_tokens("state-of-the-art", "the state of things", "multilingual")
    assert stretches("the state of things", shared.original) == ["the state of"]


def test_a_long_word_takes_no_time() -> None:
    word = "x" * 200_000
    assert find_shared_tokens(word, word).inferred == (0, 200_000)
    mixed = "写" * 5_000 + word
    assert find_shared_tokens(mixed, mixed, "multilingual").inferred == (0, len(mixed))


@given(TEXTS, TEXTS)
def test_what_is_highlighted_has_the_tokens_that_the_reward_counts(inferred: str, original: str) -> None:
    reference = TokenF1().prepare(original)
    shared = find_shared_tokens(inferred, original)
    tokens = load_normalizer("english").tokenize
    highlighted = sum(len(tokens(stretch)) for stretch in stretches(inferred, shared.inferred))
    total = len(tokens(inferred))
    if total and not reference.empty:
        match = reference.compare(inferred)
        assert match.precision is not None
        # A word that the normaliser cuts into several tokens is highlighted whole or not at all.
        assert highlighted <= round(match.precision * total)
        if all(len(tokens(chunk)) <= 1 for chunk in (*inferred.split(), *original.split())):
            assert highlighted == round(match.precision * total)


@given(TEXTS, TEXTS, st.sampled_from(["english", "multilingual"]))
def test_stretches_are_in_order_and_inside_the_text(inferred: str, original: str, normalizer: str) -> None:
    shared = find_shared_tokens(inferred, original, normalizer)
    for text, bounds in ((inferred, shared.inferred), (original, shared.original)):
        assert list(bounds) == sorted(set(bounds))
        assert all(0 <= bound <= len(text) for bound in bounds)
