"""Nothing is imported, read or loaded before it is needed, and no trainer that is not used."""

from __future__ import annotations

import subprocess
import sys

TRAINERS = (
    "trl verl openrlhf swift open_instruct verifiers slime axolotl unsloth ray transformers torch numpy pyarrow"
)
WITHOUT_THEIR_TRAINER = (
    "flip_reward.integrations",
    "flip_reward.integrations.trl",
    "flip_reward.integrations.verl",
    "flip_reward.integrations.verl.data",
    "flip_reward.integrations.openrlhf",
    "flip_reward.integrations.slime",
    "flip_reward.integrations.plain",
    "flip_reward.integrations.ms_swift",
    "flip_reward.integrations.open_instruct_launch",
    "flip_reward.integrations.__main__",
)


def test_no_trainer_and_no_model_is_imported_with_the_files_for_them() -> None:
    program = (
        f"import sys, importlib, threading; [importlib.import_module(name) for name in {WITHOUT_THEIR_TRAINER}]\n"
        f"print(*sorted(set('{TRAINERS} aiohttp'.split()) & set(sys.modules)), threading.active_count())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={"FLIP_REWARD_NO_SUCH_OPTION": "is read by nobody"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.split() == ["1"]
