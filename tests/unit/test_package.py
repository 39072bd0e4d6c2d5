import subprocess
import sys
from pathlib import Path

import flip_reward

ROOT = Path(__file__).parents[2]

PUBLIC = [
    "BackwardLikelihoodReward",
    "Completion",
    "Cost",
    "Engine",
    "FlipOptions",
    "FlipReward",
    "FlipRewardError",
    "Group",
    "ListwiseJudge",
    "Message",
    "Outcome",
    "PairwiseJudge",
    "PointwiseJudge",
    "Request",
    "RewardConfig",
    "RewardModel",
    "Sampling",
    "Score",
    "ScriptedEngine",
    "f1_score",
    "load_engine",
    "load_similarity",
    "normalize_answer",
    "score_file",
    "score_file_async",
    "select_best",
]


def test_public_names() -> None:
    """They are an interface: a change of this list is a change for every user."""
    assert flip_reward.__all__ == PUBLIC
    guides = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs/guides").glob("*.md")))
    for name in PUBLIC:
        assert ">>> " in getattr(flip_reward, name).__doc__, name
        assert name in guides, name


def test_the_import_stays_light() -> None:
    heavy = "aiohttp rich typer json_repair xllamacpp pyarrow datasets torch numpy"
    program = f"import flip_reward, sys; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
