from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flip_reward.training.inferrer.near_duplicates import NearIndex, Words, are_alike, stands_in

LONG = "Write a letter to my landlord who does not want to repair the heating in winter"
texts = st.lists(st.sampled_from(list("abcdefghijkl")), min_size=1, max_size=14).map(" ".join)


def index_of(*known: str, lookups: tuple[str, ...] = (), contained: bool = True) -> NearIndex:
    index = NearIndex([Words.of(text) for text in (*known, *lookups)], contained=contained)
    for text in known:
        index.add(Words.of(text))
    return index


def test_case_punctuation_and_order_do_not_matter() -> None:
    assert index_of(LONG).has_near(Words.of("in WINTER: " + LONG.removesuffix(" in winter") + "!"))


def test_one_word_of_fifteen_does_not_matter() -> None:
    assert index_of(LONG).has_near(Words.of(LONG.replace("landlord", "neighbour")))


def test_short_prompts_with_another_word_are_other_prompts() -> None:
    assert not index_of("What are the symptoms of measles?").has_near(Words.of("What are the symptoms of gout?"))


def test_a_prompt_inside_another_is_found_from_both_sides() -> None:
    around = f"You are a poet of the old school, and you never rhyme. {LONG}. Do it in three short sentences, please."
    assert index_of(around).has_near(Words.of(LONG))
    assert index_of(LONG).has_near(Words.of(around))
    assert not index_of(LONG, contained=False).has_near(Words.of(around))


def test_a_prompt_whose_rare_words_are_left_out_is_found_inside_another() -> None:
    common = [f"common{number}" for number in range(50)]
    rare = [f"rare{number}" for number in range(8)]
    whole = " ".join([*common, *(f"other{number}" for number in range(40))])
    index = index_of(whole, lookups=tuple([" ".join(common)] * 3))
    assert index.has_near(Words.of(" ".join([*common, *rare])))


def test_the_words_of_a_prompt_in_another_order_do_not_stand_in_it() -> None:
    shuffled = " ".join(sorted(LONG.split())) + " and many other words that come after all of them in this text"
    assert not stands_in(Words.of(LONG), Words.of(shuffled))


def test_scripts_without_spaces() -> None:
    assert index_of("请写一首关于秋天的诗").has_near(Words.of("请写一首关于秋天的诗。"))
    assert not index_of("请写一首关于秋天的诗").has_near(Words.of("法国的首都是哪里"))


def test_texts_without_words() -> None:
    assert not index_of("...").has_near(Words.of("Name a fruit"))


@given(st.lists(texts, min_size=1, max_size=8), texts)
def test_no_text_that_is_alike_is_missed(known: list[str], text: str) -> None:
    expected = any(are_alike(Words.of(text), Words.of(one)) for one in known)
    assert index_of(*known, lookups=(text,), contained=False).has_near(Words.of(text)) is expected


@given(texts, texts, texts, st.lists(texts, max_size=3))
def test_no_text_that_stands_in_another_is_missed(before: str, part: str, after: str, others: list[str]) -> None:
    around = f"{before} {part} {after}"
    for known, text in ((part, around), (around, part)):
        words, indexed = Words.of(text), [Words.of(one) for one in (known, *others)]
        near = any(are_alike(words, one) or stands_in(words, one) or stands_in(one, words) for one in indexed)
        assert index_of(known, *others, lookups=(text,)).has_near(words) is near
