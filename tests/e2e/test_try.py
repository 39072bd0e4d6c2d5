"""One score as a person reads it."""

import json
from pathlib import Path

import pytest

from tests.e2e.command import run, run_process
from tests.http.fault_server import FaultServer

SCRIPTED = ("--model", "scripted", "--cache", "off")
FRUITS = "Name three fruits."


def test_the_shared_words_are_marked_in_both(tmp_path: Path) -> None:
    tried = run(tmp_path, "try", FRUITS, "Please name three fruits: plums.", *SCRIPTED)
    assert tried.returncode == 0, tried.stderr
    lines = dict(line.split(maxsplit=1) for line in tried.stdout.splitlines())
    assert lines["instruction"].strip() == "*Name three fruits*."
    assert "*name three fruits*:" in lines["inferred"]
    assert float(lines["reward"]) > 0
    assert lines["recall"].startswith("1.000 ")
    assert tried.stderr == "model: scripted\n"
    assert not (tmp_path / "runs").exists()


def test_several_responses_are_ranked(tmp_path: Path) -> None:
    responses = ["It rains.", "", "Name three fruits or so, please."]
    shown = run(tmp_path, "try", FRUITS, *responses, *SCRIPTED).stdout
    places = [shown.index(text) for text in ("1.", "or so, please.", "2.", "It rains.", "Not scored", "is blank")]
    assert places == sorted(places)
    scores = json.loads(run(tmp_path, "try", FRUITS, *responses, *SCRIPTED, "--json").stdout)["scores"]
    assert [score["response"] for score in scores] == responses
    assert [score["rank"] for score in scores] == [2, None, 1]
    assert scores[1]["outcome"] == "empty_response"


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_the_response_comes_from_standard_input(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    tried = run(tmp_path, "try", FRUITS, *arguments, *SCRIPTED, "--json", stdin="Apples and pears.\n")
    [score] = json.loads(tried.stdout)["scores"]
    assert score["response"] == "Apples and pears."


def test_any_reward_and_any_model(tmp_path: Path) -> None:
    judged = run(tmp_path, "try", FRUITS, "Apples.", "Pears are fruits.", "-r", "longest")
    assert judged.stderr == "model: none\n"
    assert judged.stdout.index("Pears are fruits.") < judged.stdout.index("Apples.")
    copied = run(tmp_path, "try", FRUITS, "Three fruits.", "-r", "copy").stdout
    assert "1.000 of the response's words are in the instruction" in copied
    assert "inferred" not in copied, "a control infers nothing"
    with FaultServer(script=lambda _request: '{"INFERRED INSTRUCTION": "name fruits"}') as server:
        address = ("--base-url", server.base_url, "--model", server.model, "--cache", "off")
        tried = run(tmp_path, "try", FRUITS, "Apples.", *address)
    assert f"model: {server.model} at {server.base_url}" in tried.stderr
    assert "*name fruits*" in tried.stdout


@pytest.mark.parametrize("reward", ["pairwise", "z(longest)"])
def test_a_reward_that_compares_wants_several_responses(tmp_path: Path, reward: str) -> None:
    tried = run(tmp_path, "try", FRUITS, "Apples.", "-r", reward)
    assert tried.returncode == 2
    assert tried.stderr.splitlines() == [
        f"Error: {reward} compares responses, and there is only one",
        "Hint: give two or more",
    ]


def test_what_cannot_be_scored_says_so_in_words(tmp_path: Path) -> None:
    blank = run(tmp_path, "try", FRUITS, " ", *SCRIPTED)
    assert blank.returncode == 3
    assert "none: the response is blank (empty_response)" in blank.stdout
    alone = run(tmp_path, "try", FRUITS, "Apples.", "-r", "pairwise", *SCRIPTED)
    assert alone.returncode == 2
    assert run(tmp_path, "try", FRUITS, "-", "-", *SCRIPTED, stdin="x").returncode == 2
    assert run(tmp_path, "try", *SCRIPTED).returncode == 2


def test_texts_that_a_terminal_cannot_show(tmp_path: Path) -> None:
    tried = run_process(tmp_path, "try", "say 水", "word 水 \x1b[2J", *SCRIPTED, PYTHONIOENCODING="ascii")
    assert tried.returncode == 0
    assert "\x1b[2J" not in tried.stdout
    assert "word" in tried.stdout
