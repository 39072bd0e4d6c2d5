"""Starts open-instruct's trainer with the verifier "general-flip".

    python -m flip_reward.integrations.open_instruct_launch open_instruct/grpo_fast.py --dataset_mixer_list ...

What would follow `python` follows the launcher: a script, or -m and a module. It is a file of its own because it has
to run before open_instruct is imported.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

VERIFIER = "flip_reward.integrations.open_instruct"


def launch(arguments: Sequence[str]) -> None:
    """Import the verifier, then run a script or "-m" and a module, with its arguments, as Python would."""
    as_module = arguments[:1] == ["-m"]
    trainer = list(arguments[1:] if as_module else arguments)
    if not trainer:
        raise SystemExit("which trainer? for example: open_instruct/grpo_fast.py --dataset_mixer_list ...")
    # As Python does: a script finds the modules beside it, a module those of the current folder.
    sys.path[0] = "" if as_module else str(Path(trainer[0]).resolve().parent)
    importlib.import_module(VERIFIER)
    sys.argv = trainer
    if as_module:
        runpy.run_module(trainer[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(trainer[0], run_name="__main__")


if __name__ == "__main__":
    launch(sys.argv[1:])
