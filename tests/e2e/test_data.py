"""Training data is made and checked with the installed command."""

import json
from pathlib import Path

from tests.e2e.command import run, write_rows


def test_made_switched_and_checked(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Name a fruit."}, {"prompt": "Name a bird."}])
    made = run(tmp_path, "data", "convert", "prompts.jsonl", "-o", "train.jsonl")
    assert made.returncode == 0, made.stderr
    assert made.stdout == "train.jsonl: 2 rows\n"
    switched = run(tmp_path, "data", "convert", "train.jsonl", "--reward", "general-quality", "-o", "judge.parquet")
    assert switched.returncode == 0, switched.stderr
    checked = run(tmp_path, "data", "check", "judge.parquet")
    assert checked.stdout == "judge.parquet: 2 good rows (general-quality 2), 0 bad ones\n"
    assert checked.stderr == ""


def test_bad_rows_are_named(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "Hi there"}], "ground_truth": "Hi", "dataset": "general-flip"}
    bot = {"role": "assistant", "content": "Hello"}
    write_rows(tmp_path / "rows.jsonl", [good, {**good, "messages": [bot]}, {**good, "dataset": "general-flop"}])
    checked = run(tmp_path, "data", "check", "rows.jsonl")
    assert checked.returncode == 2
    assert "line 2: " in checked.stderr
    assert "line 3: unknown reward 'general-flop'" in checked.stderr
    assert "1 rows have another 'ground_truth' than their last user turn" in checked.stderr
    assert "1 good rows (general-flip 1), 2 bad ones" in checked.stdout
    made = run(tmp_path, "data", "convert", "rows.jsonl", "-o", "new.jsonl")
    assert made.returncode == 3
    assert "new.jsonl: 2 rows; 1 left out" in made.stdout


def test_wildchat_of_a_small_file(tmp_path: Path) -> None:
    turn = {"role": "user", "toxic": False, "redacted": False}
    rows = [
        {"conversation": [{**turn, "content": text, "language": language}], "language": language, "toxic": toxic}
        for text, language, toxic in [
            ("Write a poem about the sea", "English", False),
            ("Something toxic about the sea", "English", True),
            ("Ein Gedicht über das Meer", "German", False),
        ]
    ]
    write_rows(tmp_path / "chats.jsonl", rows)
    made = run(tmp_path, "data", "wildchat", "--source", "chats.jsonl", "-o", "train.jsonl")
    assert made.returncode == 0, made.stderr
    assert made.stdout == "train.jsonl: 1 rows; left out: other language 1, toxic 1\n"
    assert json.loads((tmp_path / "train.jsonl").read_text())["dataset"] == "general-flip"


def test_the_words_of_prompts_weigh_them(tmp_path: Path) -> None:
    rows = [{"prompt": f"Name a {kind}.", "response": f"A {kind} is a thing."} for kind in ("fruit", "bird", "fish")]
    write_rows(tmp_path / "rows.jsonl", rows)
    counted = run(tmp_path, "data", "words", "rows.jsonl", "rows.jsonl", "-o", "words.txt")
    assert counted.stdout == "words.txt: 4 words of 3 different prompts\n"
    scored = ("score", "rows.jsonl", "-m", "scripted", "--similarity", "f1-idf", "--run-folder")
    assert run(tmp_path, *scored, "run", "--idf", "words.txt").returncode == 0
    again = run(tmp_path, *scored, "run", "--idf", "rows.jsonl")
    assert again.returncode == 0, "the same words are the same reward"
    other = run(tmp_path, *scored, "run")
    assert (other.returncode, "similarity" in other.stderr) == (2, True)
    assert run(tmp_path, "rescore", "run", "--similarity", "f1-idf", "--run-folder", "shipped").returncode == 0
    manifest = json.loads((tmp_path / "shipped/manifest.json").read_text())
    assert manifest["configuration"]["settings"]["similarity"] == "f1-idf"
    assert run(tmp_path, "report", "run").returncode == 0


def test_mistakes(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Name a fruit."}])
    for arguments, named in (
        (["convert", "prompts.jsonl", "-o", "train.txt"], "train.txt"),
        (["convert", "prompts.jsonl", "-o", "train.jsonl", "--reward", "general-flp"], "'general-flip'"),
        (["check", "prompt.jsonl"], "prompts.jsonl"),
    ):
        finished = run(tmp_path, "data", *arguments)
        assert finished.returncode == 2
        assert named in finished.stderr


def test_how_prompts_are_read_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"Question": "Name a tree.", "Answer": "An oak."}])
    for command, output in (("convert", "train.jsonl"), ("verl", "train.parquet")):
        finished = run(tmp_path, "data", command, "rows.jsonl", "-o", output)
        assert finished.returncode == 0, finished.stderr
        assert "Read as instruction = 'Question'" in finished.stderr
