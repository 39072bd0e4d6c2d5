"""How much of our own code a row, a request, a training step and an evaluation go through.

Counted is every time that code of flip_reward begins to run or goes on, in any thread: a function, a comprehension, a
step of a generator or a coroutine, and where modules are loaded the bodies of these and of their classes. Functions
are told apart by file and name. The scripted engine answers, and each figure comes from a process of its own, so the
counts are the same each time; another version of Python may count comprehensions otherwise.

- A row of `flip-reward score --json`: what eleven rows take more than one, for each of the ten, and what two take.
- A request: one group with one response to `POST /v1/rewards`, handed to the application without a network.
- A call of TRL's reward: one sample; and four with all that TRL's trainer passes.
- `flip-reward evaluate` with two pairs: in a new process, imports and all, and once more in the same one.

Those but the first evaluation are counted when everything has run once.

Run `python bench/call_counts.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from figures import Figure, report

if TYPE_CHECKING:
    from starlette.types import Message, Scope

ROWS = 10
PROMPT, RESPONSE = "Name three fruits that grow on trees.", "Apples, pears and plums grow on trees."
BODY = json.dumps({"groups": [{"prompt": PROMPT, "responses": [RESPONSE]}]}).encode()
SCOPE: Scope = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/rewards",
    "raw_path": b"/v1/rewards",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8080),
}

Calls: TypeAlias = Counter[tuple[str, str]]
"""How often each function ran, by its file and its name."""


class Count(NamedTuple):
    """How much ran for one thing."""

    name: str
    functions: int
    calls: float


class CallCounter:
    """Counts what runs of flip_reward, in this and every later thread; the package itself is not loaded by it."""

    def __init__(self) -> None:
        package = find_spec("flip_reward")
        assert package is not None
        assert package.origin is not None
        self._folder = str(Path(package.origin).parent) + os.sep
        self._ran: list[CodeType] = []
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def take(self) -> Calls:
        """Return what ran since it was asked last."""
        ran, self._ran = self._ran, []
        return Counter((code.co_filename, code.co_qualname) for code in ran)

    def count(self, name: str) -> Count:
        """Count what ran since it was asked last."""
        return summarize(name, self.take())

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self._folder):
            self._ran.append(frame.f_code)


def summarize(name: str, calls: Calls, repeats: int = 1) -> Count:
    """Count functions, and calls for each of the repeats."""
    return Count(name, len(calls), calls.total() / repeats)


def invoke(*arguments: str) -> None:
    """Run the command in this process."""
    from typer.testing import CliRunner

    from flip_reward.cli.app import app

    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output


def write_lines(path: Path, lines: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def count_rows(counter: CallCounter, folder: Path) -> Iterator[Count]:
    """Count what rows of `score` take."""

    def score(rows: int) -> Calls:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            path = Path(name) / "rows.jsonl"
            write_lines(path, [{"instruction": PROMPT, "response": f"{number} {RESPONSE}"} for number in range(rows)])
            counter.take()
            invoke("score", str(path), "--model", "scripted", "--run-folder", str(Path(name) / "run"), "--json")
            return counter.take()

    score(1)
    one, two, many = score(1), score(2), score(1 + ROWS)
    yield summarize(f"score, each of {ROWS} further rows", many - one, ROWS)
    yield summarize("score, one further row", two - one)


async def _receive() -> Message:
    return {"type": "http.request", "body": BODY, "more_body": False}


def count_request(counter: CallCounter, _folder: Path) -> Iterator[Count]:
    """Count what a request takes."""
    from flip_reward import FlipReward, ScriptedEngine
    from flip_reward.server.app import create_app
    from flip_reward.server.settings import ServerSettings

    app = create_app(FlipReward(ScriptedEngine()), ServerSettings())

    async def post() -> Calls:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        counter.take()
        await app(SCOPE, _receive, send)
        calls = counter.take()
        assert sent[0]["status"] == 200, sent
        return calls

    async def post_twice() -> Calls:
        await post()
        return await post()

    yield summarize("POST /v1/rewards, one response", asyncio.run(post_twice()))


def count_trl_call(counter: CallCounter, _folder: Path) -> Iterator[Count]:
    """Count what calls of TRL's reward take."""
    os.environ["FLIP_REWARD_MODEL"] = "scripted"
    from flip_reward.integrations.trl import flip_reward

    async def call(samples: int, **passed: Any) -> Calls:  # noqa: ANN401 - what TRL passes besides
        completions = [f"{number} {RESPONSE}" for number in range(samples)]
        for _ in range(2):  # the first one loads what is only loaded once
            counter.take()
            await flip_reward(prompts=[PROMPT] * samples, completions=completions, **passed)
        return counter.take()

    yield summarize("TRL's reward, one sample", asyncio.run(call(1)))
    log = dict[str, object]().__setitem__
    passed = {"completion_ids": [[1, 2]] * 4, "log_extra": log, "log_metric": log}
    yield summarize("TRL's reward, four samples and metrics", asyncio.run(call(4, **passed)))


def count_evaluation(counter: CallCounter, folder: Path) -> Iterator[Count]:
    """Count what an evaluation takes."""
    path = folder / "pairs.jsonl"
    pairs = [{"prompt": PROMPT, "chosen": f"{number} {RESPONSE}", "rejected": "No."} for number in range(2)]
    write_lines(path, pairs)
    for name in ("evaluate, two pairs, with imports", "evaluate, two pairs, once more"):
        invoke("evaluate", "-b", str(path), "-r", "flip", "--model", "scripted", "--run-folder", str(folder / name))
        yield counter.count(name)


PROGRAMS: dict[str, Callable[[CallCounter, Path], Iterator[Count]]] = {
    "rows": count_rows,
    "request": count_request,
    "trl": count_trl_call,
    "evaluation": count_evaluation,
}


def run_program(name: str) -> None:
    """Count in this process, and print what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(list(PROGRAMS[name](CallCounter(), Path(folder)))))


def measure() -> Iterator[Figure]:
    """Count each in a process of its own."""
    for program in PROGRAMS:
        finished = subprocess.run(
            [sys.executable, __file__, "--count", program], stdout=subprocess.PIPE, text=True, check=True
        )
        for name, functions, calls in json.loads(finished.stdout):
            yield Figure(name, functions, "functions")
            yield Figure(name, calls, "calls")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        run_program(sys.argv[2])
    else:
        report(measure, "How much of our own code a row, a request, a training step and an evaluation go through.")
