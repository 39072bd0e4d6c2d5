"""What was found in a trainer's logs becomes the page of a training."""

from __future__ import annotations

from pathlib import Path

from flip_reward.audit.rollouts.watch import watch_rollouts
from flip_reward.report.training.rollouts import build_rollouts_page
from flip_reward.scoring.folders import FolderKind, recognise
from tests.unit.audit.rollouts.test_read import write_lines
from tests.unit.audit.rollouts.watchers import AlarmAt
from tests.unit.report.evaluation.test_page import read_data


def test_the_page_has_figures_alarms_and_samples(tmp_path: Path) -> None:
    rows = [
        {
            "step": step,
            "prompt": "Name a fruit.",
            "response": f"Pear number {step} </script><b>",
            "reward": step / 20,
            "gold": 0.5,
        }
        for step in range(1, 21)
    ]
    folder = tmp_path / "found"
    watch_rollouts([str(write_lines(tmp_path / "log.jsonl", rows))], folder=folder, monitor=AlarmAt(12))
    assert recognise(folder) is FolderKind.ROLLOUTS
    data = read_data(build_rollouts_page(folder))
    payload, texts = data["payload"], data["texts"]
    assert [(one["step"], one["onset"], one["message"]) for one in payload["alarms"]] == [
        (12, 11, "Step 12: responses copy more.")
    ]
    assert len(payload["samples"]) == 20
    assert texts[payload["samples"][0]["response"]] == "Pear number 1 </script><b>"
    assert payload["samples"][0]["others"] == {"gold": 0.5}
    titles = [figure["title"] for figure in payload["figures"]]
    assert titles[0] == "Reward"
    assert any("gold" in title for title in titles)
    assert {name: value for facts in payload["made"] for name, value in facts["rows"]}["not trained on"] == "gold"
