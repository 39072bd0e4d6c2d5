"""Make evaluation folders for the tests: always the same ones, by hand and without the evaluation's own code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import fmean, pstdev, stdev

import orjson

from flip_reward.core.score import Cost, Outcome, Sample, Score, Usage
from flip_reward.core.similarity import TokenF1
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration, Session
from flip_reward.scoring.records import Record
from tests.unit.report.tasks import TASKS, TOPICS, Task

SUBSETS = ("natural", "neighbor", "gptinst", "gptout", "manual")
MODEL = "Qwen/Qwen3-1.7B"
REWARDS = {name: f"{name} @ {MODEL}" for name in ("flip", "pointwise", "pairwise")}

LONG_LINE = "<b>" + "x" * 199_994 + "</b>"
HOSTILE = (
    "<script>document.title = 'broken'</script>",
    "</script><script>document.title = 'broken'</script>",
    "</textarea></style><!--<script>--><img src=x onerror=\"document.title='broken'\">",
    "\" onmouseover=\"document.title='broken'\" x=\"' onfocus='document.title=1'",
    "{{ style }} {{ data }} {topic} } { {{}} ${alert(1)} %s \\0 \\u003c &lt;b&gt; &amp;",
    "\u202eright to left override\u202c שלום עולם مرحبا بالعالم",
    "NUL \x00 bell \x07 escape \x1b[31m delete \x7f line\u2028separator \ufeff",
    LONG_LINE,
    "lone braces } { and an emoji 👩‍🔬 with 𝒎𝒂𝒕𝒉 letters",
    "javascript:alert(1) data:text/html,<script>1</script> https://example.invalid/x.png",
)
"""Texts that would do harm if they were markup, a template or anything but text."""


@dataclass(frozen=True, slots=True)
class MadeItem:
    """A line of items/*.jsonl."""

    id: str
    subset: str
    messages: list[dict[str, str]]
    responses: list[str]
    chosen: list[bool]
    task: Task
    topic: str

    def to_json(self) -> dict[str, object]:
        return {
            "id": self.id, "subset": self.subset, "messages": self.messages, "responses": self.responses,
            "chosen": self.chosen, "tags": [],
        }  # fmt: skip


def make_evaluation(
    folder: Path, *, items: int = 300, hostile: bool = False, runs: int = 1, samples: int = 1
) -> Path:
    """Write an evaluation of three rewards on pairs ("llmbar") and on some groups of four ("best-of-4").

    Args:
        folder: Where to; made when missing.
        items: How many pairs; a tenth as many groups of four.
        hostile: Add pairs of hostile texts, in a subset of their own.
        runs: How many run folders each cell names; only the first one is read.
        samples: How many instructions FLIP infers from each response.
    """
    pairs = [_make_pair(index) for index in range(items)]
    if hostile:
        pairs += [_make_hostile(index, text) for index, text in enumerate(HOSTILE)]
    benchmarks = {"llmbar": pairs, "best-of-4": [_make_four(index) for index in range(max(1, items // 10))]}
    cells = [
        _write_cell(folder, benchmark, reward, made, runs=runs, samples=samples)
        for benchmark, made in benchmarks.items()
        for reward in REWARDS
    ]
    for benchmark, made in benchmarks.items():
        path = folder / "items" / f"{benchmark}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(orjson.dumps(item.to_json()) + b"\n" for item in made))
    write_json(folder / "results.json", _make_results(benchmarks, cells))
    write_json(folder / "evaluation.json", _make_manifest(benchmarks))
    return folder


def write_json(path: Path, content: object) -> None:
    """Write a JSON file."""
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _make_pair(index: int) -> MadeItem:
    task, topic = TASKS[index % len(TASKS)], TOPICS[(index * 7 + index // len(TOPICS)) % len(TOPICS)]
    messages = [{"role": "user", "content": task.instruction.format(topic=topic)}]
    if index % 25 == 3:
        messages = [
            {"role": "system", "content": "You are a careful assistant. Follow every constraint."},
            {"role": "user", "content": f"I am preparing a workshop on {topic}."},
            {"role": "assistant", "content": "That sounds good. What do you need?"},
            *messages,
        ]
    responses = [task.chosen.format(topic=topic), task.rejected.format(topic=topic)]
    subset = SUBSETS[index % 7 % len(SUBSETS)]
    return MadeItem(f"llmbar/{subset}/{index}", subset, messages, responses, [True, False], task, topic)


def _make_four(index: int) -> MadeItem:
    pair = _make_pair(index)
    others = [TASKS[(index + step) % len(TASKS)].rejected.format(topic=pair.topic) for step in (1, 2)]
    return MadeItem(
        f"best-of-4/{index}", "general", pair.messages, [*pair.responses, *others], [True, False, False, False],
        pair.task, pair.topic,
    )  # fmt: skip


def _make_hostile(index: int, text: str) -> MadeItem:
    task = Task(text, text, text, text, text)
    messages = [{"role": "user", "content": f"Repeat: {text}"}]
    return MadeItem(f"hostile/{index}<i>", "hostile", messages, [text, f"No. {text}"], [True, False], task, "")


def _write_cell(
    folder: Path, benchmark: str, reward: str, items: Sequence[MadeItem], *, runs: int, samples: int
) -> tuple[dict[str, object], list[float | None]]:
    """Write a run folder; return the cell of results.json and the credit of every item."""
    name = f"cells/{benchmark}--{reward}--Qwen-Qwen3-1.7B"
    path = folder / name
    path.mkdir(parents=True)
    draw = Random(f"{benchmark} {reward}")
    scored = [_score(reward, item, draw, position, samples) for position, item in enumerate(items)]
    lines = [
        Record(position, item.id, len(item.responses), index, item.messages[-1]["content"], score).to_line()
        for position, (item, scores) in enumerate(zip(items, scored, strict=True))
        for index, score in enumerate(scores)
    ]
    (path / "records.jsonl").write_bytes(b"".join(lines))
    session = Session(
        started_at="2026-02-13T09:00:00+00:00", python="3.12.9", platform="Linux", versions={"flip-reward": "0.1.0"}
    )
    configuration = RunConfiguration(
        settings={"reward": reward}, inputs=[InputIdentity(name=benchmark, fingerprint="0")]
    )
    Manifest(configuration=configuration, sessions=[session]).write(path / "manifest.json")
    shares = [_credit(scores, item.chosen) for scores, item in zip(scored, items, strict=True)]
    subsets = {item.subset: [i for i, other in enumerate(items) if other.subset == item.subset] for item in items}
    everything = [score for scores in scored for score in scores]
    usages = [score.cost.usage for score in everything]
    pairs = sum(len(item.responses) == 2 for item in items)
    cell: dict[str, object] = {
        "benchmark": benchmark, "reward": REWARDS[reward], "folder": name, "runs": [name] * runs,
        "overall": _accuracy(shares, items),
        "subsets": [
            {"name": subset, **_accuracy([shares[i] for i in indices], [items[i] for i in indices])}
            for subset, indices in subsets.items()
        ],
        "protocol_figures": _figures(shares, items) if benchmark == "llmbar" else [],
        "outcomes": dict(Counter(score.outcome.value for score in everything).most_common()),
        "tokens": {
            "prompt": sum(used.prompt_tokens for used in usages),
            "completion": sum(used.completion_tokens for used in usages),
        },
        "cost": sum(used.prompt_tokens + 4 * used.completion_tokens for used in usages) * 1e-8,
        "rewards_per_second": {"flip": 212.4, "pointwise": 198.1, "pairwise": 87.3}[reward],
        "order_flips": {"rate": 0.217, "pairs": pairs} if reward == "pairwise" and pairs else None,
    }  # fmt: skip
    return cell, shares


def _score(reward: str, item: MadeItem, draw: Random, position: int, samples: int) -> tuple[Score, ...]:
    if reward == "flip":
        scores = [_infer(item, draw, index) for index in range(len(item.responses))]
        if samples > 1:
            scores = [_sample(item, index, score, samples) for index, score in enumerate(scores)]
    elif reward == "pointwise":
        scores = [_rate(item, draw, index) for index in range(len(item.responses))]
    else:
        scores = _compare(item, draw)
    if draw.random() < {"flip": 0.01, "pointwise": 0.03, "pairwise": 0.02}[reward] or position == 11:
        outcome = (Outcome.TRUNCATED_REPLY, Outcome.UNPARSEABLE_REPLY, Outcome.EMPTY_REPLY)[position % 3]
        raw = '{"REASONING": "The first response follows the' if outcome is Outcome.TRUNCATED_REPLY else "I think so."
        scores[0] = Score(None, outcome, raw_reply=raw, cost=_cost(item, 0, 512, 1.2))
    return tuple(scores)


def _infer(item: MadeItem, draw: Random, index: int) -> Score:
    close = draw.random() < (0.83 if item.chosen[index] else 0.34)
    inferred = (item.task.close_inference if close else item.task.far_inference).replace("{topic}", item.topic)
    inferred = " ".join(word for word in inferred.split(" ") if draw.random() > 0.12) or inferred
    match = TokenF1().prepare(item.messages[-1]["content"]).compare(inferred)
    reasoning = _REASONS[len(item.responses[index]) % len(_REASONS)]
    return Score(
        match.value, Outcome.SCORED, match.precision, match.recall, inferred, reasoning,
        raw_reply=f'{{"REASONING": "{reasoning}"}}', cost=_cost(item, index, 64, 0.4),
    )  # fmt: skip


def _sample(item: MadeItem, index: int, first: Score, samples: int) -> Score:
    """Add further inferences; every fourth cannot be read, and the typical one is the one in the middle."""
    draw = Random(f"{item.id} {index}")
    made = [first, *(_infer(item, draw, index) for _ in range(samples - 1))]
    drawn = [
        Sample(score.value, score.outcome, score.precision, score.recall, score.inferred_instruction)
        if number % 4 != 3
        else Sample(None, Outcome.UNPARSEABLE_REPLY, raw_reply="I think so.")
        for number, score in enumerate(made)
    ]
    ordered = sorted((score for number, score in enumerate(made) if number % 4 != 3), key=lambda one: one.value or 0)
    values = [score.value or 0 for score in ordered]
    typical = ordered[(len(ordered) - 1) // 2]
    return replace(typical, spread=pstdev(values) if len(values) > 1 else None, samples=tuple(drawn))


_REASONS = (
    "The response keeps to a fixed form, so the instruction probably asked for it.",
    "It answers one question and nothing else.",
    "The tone and the length point to a request for a short text with constraints.",
)


def _rate(item: MadeItem, draw: Random, index: int) -> Score:
    # Small judges give nearly everything a high mark, and longer responses a higher one.
    rating = 6.6 + 0.5 * item.chosen[index] + min(len(item.responses[index]), 400) / 400 + draw.gauss(0, 0.9)
    value = float(min(10, max(1, round(rating))))
    reasoning = f"The response is clear and addresses the request, though it could be {draw.choice(_WISHES)}."
    return Score(value, Outcome.SCORED, reasoning=reasoning, cost=_cost(item, index, 58, 0.4))


_WISHES = ("more specific", "shorter", "better organised", "closer to the requested form")


def _compare(item: MadeItem, draw: Random) -> list[Score]:
    strength = [0.5 * label + draw.gauss(0, 0.8) for label in item.chosen]
    wins = [
        [0.5 if draw.random() < 0.2 else float(mine > other) for j, other in enumerate(strength) if j != i]
        for i, mine in enumerate(strength)
    ]
    if len(wins) == 2:
        wins[1] = [1 - wins[0][0]]
    reasoning = "#0 of #0, #1: It follows the requested form.\n#0 of #1, #0: It answers what was asked."
    return [
        Score(
            fmean(won), Outcome.SCORED, reasoning=reasoning if index == 0 else None,
            cost=_cost(item, index, 61 * len(won), 0.7),
        )
        for index, won in enumerate(wins)
    ]  # fmt: skip


def _cost(item: MadeItem, index: int, completion: int, seconds: float) -> Cost:
    return Cost(Usage(160 + len(item.responses[index]) // 4, completion), attempts=1, latency_seconds=seconds)


def _credit(scores: Sequence[Score], chosen: Sequence[bool]) -> float | None:
    values = [score.value for score in scores if score.value is not None]
    if len(values) < len(scores):
        return None
    at_top = [label for value, label in zip(values, chosen, strict=True) if value == max(values)]
    return sum(at_top) / len(at_top)


def _accuracy(shares: Sequence[float | None], items: Sequence[MadeItem]) -> dict[str, object]:
    chance = [fmean(item.chosen) for item in items]
    as_chance = [guess if credit is None else credit for credit, guess in zip(shares, chance, strict=True)]
    return {
        "strict": _estimate([float(credit == 1) for credit in shares]),
        "fractional": _estimate(as_chance),
        "unscored_items": shares.count(None),
        "excluded": _estimate([credit for credit in shares if credit is not None]),
        "as_wrong": _estimate([credit or 0.0 for credit in shares]),
        "as_chance": _estimate(as_chance),
        "length_balanced": _balance(as_chance, items),
    }


def _balance(grades: Sequence[float], items: Sequence[MadeItem]) -> dict[str, float] | None:
    """Estimate the mean over the pairs whose better response is longer, and those where it is shorter."""
    strata: dict[bool, list[float]] = {True: [], False: []}
    for grade, item in zip(grades, items, strict=True):
        better, worse, *others = map(len, item.responses)
        if not others and better != worse:
            strata[better > worse].append(grade)
    if not all(strata.values()):
        return None
    longer, shorter = (_estimate(found) for found in strata.values())
    ends = {end: (longer[end] + shorter[end]) / 2 for end in ("value", "low", "high")}
    return {**ends, "n": longer["n"] + shorter["n"]}


def _figures(shares: Sequence[float | None], items: Sequence[MadeItem]) -> list[dict[str, object]]:
    natural = [credit or 0.0 for credit, item in zip(shares, items, strict=True) if item.subset == "natural"]
    estimate = _estimate(natural)
    ends = {end: estimate[end] for end in ("value", "low", "high")}
    return [{"name": "natural", **ends, "note": "Accuracy, averaged over both orders of the pair.", "headline": True}]


def _estimate(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"value": 0.5, "low": 0.0, "high": 1.0, "n": 0}
    half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.5
    mean = fmean(values)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def _make_results(
    benchmarks: dict[str, list[MadeItem]], cells: Sequence[tuple[dict[str, object], list[float | None]]]
) -> dict[str, object]:
    return {
        "format": 1,
        "benchmarks": [
            {
                "name": name,
                "protocol": "llmbar" if name == "llmbar" else "rewardbench2",
                "items": len(items),
                "subsets": [{"name": s, "items": n} for s, n in Counter(item.subset for item in items).items()],
            }
            for name, items in benchmarks.items()
        ],
        "rewards": [_describe(reward) for reward in REWARDS],
        "cells": [cell for cell, _ in cells],
        "comparisons": [_contrast(a, b) for a, b in combinations(cells, 2) if a[0]["benchmark"] == b[0]["benchmark"]],
    }


def _describe(reward: str) -> dict[str, object]:
    settings: dict[str, object] = {"reward": reward, "engine": f"openai:{MODEL}", "template": "reasoned"}
    settings |= {"similarity": "f1"} if reward == "flip" else {}
    return {
        "label": REWARDS[reward], "reward": reward, "model": MODEL,
        "settings": {**settings, "temperature": 0.0, "max_tokens": 512, "seed": None},
    }  # fmt: skip


def _contrast(
    a: tuple[dict[str, object], list[float | None]], b: tuple[dict[str, object], list[float | None]]
) -> dict[str, object]:
    shares = [(one or 0.0, other or 0.0) for one, other in zip(a[1], b[1], strict=True)]
    difference = _estimate([one - other for one, other in shares])
    only_a, only_b = (sum(right[i] == 1 > right[1 - i] for right in shares) for i in (0, 1))
    p = _mcnemar(only_a, only_b)
    clear = difference["low"] > 0 or difference["high"] < 0
    better = "a better" if difference["value"] > 0 else "b better"
    return {
        "benchmark": a[0]["benchmark"], "a": a[0]["reward"], "b": b[0]["reward"], "items": len(shares),
        "difference": difference, "strict_difference": _estimate([(x == 1) - (y == 1) for x, y in shares]),
        "length_balanced_difference": difference | {"n": 9} if a[0]["benchmark"] == "llmbar" else None,
        "test": "McNemar's exact test", "p": p, "holm_p": min(1.0, 3 * p),
        "verdict": better if clear and 3 * p < 0.05 else "not told apart",
    }  # fmt: skip


def _mcnemar(only_a: int, only_b: int) -> float:
    flips = only_a + only_b
    tail = sum(math.comb(flips, k) for k in range(min(only_a, only_b) + 1)) / 2**flips
    return min(1.0, float(2 * tail))


def _make_manifest(benchmarks: dict[str, list[MadeItem]]) -> dict[str, object]:
    return {
        "format": 1,
        "created": "2026-02-13T09:00:00+00:00",
        "options": {"limit": None, "sample_seed": 0, "price_prompt": 0.01, "price_completion": 0.04},
        "benchmarks": [
            {
                "name": name, "protocol": name, "source": f"{name}.jsonl", "items": len(items),
                "sha256": "9c1185a5c5e9", "bad_rows": 0,
            }
            for name, items in benchmarks.items()
        ],
        "rewards": [_describe(reward) for reward in REWARDS],
        "cells": [],
    }  # fmt: skip
