"""A reward that another package offers works in every command by its name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e.command import run_process
from tests.e2e.served import Served

ROWS = [
    {"prompt": "Name three fruits.", "chosen": "Figs.", "rejected": "Well, there are so many fruits to name."},
    {"prompt": "Greet me.", "chosen": "Hello!", "rejected": "I would be glad to greet you, of course."},
]


@pytest.fixture
def package(tmp_path: Path) -> str:
    """A path on which a package is installed that offers `brevity`."""
    site = tmp_path / "site"
    info = site / "demo_rewards-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-rewards\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flip_reward.rewards]\nbrevity = demo_rewards:brevity\n")
    (site / "demo_rewards.py").write_text("def brevity(prompt, response):\n    return 1 / len(response.split())\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))


def test_it_scores(package: str, tmp_path: Path) -> None:
    scored = run_process(tmp_path, "score", "rows.jsonl", "-r", "brevity", "-o", "scored.jsonl", PYTHONPATH=package)
    assert scored.returncode == 0, scored.stderr
    first = json.loads((tmp_path / "scored.jsonl").read_text().splitlines()[0])
    assert first["reward_chosen"] == 1.0


def test_it_is_graded(package: str, tmp_path: Path) -> None:
    graded = run_process(tmp_path, "evaluate", "-b", "rows.jsonl", "-r", "brevity", "--json", PYTHONPATH=package)
    assert graded.returncode == 0, graded.stderr
    assert json.loads(graded.stdout)["cells"][0]["overall"]["fractional"]["value"] == 1.0


def test_it_is_audited(package: str, tmp_path: Path) -> None:
    audited = run_process(
        tmp_path, "audit", "rows.jsonl", "-r", "brevity", "--attack", "key.period", "--json", PYTHONPATH=package
    )
    assert audited.returncode == 0, audited.stderr
    [result] = json.loads(audited.stdout)["results"]
    assert (result["reward"], result["win_rate"]["value"]) == ("brevity", 0.5)


def test_it_is_served(package: str, tmp_path: Path) -> None:
    with Served(tmp_path, "-r", "brevity", asks_model=False, PYTHONPATH=package) as served:
        question = {"groups": [{"prompt": "Name three fruits.", "responses": ["Figs.", "Figs and pears."]}]}
        status, answer = served.ask("/v1/rewards", question)
        assert status == 200
        [result] = answer["results"]
        assert [score["reward"] for score in result["scores"]] == [1.0, 1 / 3]


def test_a_name_that_is_almost_one(package: str, tmp_path: Path) -> None:
    refused = run_process(tmp_path, "score", "rows.jsonl", "-r", "brevety", PYTHONPATH=package)
    assert refused.returncode == 2
    assert "did you mean 'brevity'?" in refused.stderr
