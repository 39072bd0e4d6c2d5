from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.idf.table import count_words
from flip_reward.core.similarity import Match
from flip_reward.core.tokens import load_normalizer
from flip_reward.errors import DataError, MissingDependencyError, OptionError
from flip_reward.rewards.similarities import load_similarity

LEXICAL = ["f1", "f1-idf", "rouge-l", "chrf", "bleu"]
ORIGINAL = "Write a short poem about the sea and the wind."
CLOSE = "Write a poem about the sea."
FAR = "Translate this invoice to German."


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model2vec model of four words on two axes: cats to the right, upwards and to the left, a null vector."""
    model2vec = pytest.importorskip("model2vec")
    tokenizers = pytest.importorskip("tokenizers")
    vectors = {"[UNK]": (0.0, 0.0), "cat": (2.0, 0.0), "dog": (0.0, 3.0), "anticat": (-1.0, 0.0)}
    words = tokenizers.models.WordLevel({word: index for index, word in enumerate(vectors)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("embedding") / "tiny"
    model2vec.StaticModel(np.array(list(vectors.values()), dtype=np.float32), tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", LEXICAL)
def test_values_grow_from_unrelated_to_identical(name: str) -> None:
    reference = load_similarity(name).prepare(ORIGINAL)
    far, close, same = (reference.compare(inferred).value for inferred in (FAR, CLOSE, ORIGINAL))

    assert 0.0 <= far < close < same == pytest.approx(1.0)
    assert same <= 1.0


@pytest.mark.parametrize("name", LEXICAL)
def test_an_empty_inference_has_the_value_0(name: str) -> None:
    assert load_similarity(name).prepare(ORIGINAL).compare("").value == 0.0


@pytest.mark.parametrize("name", LEXICAL)
@pytest.mark.parametrize(("instruction", "empty"), [("", True), ("The ... a!", True), ("Sing.", False)])
def test_an_instruction_without_tokens_is_empty(name: str, instruction: str, *, empty: bool) -> None:
    reference = load_similarity(name).prepare(instruction)

    assert reference.empty is empty
    assert reference.compare("jump").value == 0.0


@pytest.mark.parametrize("name", LEXICAL)
def test_case_punctuation_and_articles_do_not_count(name: str) -> None:
    match = (
        load_similarity(name).prepare("Sing the Song of Sixpence, please!").compare("sing song of sixpence please")
    )

    assert match.value == pytest.approx(1.0)


@pytest.mark.parametrize("name", LEXICAL)
def test_the_multilingual_normalizer_reads_scripts_without_spaces(name: str) -> None:
    reference = load_similarity(name, normalizer="multilingual").prepare("写一首关于大海的诗。")

    assert reference.compare("写一首关于大海的诗").value == pytest.approx(1.0)
    assert 0.0 < reference.compare("写一首诗").value < 1.0


@pytest.mark.parametrize("name", [*LEXICAL, *(f"{name}:multilingual" for name in LEXICAL)])
def test_the_name_of_a_similarity_makes_it_again(name: str) -> None:
    assert load_similarity(name).name == name


@pytest.mark.parametrize("name", LEXICAL)
def test_a_normalizer_shows_in_the_name(name: str) -> None:
    assert load_similarity(name, normalizer="multilingual").name == f"{name}:multilingual"


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    match = load_similarity("rouge-l").prepare("police killed gunman").compare("police ended gunman quickly")

    assert match == Match(pytest.approx(4 / 7), precision=0.5, recall=2 / 3)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from("abcd"), max_size=80), st.lists(st.sampled_from("abcde"), max_size=80))
def test_rouge_l_equals_that_of_the_library(original: list[str], inferred: list[str]) -> None:
    scoring = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = scoring.RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=str.split))
    expected = scorer.score(" ".join(original), " ".join(inferred))["rougeL"]

    match = (
        load_similarity("rouge-l", normalizer="multilingual").prepare(" ".join(original)).compare(" ".join(inferred))
    )

    assert match == Match(expected.fmeasure, expected.precision, expected.recall)


def test_rouge_l_minds_the_order_and_f1_does_not() -> None:
    original, reordered = "man bites dog", "dog bites man"

    assert load_similarity("rouge-l").prepare(original).compare(reordered).value == pytest.approx(1 / 3)
    assert load_similarity("f1").prepare(original).compare(reordered).value == 1.0


@pytest.mark.parametrize("name", ["chrf", "bleu"])
def test_sacrebleu_measures_equal_its_sentence_scores(name: str) -> None:
    metrics = pytest.importorskip("sacrebleu").metrics
    metric = metrics.CHRF() if name == "chrf" else metrics.BLEU(tokenize="none", effective_order=True)
    original, inferred = "write short poem about sea and wind", "write poem about sea wind in rhyme"

    expected = metric.sentence_score(inferred, [original]).score / 100
    reference = load_similarity(name).prepare(original)

    assert 0.0 < expected < 1.0
    assert reference.compare(inferred) == Match(expected)
    assert reference.compare(inferred) == Match(expected)


@pytest.mark.parametrize(
    ("inferred", "cosine"),
    [
        ("cat", 1.0),
        ("cat cat", 1.0),
        ("cat dog", 2 / 13**0.5),
        ("dog", 0.0),
        ("anticat", 0.0),
        ("", 0.0),
        ("fish", 0.0),
    ],
)
def test_embedding_is_the_cosine_with_opposites_at_0(model_folder: Path, inferred: str, cosine: float) -> None:
    reference = load_similarity("embedding", embedding_model=str(model_folder)).prepare("cat")

    assert reference.compare(inferred) == Match(pytest.approx(cosine))  # type: ignore[arg-type]


@pytest.mark.parametrize(("instruction", "empty"), [("cat", False), ("fish", True), ("", True)])
def test_an_instruction_the_model_does_not_know_is_empty(
    model_folder: Path, instruction: str, *, empty: bool
) -> None:
    assert load_similarity("embedding", embedding_model=str(model_folder)).prepare(instruction).empty is empty


def test_embedding_reads_the_whole_instruction(model_folder: Path) -> None:
    """model2vec itself stops after 512 tokens."""
    reference = load_similarity("embedding", embedding_model=str(model_folder)).prepare("dog")

    assert reference.compare("cat " * 600 + "dog").value > 0.0


def test_embedding_is_named_after_its_model(model_folder: Path) -> None:
    name = f"embedding:{model_folder}"

    assert load_similarity("embedding", embedding_model=str(model_folder)).name == name
    assert load_similarity(name).name == name


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="embedding") as caught:
        load_similarity("embedding", embedding_model=str(tmp_path))
    assert "local folder" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "near"), [("rougel", "rouge-l"), ("ROUGE-L", "rouge-l"), ("blue", "bleu"), ("chrf++", "chrf")]
)
def test_a_misspelt_name_is_answered_with_the_near_one(name: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"did you mean '{near}'") as caught:
        load_similarity(name)
    assert caught.value.hint == "similarities are f1, f1-idf, rouge-l, chrf, bleu, embedding"


def test_a_name_like_none_is_answered_with_the_list_alone() -> None:
    with pytest.raises(OptionError) as caught:
        load_similarity("zzz")
    assert str(caught.value) == "unknown similarity 'zzz'"


@pytest.mark.parametrize("name", ["f1", "bleu"])
def test_an_unknown_normalizer_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="latin"):
        load_similarity(name, normalizer="latin")


def test_an_embedding_model_without_embedding_is_refused() -> None:
    with pytest.raises(OptionError, match="embedding"):
        load_similarity("f1", embedding_model="some/model")


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [
        ("chrf", "sacrebleu", "sacrebleu"),
        ("bleu", "sacrebleu", "sacrebleu"),
        ("embedding", "model2vec", "model2vec"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    name: str, package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # how Python itself marks a module that cannot be imported

    with pytest.raises(MissingDependencyError, match=f"{package} is not installed") as caught:
        load_similarity(name)
    assert caught.value.hint == 'pip install "flip-reward[similarity]"'


def test_importing_the_catalogue_imports_no_library() -> None:
    program = (
        "import sys, flip_reward.rewards.similarities\n"
        "print(*sys.modules.keys() & {'numpy', 'nltk', 'rouge_score', 'sacrebleu', 'model2vec', 'huggingface_hub'})"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert finished.stdout.strip() == ""


def write_prompts(path: Path, *prompts: str) -> str:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return str(path)


PROMPTS = ("Write a haiku.", "Write a poem.", "Write an essay.")


def test_words_of_prompts_and_their_table_are_the_same_similarity(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", *PROMPTS)
    counted = load_similarity("f1-idf", idf=prompts)
    table = tmp_path / "words.txt"
    table.write_bytes(count_words(PROMPTS, load_normalizer("english")).to_bytes())
    assert re.fullmatch("f1-idf:english@[0-9a-f]{8}", counted.name)
    assert load_similarity("f1-idf", idf=str(table)).name == counted.name
    assert load_similarity(counted.name, idf=prompts).name == counted.name
    assert counted.prepare("write haiku").compare("write poem").value == 0.0  # all of them write


def test_prompts_may_be_anything_that_can_be_scored(tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    turns = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": prompt}] for prompt in PROMPTS
    ] + [[{"role": "system", "content": "Nobody asked."}]]
    chats.write_text("".join(json.dumps({"prompt": turn}) + "\n" for turn in turns), encoding="utf-8")
    table = tmp_path / "rows.csv"
    table.write_text("question,answer\n" + "".join(f"{one},Yes.\n" for one in PROMPTS), encoding="utf-8")
    plain = load_similarity("f1-idf", idf=write_prompts(tmp_path / "prompts.jsonl", *PROMPTS)).name
    assert [load_similarity("f1-idf", idf=str(path)).name for path in (chats, table)] == [plain, plain]


def test_a_name_with_prompts_of_its_own_needs_them(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl", *PROMPTS)
    name = load_similarity("f1-idf", idf=prompts).name
    with pytest.raises(OptionError, match=name) as caught:
        load_similarity(name)
    assert "--idf" in (caught.value.hint or "")
    write_prompts(tmp_path / "prompts.jsonl", "Sing.", "Dance.")
    with pytest.raises(OptionError, match=f"not {name}"):
        load_similarity(name, idf=prompts)


@pytest.mark.parametrize("name", ["f1", "rouge-l", "f1:multilingual"])
def test_prompts_to_count_words_in_belong_to_one_similarity(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match="no sense"):
        load_similarity(name, idf=write_prompts(tmp_path / "prompts.jsonl", *PROMPTS))


def test_a_table_of_another_normalizer_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "words.txt"
    table.write_bytes(count_words(PROMPTS, load_normalizer("multilingual")).to_bytes())
    with pytest.raises(DataError, match="multilingual, not english"):
        load_similarity("f1-idf", idf=str(table))
    assert load_similarity("f1-idf:multilingual", idf=str(table)).name.startswith("f1-idf:multilingual@")


@pytest.mark.parametrize("prompts", [(), ("Sing.",), ("Sing.", "Sing.", "?")], ids=["none", "one", "same"])
def test_too_few_prompts_are_refused(tmp_path: Path, prompts: tuple[str, ...]) -> None:
    with pytest.raises(DataError):
        load_similarity("f1-idf", idf=write_prompts(tmp_path / "prompts.jsonl", *prompts))


def test_prompts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        load_similarity("f1-idf", idf=str(tmp_path / "none.jsonl"))
