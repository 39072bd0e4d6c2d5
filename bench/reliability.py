"""What is promised, tried: kills, faults of a server, hostile replies, damaged files, hostile requests.

Every line of the table says how often something was tried, how often a promise was broken, and where time is the
point the longest it took. docs/reliability.md says what the promises are.

Run `python bench/reliability.py`; `--write` puts the table into that page. It takes a minute or two on two cores,
and needs no network and no model.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the servers, files and texts of the tests

from flip_reward.core.replies.parse import (  # noqa: E402
    parse_inferred_instruction,
    parse_list_choice,
    parse_pair_choice,
    parse_rating,
)
from flip_reward.engines.base import Completion  # noqa: E402
from flip_reward.errors import FlipRewardError  # noqa: E402
from tests.damaged_files import KINDS, damaged_folders  # noqa: E402
from tests.e2e.command import read, run, start, write_rows  # noqa: E402
from tests.e2e.served import Served  # noqa: E402
from tests.e2e.test_kill import ROWS, read_whole_lines, records_on_disk  # noqa: E402
from tests.hostile_texts import FRAMES, UNITS, VERDICT, make  # noqa: E402
from tests.http.fault_server import Fault, FaultServer, by_chance  # noqa: E402

PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- figures of bench/reliability.py -->", "<!-- end of the figures -->"
KILLS = 40
DAMAGES = 250
CHARACTERS = 30_000
"""Of a hostile text: it is read, and not refused for its length."""
ANSWER_SECONDS = 2.0
"""Longer waits for `/health` are a broken promise."""
KEEPS_ITS_VERDICT = ("after a verdict", "before a verdict", "inside a string")
"""Around or inside such texts there is one true verdict: anything else that is read is wrong."""
SETTLED = (Fault.CONTEXT_TOO_LONG, Fault.NULL_CONTENT)
"""Answers to a request itself: its row is settled without a reward."""
SETTLED_ALONE = (Fault.REFUSED, Fault.FORBIDDEN, Fault.UNPROCESSABLE)
"""The same where other requests are answered."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    promise: str
    tried: str
    broken: int
    longest_seconds: float | None = None

    def __str__(self) -> str:
        longest = "" if self.longest_seconds is None else f"{self.longest_seconds:.2f} s"
        return f"| {self.promise} | {self.tried} | {self.broken} | {longest} |"


def measure_kills(folder: Path) -> Iterator[Line]:
    """Kill a run at random moments, resume it, and compare what it leaves with a run that was left alone."""
    write_rows(folder / "rows.jsonl", ROWS)
    chance = random.Random(1)
    with FaultServer(latency_seconds=0.05) as server:
        arguments = ["score", "rows.jsonl", "--base-url", server.base_url, "--model", server.model, "--cache", "off"]
        expected = rewards(folder, "undisturbed", arguments)
        server.requests.clear()
        kills = 0
        while kills < KILLS:
            process = start(folder, *arguments, "--run-folder", "killed", "--concurrency", "4")
            finished, deadline = records_on_disk(folder / "killed"), time.monotonic() + 60
            while records_on_disk(folder / "killed") == finished and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
            process.communicate()
            kills += 1
        settled = {record.id for record in read_whole_lines(folder / "killed")}
        before = dict(server.requests)
        found = rewards(folder, "killed", arguments)
        again = [prompt for prompt, count in server.requests.items() if before.get(prompt, 0) not in (0, count)]
    twice = sum(f"row-{prompt.rpartition('this is word')[2]}" in settled for prompt in again)
    tried = f"{kills} kills of a run of {len(ROWS)} rows, {len(settled)} of them finished before the last"
    yield Line("`kill -9` and the same command again: rows lost", tried, len(expected.keys() - found.keys()))
    yield Line("the same: finished rows that were asked again", tried, twice)
    yield Line("the same: rewards that differ", tried, count_wrong(found, expected))


def measure_faults(folder: Path) -> Iterator[Line]:
    """Let a server fail in every way it can, always or by chance, mend it, and run the same command again."""
    rows = [{"id": str(i), "instruction": f"say word{i} now", "response": f"it is word{i % 7}"} for i in range(20)]
    write_rows(folder / "rows.jsonl", rows)
    with FaultServer() as server:
        options = ["--model", server.model, "--cache", "off", "--timeout-seconds", "1"]
        expected = rewards(folder, "whole", ["score", "rows.jsonl", "--base-url", server.base_url, *options])
    wrong = lost = tried = 0
    for fault in Fault:
        for name, rate in (("always", 1.0), ("chance", 0.4)):
            with FaultServer(by_chance({fault: rate}, seed=3)) as server:
                command = ["score", "rows.jsonl", "--base-url", server.base_url, *options, "--max-attempts", "1"]
                found = rewards(folder, f"{fault.name}-{name}", command)
                tried += server.injected.total()
            wrong += count_wrong(found, expected)
            with FaultServer(port=urlsplit(server.base_url).port or 0):
                found = rewards(folder, f"{fault.name}-{name}", command)
            wrong += count_wrong(found, expected)
            if fault not in SETTLED and not (name == "chance" and fault in SETTLED_ALONE):
                lost += sum(found.get(id_) is None for id_ in expected)
    faults = f"{tried} faults of {len(Fault)} kinds"
    yield Line("a server that fails: wrong rewards", faults, wrong)
    yield Line("a fault that was mended, and the same command again: rows without a reward", faults, lost)


def rewards(folder: Path, name: str, arguments: list[str]) -> dict[str, float | None]:
    """Run a command and return the reward of every response in its run folder."""
    run(folder, *arguments, "--run-folder", name, "--no-table")
    if not (folder / name / "records.jsonl").exists():
        return {}
    return {record.id: record.score.value for record in read(folder / name)}


def count_wrong(found: Mapping[str, float | None], expected: Mapping[str, float | None]) -> int:
    """Count rewards that are not what they should be; one that is missing is not wrong."""
    return sum(value is not None and value != expected[id_] for id_, value in found.items())


def measure_replies(_: Path) -> Iterator[Line]:
    """Read hostile replies in every way that replies are read."""
    readers: dict[str, tuple[Callable[[str], object], object]] = {
        "instruction": (lambda text: parse_inferred_instruction(text).instruction, "i"),
        "rating": (lambda text: parse_rating(text, shown=[text[:100]]).value, 7),
        "pair": (lambda text: parse_pair_choice(text, shown=["a", "b"]).value, 0),
        "list": (lambda text: parse_list_choice(text, shown=["a", "b"]).value, 0),
    }
    wrong = raised = tried = 0
    longest = 0.0
    for (read_reply, right), unit, frame in itertools.product(readers.values(), UNITS.values(), FRAMES):
        text = make(unit, frame, CHARACTERS)
        started = time.perf_counter()
        try:
            value = read_reply(text)
        except Exception:  # noqa: BLE001 - nothing may be raised, whatever it is
            raised += 1
            continue
        longest = max(longest, time.perf_counter() - started)
        tried += 1
        wrong += frame in KEEPS_ITS_VERDICT and value is not None and value != right
    replies = f"{tried} replies of {CHARACTERS:,} characters in {len(UNITS) * len(FRAMES)} shapes"
    yield Line("a hostile reply: verdicts that are not its own", replies, wrong)
    yield Line("the same: exceptions, and the longest time", replies, raised, longest)


def measure_files(folder: Path) -> Iterator[Line]:
    """Read damaged files of every kind."""
    tracebacks = tried = 0
    longest = 0.0
    for kind, (_, read_files) in KINDS.items():
        (folder / kind).mkdir()
        for damaged in damaged_folders(kind, folder / kind, DAMAGES):
            started = time.perf_counter()
            try:
                read_files(damaged)
            except FlipRewardError:
                pass
            except Exception:  # noqa: BLE001 - this is what is counted
                tracebacks += 1
            longest = max(longest, time.perf_counter() - started)
            tried += 1
    files = f"{tried} files of {len(KINDS)} kinds, cut off or changed"
    yield Line("a damaged file: tracebacks, and the longest time", files, tracebacks, longest)


def measure_bodies(folder: Path) -> Iterator[Line]:
    """Send hostile requests to a server whose model gives hostile replies, and ask for its health meanwhile."""
    texts = [make(unit, "alone", CHARACTERS) for unit in UNITS.values()]
    replies = itertools.cycle([Completion(VERDICT + text + " x", "stop") for text in texts])
    statuses: list[int] = []
    waits: list[float] = []
    done = threading.Event()
    with (
        FaultServer(script=lambda _: next(replies)) as model,
        Served(folder, "--base-url", model.base_url, "--model", model.model) as served,
    ):
        watch = threading.Thread(target=watch_health, args=(served.port, waits, done))
        watch.start()
        for path, body in make_bodies(texts):
            statuses.append(send(served.port, path, body))
        done.set()
        watch.join()
    bodies = f"{len(statuses)} bodies"
    yield Line("a hostile request: no answer, or 500", bodies, sum(status in (0, 500) for status in statuses))
    late = sum(wait > ANSWER_SECONDS for wait in waits)
    promise = f"`/health` meanwhile: no answer within {ANSWER_SECONDS:.0f} s"
    yield Line(promise, f"{len(waits)} times", late, max(waits))


def make_bodies(texts: list[str]) -> Iterator[tuple[str, bytes]]:
    """Every text as a response, as an instruction, as a rendered prompt, and as the body itself."""
    for text in texts:
        group = {"instruction": "Name a fruit.", "responses": [text, "Apples."]}
        yield "/v1/rewards", json.dumps({"groups": [group]}).encode()
        yield "/v1/rewards", json.dumps({"groups": [{"instruction": text, "responses": ["Apples."]}]}).encode()
        yield "/get_reward", json.dumps({"query": [text + "Apples."], "prompts": [text]}).encode()
        yield "/get_reward", json.dumps({"messages": [text]}).encode()
        yield "/rerank", json.dumps({"model": "m", "query": text, "documents": [text]}).encode()
        yield "/v1/rewards", text.encode(errors="surrogatepass")
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"groups": [{}]}',
        b'{"groups": [[[]]]}',
        b"\xff" * 1000,
    ):
        yield "/v1/rewards", body


def send(port: int, path: str, body: bytes | None = None) -> int:
    """Send a body, or ask for a page, and return the status; 0 without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def watch_health(port: int, waits: list[float], done: threading.Event) -> None:
    """Ask for the health of a server again and again, and note how long each answer takes."""
    while not done.wait(0.02):
        started = time.perf_counter()
        send(port, "/health")
        waits.append(time.perf_counter() - started)


MEASUREMENTS = (measure_kills, measure_faults, measure_replies, measure_files, measure_bodies)


def main() -> None:
    logging.disable()  # caches say that they are damaged
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    write = parser.parse_args().write
    lines = ["| promise | tried | broken | longest |", "|---|---|---:|---:|"]
    for measure in MEASUREMENTS:
        with TemporaryDirectory() as folder:
            lines += map(str, measure(Path(folder)))
        print(f"{measure.__name__} is done", file=sys.stderr)
    table = "\n".join([f"`python bench/reliability.py`, {datetime.now(UTC):%Y-%m-%d}:", "", *lines])
    print(table)
    if write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
