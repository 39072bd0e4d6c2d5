"""Users check their types in strict mode: what scoring gives back is known, and the guide's programs pass."""

from __future__ import annotations

import ast
import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = """
from typing import assert_type
import pandas as pd
import polars as pl
from datasets import Dataset
from flip_reward import FlipReward, Group, RewardConfig, Score, ScriptedEngine, Summary, best_of, score_file

async def check(
    group: Group, rows: list[dict[str, str]], frame: pd.DataFrame, table: pl.DataFrame, data: Dataset
) -> None:
    reward = FlipReward(ScriptedEngine())
    assert_type(reward.score_sync(group), tuple[Score, ...])
    assert_type(reward.score_sync([group]), list[tuple[Score, ...]])
    assert_type(reward.score_sync(group for _ in rows), list[tuple[Score, ...]])
    assert_type(reward.score_sync(rows[0]), dict[str, object])
    assert_type(reward.score_sync(rows), list[dict[str, object]])
    assert_type(reward.score_sync(frame), pd.DataFrame)
    assert_type(reward.score_table(table), pl.DataFrame)
    assert_type(reward.score_table(data, columns={"response": "answer"}), Dataset)
    assert_type(best_of("a", ["b"], model="scripted").response, str | None)
    assert_type(score_file("a.csv", "b.csv", model="scripted", samples=4), Summary)
    assert_type(score_file(reward, "a.csv", limit=3), Summary)
    async with RewardConfig(model="scripted").load() as loaded:
        assert_type(await loaded.score(group), tuple[Score, ...])
        assert_type(await loaded.score(table), pl.DataFrame)
    reward.score_sync(3)  # wrong
    reward.score_table(rows)  # wrong
    score_file(reward, "a.csv", limits=3)  # wrong
"""


def find_mistakes(folder: Path, program: str) -> list[int]:
    """Return the lines in which a strict check finds a mistake, from 1."""
    (folder / "program.py").write_text(program)
    settings = {
        "include": ["program.py"],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT / "src")],
        "reportMissingTypeStubs": "pandas" not in program,  # it has none
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    finished = subprocess.run(
        [sys.executable, "-m", "basedpyright", "-p", str(folder), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(finished.stdout)["generalDiagnostics"]
    return sorted({one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"})


def is_expression(source: str) -> bool:
    return isinstance(ast.parse(source).body[0], ast.Expr)


@pytest.mark.slow
def test_a_strict_check_knows_what_comes_back(tmp_path: Path) -> None:
    wrong = [number for number, line in enumerate(KINDS.splitlines(), 1) if line.endswith("# wrong")]
    assert find_mistakes(tmp_path, KINDS) == wrong


@pytest.mark.slow
def test_the_programs_of_the_guide_pass_a_strict_check(tmp_path: Path) -> None:
    examples = doctest.DocTestParser().get_examples((ROOT / "docs/guides/python.md").read_text())
    program = "".join(
        f"print({one.source.strip()})\n" if is_expression(one.source) else one.source for one in examples
    )
    assert find_mistakes(tmp_path, program) == []
