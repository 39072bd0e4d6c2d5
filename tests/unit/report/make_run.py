"""Make run folders for the tests of their page: always the same ones, by a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.rewards.waiting import run_blocking
from flip_reward.scoring.files import score_file
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.selection.choice import TieRule
from flip_reward.selection.results import choose_in_run, keep_choices
from tests.unit.report.make_evaluation import HOSTILE
from tests.unit.report.tasks import TASKS, TOPICS

Rows = Iterable[Mapping[str, object]]

UNDECIDED: dict[str, object] = {"id": "none", "prompt": "Hi", "responses": ["", "unknown"]}
"""A row in which nothing is scored."""


def infer(request: Request) -> str:
    """Infer the task's instruction, a little off; what is not of a task is not understood."""
    text = request.messages[-1].content
    for task in TASKS:
        for response, inferred in ((task.chosen, task.close_inference), (task.rejected, task.far_inference)):
            if response.partition("{")[0][:12] in text:
                topic = next((topic for topic in TOPICS if topic in text), "nothing")
                return json.dumps(
                    {"REASONING": "It is about it.", "INFERRED INSTRUCTION": inferred.format(topic=topic)}
                )
    return "I cannot tell."


def list_rows(count: int, *, grouped: bool = False, hostile: bool = False) -> list[dict[str, object]]:
    """Rows of one response, or of four of which the first two tie, one is worse and the last is blank."""
    rows: list[dict[str, object]] = []
    for index in range(count):
        task, topic = TASKS[index % len(TASKS)], TOPICS[index % len(TOPICS)]
        chosen, rejected = task.chosen.format(topic=topic), task.rejected.format(topic=topic)
        row: dict[str, object] = {"id": f"item-{index}", "prompt": task.instruction.format(topic=topic)}
        if grouped:
            rows.append({**row, "responses": [chosen, f"{chosen} ", rejected, ""]})
        else:
            rows.append({**row, "response": rejected if index % 2 else chosen})
    if hostile:
        rows += [
            {"id": f"hostile-{index}<i>", "prompt": f"Say: {text}", "response": text}
            for index, text in enumerate(HOSTILE)
        ]
    return rows


def write_rows(path: Path, rows: Rows) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def score_rows(
    folder: Path, rows: Rows, script: Callable[[Request], str] = infer, options: FlipOptions | None = None
) -> Path:
    """Score rows, and return the run folder."""
    source = write_rows(folder / "rows.jsonl", rows)
    score_file(FlipReward(ScriptedEngine(script), options), source, run_folder=folder / "run")
    return folder / "run"


def score_echo(folder: Path) -> Path:
    """Score two responses with the copy guard, of which the first copies its instruction; return the run folder."""
    asked = "Name three fruits that grow in cold countries."

    def script(request: Request) -> str:
        inferred = asked if asked in request.messages[-1].content else "Name three fruits"
        return json.dumps({"REASONING": "", "INFERRED INSTRUCTION": inferred})

    rows = [{"prompt": asked, "responses": [f"{asked} Apples, pears, plums.", "Apples, pears, plums."]}]
    return score_rows(folder, rows, script, FlipOptions(copy_guard=True))


def choose_from_rows(
    folder: Path, rows: Rows, *, tie_rule: TieRule = TieRule.FIRST, reward: RewardModel | None = None
) -> Path:
    """Score rows and choose in each, and return the run folder."""
    source = write_rows(folder / "candidates.jsonl", rows)
    job = ScoringJob(reward or FlipReward(ScriptedEngine(infer)), [str(source)], folder=folder / "best")

    async def choose() -> Path:
        opened = open_job(job)
        with closing(opened.folder):
            await opened.run()
            every_row = opened.read_rows(include_completed=True)
            results = choose_in_run(opened.folder.path, every_row, tie_rule=tie_rule, seed=0)
            assert list(keep_choices(opened.folder.path, results))
        return opened.folder.path

    return run_blocking(choose())  # also while a browser's event loop runs in this thread
