import subprocess
import sys
from pathlib import Path

import flip_reward

ROOT = Path(__file__).parents[2]


def test_public_names_have_an_example_and_stand_in_a_guide() -> None:
    guides = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs/guides").glob("*.md")))
    for name in flip_reward.__all__:
        assert ">>> " in getattr(flip_reward, name).__doc__, name
        assert name in guides, name


def test_the_import_stays_light() -> None:
    heavy = "aiohttp rich typer xllamacpp pyarrow datasets torch numpy"
    program = f"import flip_reward, sys; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
