"""Run every program under bench/ and write bench/RESULTS.md.

Run `make bench`, or `python bench/run_all.py NAME...` for some of them; the sections of the others stay as they are.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from figures import Figure

BENCH = Path(__file__).parent
RESULTS = BENCH / "RESULTS.md"
PROGRAMS = (
    "f1",
    "client_path",
    "million_rows",
    "output",
    "shards",
    "ray_rows",
    "evaluation_report",
    "embedded",
    "likelihood",
    "drafting",
    "prefix_reuse",
    "server_load",
    "reward_wait",
    "start_up",
    "call_counts",
    "coverage",
)
ELSEWHERE = ("gpu", "in_process")
"""Run by name alone, on a machine that has what they need."""
HEADER = """# Results

Made by `make bench`, which runs every program in this folder and writes this page. Each ratio is of two figures from
the same run on the same machine: how many times better ours is than the one beside it; below 1 it is worse. Absolute
figures are of that machine only.
"""


def run_program(name: str) -> list[Figure]:
    """Run one program and return its figures."""
    print(f"bench/{name}.py ...", file=sys.stderr)
    finished = subprocess.run(
        [sys.executable, str(BENCH / f"{name}.py"), "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return [Figure(**json.loads(line)) for line in finished.stdout.splitlines() if line.startswith("{")]


def describe_machine() -> str:
    """Name the processor, the cores in use and the versions that matter."""
    model = next(
        (line.partition(":")[2].strip() for line in _read_cpu_info() if line.startswith("model name")), "unknown CPU"
    )
    libraries = "flip-reward aiohttp orjson xllamacpp torch transformers starlette uvicorn ray".split()
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, {platform.system()}, Python {platform.python_version()}, {versions}"


def explain_program(name: str) -> str:
    """Return what a program measures: its docstring up to how it is run."""
    docstring = ast.get_docstring(ast.parse((BENCH / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return docstring.partition("Run `python")[0].strip()


def render_section(name: str, figures: list[Figure]) -> str:
    """Render the figures of one program as a table."""
    lines = [
        f"## {name}",
        "",
        explain_program(name),
        "",
        f"`python bench/{name}.py`, {datetime.now(UTC):%Y-%m-%d}, {describe_machine()}",
        "",
        "| what | ours | unit | beside | theirs | ratio |",
        "|---|---:|---|---|---:|---:|",
    ]
    for figure in figures:
        theirs = "" if figure.peer is None else f"{figure.peer:,.2f}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        lines.append(
            f"| {figure.name} | {figure.value:,.2f} | {figure.unit} | {figure.beside} | {theirs} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def read_sections() -> dict[str, str]:
    """Return the sections of the page as it is, by program."""
    if not RESULTS.exists():
        return {}
    sections = RESULTS.read_text(encoding="utf-8").split("\n## ")[1:]
    return {section.partition("\n")[0]: f"## {section.rstrip()}\n" for section in sections}


def main(names: list[str]) -> None:
    sections = read_sections()
    for name in names or PROGRAMS:
        sections[name] = render_section(name, run_program(name))
        page = "\n".join([HEADER, *(sections[name] for name in (*PROGRAMS, *ELSEWHERE) if name in sections)])
        RESULTS.write_text(page, encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


def _read_cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    main(sys.argv[1:])
