"""`flip-reward audit` as a user runs it."""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.e2e.command import read, run, start, write_rows
from tests.http.fault_server import Fault, FaultServer, from_then_on

COPYING = ("--attack", "copy.alone", "--attack", "copy.before", "--attack", "broken.other")


def write_pairs(path: Path, count: int = 12) -> str:
    rows = [
        {
            "id": f"i{n}",
            "prompt": f"Say the word number{n} and then stop writing.",
            "chosen": [f"word number{n}"],
            "rejected": [f"Here is a long answer about something else than {n}"],
        }
        for n in range(count)
    ]
    return write_rows(path, rows).name


def test_help(tmp_path: Path) -> None:
    assert "audit" in run(tmp_path, "--help").stdout
    text = run(tmp_path, "audit", "--help-all").stdout
    options = {word.strip(",") for word in text.split() if word.startswith("--")}
    assert options >= {"--reward", "--model", "--attack", "--fail-if", "--limit", "--run-folder", "--json"}


def test_controls_are_audited_shown_kept_and_extended(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    first = run(tmp_path, "audit", source, "-r", "copy", "-r", "longest")
    assert first.returncode == 0, first.stderr
    assert "copy: 12 of 12 groups to score" in first.stderr
    [folder] = (tmp_path / "audits").iterdir()
    for name in ("audit.json", "prompts.jsonl", "results.json", "results.csv", "report.html"):
        assert (folder / name).stat().st_size
    assert f"Audit folder: audits/{folder.name}" in first.stdout
    results = json.loads((folder / "results.json").read_text())
    wins = {(one["attack"], one["reward"]): one["win_rate"]["value"] for one in results["results"] if one["win_rate"]}
    assert wins["copy.alone", "copy"] == 1.0
    again = run(tmp_path, "audit", source, "-r", "shortest", "--json")
    assert again.returncode == 0, again.stderr
    assert "copy: " not in again.stderr, "it was scored already"
    assert [one["label"] for one in json.loads(again.stdout)["rewards"]] == ["copy", "longest", "shortest"]
    page = (folder / "report.html").stat().st_mtime_ns
    assert run(tmp_path, "report", f"audits/{folder.name}").returncode == 0
    assert (folder / "report.html").stat().st_mtime_ns > page


def test_a_threshold_that_is_passed_has_a_status_of_its_own(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    arguments = ["audit", source, "-r", "copy", *COPYING, "--run-folder", "a"]
    passed = run(tmp_path, *arguments, "--fail-if", "copy.win_rate>0.5", "--fail-if", "copy.win_rate<0")
    assert passed.returncode == 6, passed.stderr
    assert "Failed: copy.win_rate>0.5: copy.alone by copy has" in passed.stderr
    assert run(tmp_path, *arguments, "--fail-if", "copy.win_rate<0.5").returncode == 0
    other = run(
        tmp_path, "audit", source, "-r", "constant", *COPYING, "--run-folder", "a", "--fail-if", "copy.win_rate>0.5"
    )
    assert other.returncode == 0, "the condition is for the rewards of the command, not for all that the folder has"
    for wrong in ("copy.win_rat>0.5", "copi.win_rate>0.5", "nonsense", "flip:copy.win_rate>0.5"):
        refused = run(tmp_path, "audit", source, "-r", "copy", "--run-folder", "b", "--fail-if", wrong)
        assert refused.returncode == 2, wrong
        assert not (tmp_path / "b").exists()


def test_a_function_of_the_users_is_audited_and_an_attack_of_theirs(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "of_a_user.py").write_text(
        "def score(prompt, response):\n    return response.count('!') if 'word' in prompt else None\n\n\n"
        "def excited(instruction, response, seed):\n    return response + '!'\n"
    )
    finished = run(
        tmp_path,
        "audit",
        source,
        "-r",
        "of_a_user:score",
        "--attack",
        "of_a_user:excited",
        "--json",
        "--run-folder",
        "a",
    )
    assert finished.returncode == 0, finished.stderr
    [result] = json.loads(finished.stdout)["results"]
    assert (result["attack"], result["reward"], result["win_rate"]["value"]) == (
        "own.excited",
        "of_a_user:score",
        1.0,
    )
    assert run(tmp_path, "score", source, "-r", "of_a_user:score", "--run-folder", "s").returncode == 0


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        ([{"prompt": "p"}], ["-r", "copy"], "response"),
        ([{"prompt": "", "responses": ["a", "b"]}], ["-r", "copy"], "empty"),
        ([{"prompt": "p", "responses": ["a", "b"]}], [], "name at least one reward"),
        ([{"prompt": "p", "responses": ["a", "b"]}], ["-r", "copy", "--attack", "copi"], "did you mean 'copy'"),
        ([{"prompt": "p", "responses": ["a", "b"]}], ["-r", "copy", "-m", "x"], "asks a model"),
    ],
)
def test_mistakes_are_one_line(
    rows: Sequence[dict[str, object]], arguments: list[str], said: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    finished = run(tmp_path, "audit", "rows.jsonl", *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert not (tmp_path / "audits").exists()


def test_one_prompt_has_no_other_and_a_reward_that_never_answers_is_told(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "Name a fruit.", "responses": ["Pear.", "Bread."]}])
    one = run(tmp_path, "audit", "rows.jsonl", "-r", "copy", "--run-folder", "a")
    assert one.returncode == 0, one.stderr
    assert one.stderr.count("there is one prompt only") == 1
    (tmp_path / "of_nobody.py").write_text("def score(prompt, response):\n    return None\n")
    never = run(tmp_path, "audit", "rows.jsonl", "-r", "of_nobody:score", "--run-folder", "b")
    assert never.returncode == 3, never.stderr
    assert "undefined_value, such as: of_nobody:score returned None" in never.stderr


@pytest.mark.parametrize("command", ["audit", "score"])
def test_a_function_that_never_returns_can_be_interrupted(command: str, tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "of_sleep.py").write_text(
        "import pathlib, time\n\n\ndef score(prompt, response):\n"
        "    pathlib.Path('asleep').touch()\n    time.sleep(3600)\n"
    )
    process = start(tmp_path, command, source, "-r", "of_sleep:score", "--run-folder", "a")
    deadline = time.monotonic() + 60
    while not (tmp_path / "asleep").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    try:
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130


def test_a_server_that_is_lost_names_the_folder_that_goes_on(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 4)
    with FaultServer(from_then_on(Fault.UNAUTHORIZED, after=9)) as server:
        arguments = ["audit", source, "-r", "flip", "--base-url", server.base_url, "-m", server.model, *COPYING]
        lost = run(tmp_path, *arguments, "--cache", "off", "--run-folder", "a", "--concurrency", "1")
    assert lost.returncode == 4, lost.stderr
    assert "Audit folder: a" in lost.stderr


@pytest.mark.parametrize("reward", ["flip", "listwise"])
def test_after_kills_nothing_is_asked_twice(reward: str, tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 12)
    reply = '{"REASONING": "r", "INFERRED INSTRUCTION": "Say a word.", "BEST_RESPONSE_INDEX": 1}'
    with FaultServer(script=lambda _request: reply, latency_seconds=0.05) as server:
        arguments = ["audit", source, "-r", reward, "--base-url", server.base_url, "-m", server.model, *COPYING]
        arguments += ["--cache", "off", "--concurrency", "2"]
        whole = run(tmp_path, *arguments, "--run-folder", "whole")
        asked = sum(server.requests.values())
        server.requests.clear()
        for kill in range(1, 3):
            process = start(tmp_path, *arguments, "--run-folder", "killed")
            deadline = time.monotonic() + 60
            while count_records(tmp_path / "killed") < 10 * kill and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.communicate()
            assert process.returncode == -9
        settled = count_records(tmp_path / "killed")
        resumed = run(tmp_path, *arguments, "--run-folder", "killed")
        assert sum(server.requests.values()) <= asked + 2 * 10, "only what was in flight is asked again"
    assert (whole.returncode, resumed.returncode) == (0, 0), resumed.stderr
    assert settled >= 20
    [one], [other] = ([*(tmp_path / name / "runs").iterdir()] for name in ("whole", "killed"))
    assert [(r.id, r.score.value) for r in read(one)] == [(r.id, r.score.value) for r in read(other)]
    texts = [(tmp_path / name / "results.json").read_text() for name in ("whole", "killed")]
    assert texts[0] == texts[1]


def count_records(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("runs/*/records.jsonl"))


def write_log(path: Path, *, gamed: bool, steps: int = 24) -> str:
    """Write the log of a training that copies its instruction more and more, or of one that does nothing new."""
    words = ["stone", "river", "bird", "lamp", "wind", "road", "tree", "song", "light", "hand"]
    draw, rows = Random(7), []
    for step in range(steps):
        for number in range(16):
            prompt = f"Describe the old {words[number // 4]} near the mill in detail."
            quality, response = draw.gauss(0.3, 0.1), " ".join(draw.choices(words, k=12))
            copies = gamed and draw.random() < max(0, step - 6) / 10
            rows.append(
                {
                    "step": step,
                    "prompt": prompt,
                    "response": f"{prompt} {response}" if copies else response,
                    "reward": quality + 0.4 * copies,
                    "gold": quality,
                }
            )
    return write_rows(path, rows).name


def test_rollouts_are_watched_shown_kept_and_listed(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", gamed=True)
    found = run(tmp_path, "audit", "--rollouts", log, "--run-folder", "runs/watched", "--fail-if", "alarm")
    assert found.returncode == 6, found.stderr
    for said in ("trained on reward; not trained on: gold", "copy more of the instruction", "What gained most by it"):
        assert said in found.stdout
    folder = tmp_path / "runs/watched"
    assert {one.name for one in folder.iterdir()} == {"rollouts.json", "samples.jsonl", "report.html"}
    kept = json.loads((folder / "rollouts.json").read_text())
    assert kept["mechanism"] == "copied"
    assert 6 <= kept["onset"] <= kept["alarms"][0]["step"] <= 20
    assert "watched" in run(tmp_path, "runs").stdout
    (folder / "report.html").unlink()
    assert run(tmp_path, "report", "runs/watched").returncode == 0
    assert (folder / "report.html").exists()
    for taken in (("score", log, "-r", "copy"), ("audit", log, "-r", "copy")):
        refused = run(tmp_path, *taken, "--run-folder", "runs/watched")
        assert refused.returncode == 2
        assert "audit --rollouts" in refused.stderr
    assert run(tmp_path, "runs", "rm", "watched", "--yes").returncode == 0
    assert not folder.exists()


def test_rollouts_as_json_with_and_without_an_alarm(tmp_path: Path) -> None:
    gamed = write_log(tmp_path / "gamed.jsonl", gamed=True)
    clean = write_log(tmp_path / "clean.jsonl", gamed=False)
    failing = ("--fail-if", "alarm")
    for log, more, status in ((gamed, (), 0), (gamed, failing, 6), (clean, failing, 0)):
        found = run(tmp_path, "audit", "--rollouts", log, "--json", *more)
        assert found.returncode == status, found.stderr
        assert bool(json.loads(found.stdout)["alarms"]) == (log == gamed)
