"""Nothing is read or loaded before it is needed, and no trainer is imported that is not used."""

from __future__ import annotations

import json
import subprocess
import sys

NEED_THEIR_TRAINER = {
    "areal": "areal",
    "flip_reward_plugin": "swift",
    "nemo_gym": "nemo_gym",
    "open_instruct": "open_instruct",
    "skyrl": "skyrl_gym",
    "verifiers": "verifiers",
}
NOT_YET = "trl verl openrlhf slime axolotl unsloth tinker tinker_cookbook ray torch transformers numpy aiohttp"
PROGRAM = """
import importlib, json, pkgutil, sys, threading
import flip_reward.integrations

for trainer in sys.argv[1:]:
    sys.modules[trainer] = None  # as if it were not installed
need_their_trainer = {}
for module in pkgutil.walk_packages(flip_reward.integrations.__path__, "flip_reward.integrations."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        need_their_trainer[module.name.rpartition(".")[2]] = error.name.partition(".")[0]
print(json.dumps([need_their_trainer, sorted(sys.modules), threading.active_count()]))
"""


def test_no_trainer_and_no_model_is_imported_with_the_files_for_them() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *NEED_THEIR_TRAINER.values()],
        env={"FLIP_REWARD_NO_SUCH_OPTION": "is read by nobody"},
        capture_output=True,
        text=True,
        check=True,
    )
    need_their_trainer, loaded, threads = json.loads(finished.stdout)
    assert need_their_trainer == NEED_THEIR_TRAINER
    assert not set(NOT_YET.split()) & set(loaded)
    assert threads == 1
