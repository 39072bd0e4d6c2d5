"""An evaluation of 20,000 items by 6 rewards and its page, and the page of a run of 100,000 responses.

Everything is scored beforehand, with the scripted engine and rewards that need no model. Measured is what follows,
beside the limit that it has to keep, or beside a peer:

- `flip-reward evaluate` once more, which asks nothing: it reads pairs and records, computes accuracies with their
  intervals and 15 comparisons, and writes results and page. `flip-reward report` writes the page alone.
- One interval of 20,000 grades, beside `scipy.stats.bootstrap` with as many resamples.
- The pages in Chromium: when there is something to see, when the samples are there, and the time from an event to the
  frame that shows what it asks for, of several the slowest. A search waits for the next letter first.

Run `python bench/evaluation_report.py` (needs playwright and Debian's chromium); the variables FLIP_BENCH_ITEMS and
FLIP_BENCH_RESPONSES set other numbers.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from commands import SCRIPTED, run_command
from figures import Figure, report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ITEMS = int(os.environ.get("FLIP_BENCH_ITEMS", "20000"))
RESPONSES = int(os.environ.get("FLIP_BENCH_RESPONSES", "100000"))
REWARDS = ("flip", "backward-likelihood", "trained", "copy", "longest", "copy - 0.001*longest")
SUBSETS = ("chat", "reasoning", "safety", "code", "writing")
REPEATS = 3
LIMITS = {"s": 60.0, "MB": 500.0, "page MB": 3.0, "paint ms": 2000.0, "ms": 200.0}
SEARCHES = ("ven", "l", "lo", "loun", "lounfi pra", "nowhere", "")
ORDERS = {"evaluation": ("margin", "length", "id", "order"), "run": ("reward", "length-down", "order")}
WIDTH, HEIGHT = 1280, 900

_SYLLABLES = "ta lo mi ter un so pra ven di ost ra nel fi gu bem".split()
_WORDS = [a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in ("", *_SYLLABLES)]


def write_words(draw: random.Random, count: int) -> str:
    """Words as often as those of a language: few of them often, many seldom."""
    return " ".join([_WORDS[int(len(_WORDS) ** draw.random()) - 1] for _ in range(count)])


def make_pair(number: int) -> dict[str, object]:
    """Make a preference of made-up words; every twentieth has the prompt of the one before."""
    prompt = write_words(random.Random(number - (number % 20 == 1)), 14)
    draw = random.Random(f"responses {number}")
    return {
        "id": f"pair-{number}",
        "subset": SUBSETS[number % 7 % len(SUBSETS)],
        "prompt": prompt,
        "chosen": f"{write_words(draw, draw.randint(40, 120))} {prompt[: draw.randint(0, 80)]}",
        "rejected": f"{write_words(draw, draw.randint(40, 120))} {prompt[: draw.randint(0, 50)]}",
    }


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def make_row(number: int) -> dict[str, object]:
    pair = make_pair(number)
    return {"prompt": pair["prompt"], "response": pair["chosen"]}


def measure_evaluation(folder: Path, browser: Browser) -> Iterator[Figure]:
    """Score an evaluation, and measure what follows."""
    write_rows(folder / "pairs.jsonl", map(make_pair, range(ITEMS)))
    evaluation = folder / "evaluation"
    rewards = [word for reward in REWARDS for word in ("-r", reward)]
    command: tuple[str | Path, ...] = (
        "evaluate",
        "-b",
        folder / "pairs.jsonl",
        *rewards,
        *SCRIPTED,
        "--run-folder",
        evaluation,
    )
    run_command(*command)
    what = f"{ITEMS:,} items x {len(REWARDS)} rewards"
    yield from measure_command(f"{what}, evaluate when all is scored", *command)
    yield from measure_page(f"{what}, page", evaluation, browser, "evaluation")


def measure_run(folder: Path, browser: Browser) -> Iterator[Figure]:
    """Score rows, and measure the page."""
    write_rows(folder / "rows.jsonl", map(make_row, range(RESPONSES)))
    run_command("score", folder / "rows.jsonl", *SCRIPTED, "--run-folder", folder / "run")
    yield from measure_page(f"{RESPONSES:,} responses, page", folder / "run", browser, "run")


def measure_command(what: str, *command: str | Path) -> Iterator[Figure]:
    ran = run_command(*command)
    yield beside_limit(what, ran.seconds, "s")
    yield beside_limit(f"{what}, peak memory", ran.peak_megabytes, "MB")


def measure_page(what: str, folder: Path, browser: Browser, kind: str) -> Iterator[Figure]:
    """Write a page, and use it."""
    yield from measure_command(f"{what}, written by report", "report", folder)
    page = folder / "report.html"
    yield beside_limit(f"{what}, size", page.stat().st_size / 1e6, "page MB")
    visits = [visit(browser, page, ORDERS[kind]) for _ in range(REPEATS)]
    for name in visits[0]:
        limit = "paint ms" if name in ("first paint", "samples are there") else "ms"
        yield beside_limit(f"{what}, {name}", statistics.median([times[name] for times in visits]), limit)


def beside_limit(what: str, value: float, kind: str) -> Figure:
    limit = LIMITS[kind]
    return Figure(what, round(value, 2), kind.rsplit(maxsplit=1)[-1], limit, round(limit / value, 2), "limit")


def compare_intervals() -> Iterator[Figure]:
    """Time the interval of a mean, and see how far its ends are from those of another bootstrap."""
    import numpy as np
    from scipy.stats import bootstrap

    from flip_reward.evaluation.statistics import RESAMPLES, estimate_mean

    draw = np.random.default_rng(0)
    grades = draw.choice([0.0, 0.5, 1.0], size=ITEMS, p=[0.3, 0.1, 0.6])
    strata = ["all"] * ITEMS
    estimate_mean(grades[:100], strata[:100])  # imports what it needs
    started = time.perf_counter()
    ours = estimate_mean(grades, strata)
    between = time.perf_counter()
    found = bootstrap((grades,), np.mean, n_resamples=RESAMPLES, batch=100, method="percentile", rng=draw)
    seconds, theirs = between - started, time.perf_counter() - between
    name = f"interval of {ITEMS:,} grades"
    yield Figure(name, seconds * 1000, "ms", theirs * 1000, round(theirs / seconds, 1), "scipy.stats.bootstrap")
    interval = found.confidence_interval
    apart = max(abs(ours.low - interval.low), abs(ours.high - interval.high)) / (ours.high - ours.low)
    yield Figure(f"{name}, its ends beside scipy's", round(100 * apart, 2), "% of its width")


def visit(browser: Browser, path: Path, orders: Iterable[str]) -> dict[str, float]:
    """Open a page and use it; return how many milliseconds each took."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, offline=True)
    page = context.new_page()
    page.add_init_script(_WATCH)
    page.goto(path.as_uri())
    times = {"samples are there": page.evaluate("shown")}
    page.wait_for_timeout(1000)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    times["the first search"] = page.evaluate(_SEARCH, "unmi")
    times["later searches"] = max([page.evaluate(_SEARCH, words) for words in SEARCHES])
    times["another order"] = max([page.evaluate(_SORT, order) for order in orders])
    times["opening a sample"] = max([page.evaluate(_OPEN, place) for place in (3, 7, 11)])
    context.close()
    return {"first paint": paint, **times}


_WATCH = """
const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
window.shown = new Promise((done) => {
  new MutationObserver((_, watcher) => {
    if (!document.querySelector("#list button")) return;
    watcher.disconnect();
    frame().then(() => done(performance.now()));
  }).observe(document, { childList: true, subtree: true });
});
window.timeOf = async (act, isDone) => {
  await frame();
  const start = performance.now();
  act();
  do await frame();
  while (!isDone());
  return performance.now() - start;
};
window.change = (id, value, kind) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event(kind, { bubbles: true }));
};
"""
_SEARCH = """(words) => timeOf(
  () => change("search", words, "input"),
  () => (new URLSearchParams(location.hash.slice(1)).get("search") ?? "") === words,
)"""
_SORT = """(order) => timeOf(() => change("sort", order, "change"), () => true)"""
_OPEN = """(place) => timeOf(() => document.querySelectorAll("#list button")[place].click(), () => true)"""


def measure() -> Iterator[Figure]:
    """Measure an evaluation and a run, with one browser for both."""
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--headless=new", "--disable-background-networking", "--no-first-run"]
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=quiet)
        yield from measure_evaluation(Path(name), browser)
        yield from measure_run(Path(name), browser)
    yield from compare_intervals()  # last: a process counts as its own what the one that starts it has grown to


if __name__ == "__main__":
    report(measure, "An evaluation of 20,000 items by 6 rewards, and what its page takes in a browser.")
