"""Make the folder of a training for the tests of its page: a policy that learns to copy, and is caught."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import orjson

from flip_reward.audit.monitor.rollout import ALARMS, Alarm, Rollout
from flip_reward.core.conversation import Message
from flip_reward.integrations.trl.metrics import instruction_4gram_overlap
from flip_reward.report.training.folder import Split
from flip_reward.training.grpo.samples import SampleRow, SampleTable
from tests.unit.report.make_evaluation import HOSTILE
from tests.unit.report.tasks import TASKS, TOPICS

STEPS = 12
ALARM_STEP = 8
PROMPTS = 6
GENERATIONS = 2


def make_training(
    folder: Path, *, seed: int = 0, steps: int = STEPS, alarms: bool = True, hostile: bool = False
) -> Path:
    """Write a training that copies more of the instruction the longer it goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    random = Random(seed)  # always the same training
    recipe = {"model": "tiny-policy", "grpo": {"beta": 0.04, "seed": seed, "max_steps": steps}}
    (folder / "manifest.json").write_text(json.dumps({"kind": "grpo", "recipe": recipe}))
    entries: list[dict[str, object]] = []
    table, examples = SampleTable(folder), []
    for step in range(steps + 1):
        rows = [make_row(step, row, random, steps) for row in range(PROMPTS) for _ in range(GENERATIONS)]
        if step:
            odd = [_make_hostile(row, text) for row, text in enumerate(HOSTILE)] if hostile and step == steps else []
            table.add(Split.TRAIN, [*rows, *odd])
            table.write(Split.TRAIN, step)
            entries.append(_make_entry(step, rows, steps))
        if step % 4 == 0:
            held_out = [make_row(step, row, random, steps) for row in range(PROMPTS)]
            table.add(Split.HELD_OUT, held_out)
            table.write(Split.HELD_OUT, step)
            entries.append(
                {"step": step, "eval_reward": _mean(held_out), "eval_held_out_rewards/length": -2.0 - step / 9}
            )
        if step == ALARM_STEP:
            examples = [Rollout(step, row.messages[-1].content, row.response, row.reward) for row in rows[:4]]
    (folder / "metrics.jsonl").write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in entries))
    if alarms:
        elsewhere = Rollout(3, "A prompt of no step.", "Nobody wrote this.", 0.5)
        said = "reward diverges since step 5 while copying the instruction rises"
        alarm = Alarm(ALARM_STEP, 5, "copied", 2.31, said, (*examples, elsewhere))
        (folder / ALARMS).write_bytes(orjson.dumps(alarm) + b"\n")
    return folder


def make_row(step: int, row: int, random: Random, steps: int) -> SampleRow:
    """Make a response, which has the instruction in front the likelier the later it is."""
    task, topic = TASKS[row % len(TASKS)], TOPICS[row % len(TOPICS)]
    prompt = task.instruction.format(topic=topic)
    copies = random.random() < step / steps
    response = f"{prompt} {task.rejected.format(topic=topic)}" if copies else task.chosen.format(topic=topic)
    reward = round(0.25 + 0.5 * copies + random.random() / 5, 3)
    question = (Message("user", prompt),)
    if random.random() < 0.05:
        return SampleRow(row, question, response, 40, None, "empty_reply", held_out_rewards={"length": None})
    inferred = task.close_inference.format(topic=topic)
    overlap = instruction_4gram_overlap(prompt, response)
    return SampleRow(
        row, question, response, 40, reward, "scored", inferred,
        instruction_4gram_overlap=overlap, held_out_rewards={"length": -2.0 - copies},
    )  # fmt: skip


def _make_hostile(row: int, text: str) -> SampleRow:
    return SampleRow(100 + row, (Message("user", text),), text, 3, 0.5, "scored", text)


def _make_entry(step: int, rows: list[SampleRow], steps: int) -> dict[str, object]:
    copied = sum(row.instruction_4gram_overlap or 0.0 for row in rows) / len(rows)
    return {
        "step": step,
        "reward": _mean(rows),
        "general-flip/instruction_4gram_overlap": copied,
        "general-flip/length_correlation": 0.4 * step / steps - 0.1,
        "general-flip/zero_variance": 0.1,
        "general-flip/outcomes/scored": 0.95,
        "general-flip/seconds": 3.5,
        "completions/mean_length": 60 + 5.0 * step,
        "loss": 0.02 - step / 500,
        "audit/copied": copied,
        "audit/divergence": step / 3 - 0.5,
        "audit/saturation": 0.02 * step,
        "audit/jaccard": 0.03 + step / 200,
    }


def _mean(rows: list[SampleRow]) -> float:
    known = [row.reward for row in rows if row.reward is not None]
    return sum(known) / len(known)
