"""The README's first command works from a clean clone."""

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_make_demo_from_a_clean_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS")}
    environment["FLIP_REWARD_CACHE"] = str(tmp_path / "cache.sqlite3")
    make = shutil.which("make")
    assert make is not None
    finished = subprocess.run(
        [make, "demo"], cwd=clone, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Plants make their" in finished.stdout, "the table shows responses"
    assert "of 36 responses scored" in finished.stdout
    assert "Run folder: runs/responses-" in finished.stdout
    [path] = clone.glob("runs/*/records.jsonl")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 36
    # What the default model writes is about the responses: a model that is not tuned repeats the prompt.
    outcomes = Counter(record["outcome"] for record in records)
    assert outcomes["scored"] >= 30
    assert outcomes["template_echo"] == 0
    fitting = [
        record["reward"] for record in records if record["response_index"] == 0 and record["reward"] is not None
    ]
    assert fmean(fitting) > 0.2
    assert [record["id"] for record in records if "mostly_code" in record["cautions"]] == ["python#0", "python#1"]
