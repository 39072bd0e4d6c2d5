from __future__ import annotations

import asyncio
import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flip_reward.core.conversation import Message
from flip_reward.errors import DataError
from flip_reward.integrations.open_instruct_launch import launch
from tests.unit.integrations.conftest import STAND_INS, SetEnvironment


@pytest.fixture
def module(frameworks: None) -> ModuleType:  # noqa: ARG001 - makes it importable
    return importlib.import_module("flip_reward.integrations.open_instruct")


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("user: Name a fruit.", [("user", "Name a fruit.")]),
        (
            "system: Be brief.\nuser: Say:\n\nuser\nnot: a turn",
            [("system", "Be brief."), ("user", "Say:\n\nuser\nnot: a turn")],
        ),
        ("user: Hi\nassistant: Hello!\nuser: Bye", [("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")]),
        ("Name a user: any.", [("user", "Name a user: any.")]),
        ("<|user|>\nName a fruit.\n<|assistant|>\n", [("user", "Name a fruit.")]),
    ],
)
def test_queries_are_read_back(module: ModuleType, query: str, messages: list[tuple[str, str]]) -> None:
    assert [(message.role, message.content) for message in module.read_query(query)] == messages


@pytest.mark.parametrize("query", [None, ""])
def test_without_a_query_there_is_nothing_to_compare_with(module: ModuleType, query: str | None) -> None:
    with pytest.raises(DataError, match="gave no query"):
        module.read_query(query)


def test_both_ways_of_calling_give_the_same(module: ModuleType, set_environment: SetEnvironment) -> None:
    set_environment()
    verifier = pickle.loads(pickle.dumps(module.GeneralFlipVerifier()))  # as it is sent to other processes
    assert verifier.name == "general-flip"
    sync = verifier([1], "It rains in Spain.", None, "user: Say that it rains.")
    awaited = asyncio.run(verifier.async_call([1], "It rains in Spain.", None, query="user: Say that it rains."))
    assert sync == awaited
    assert sync.score > 0
    assert sync.reasoning


def test_thinking_that_the_template_began_and_nobody_ended_is_no_answer(
    module: ModuleType, set_environment: SetEnvironment
) -> None:
    set_environment(on_unscored="-1")
    query = "<|user|>\nSay that it rains.\n<|assistant|>\n<think>\n"
    verifier = module.GeneralFlipVerifier()
    assert verifier([1], "It rains in Spain.", None, query).score == -1
    assert verifier([1], "Hm.</think>It rains in Spain.", None, query).score > 0


TRAINER = """
import sys
from pathlib import Path
from open_instruct.ground_truth_utils import VerifierFunction
import beside_the_trainer
names = [verifier().name for verifier in VerifierFunction.__subclasses__()]
print(__name__, sys.argv[1:], names, beside_the_trainer.__name__)
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_the_launcher_runs_the_trainer_with_the_verifier(tmp_path: Path, *, as_module: bool) -> None:
    (tmp_path / "grpo.py").write_text(TRAINER, encoding="utf-8")
    (tmp_path / "beside_the_trainer.py").touch()
    trainer = ["-m", "grpo"] if as_module else [str(tmp_path / "grpo.py")]
    finished = subprocess.run(
        [sys.executable, "-m", "flip_reward.integrations.open_instruct_launch", *trainer, "--seed", "1"],
        cwd=tmp_path if as_module else None,
        env={"PYTHONPATH": str(STAND_INS / "open_instruct"), "FLIP_REWARD_MODEL": "scripted"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""
    assert finished.stdout == "__main__ ['--seed', '1'] ['general-flip'] beside_the_trainer\n"


@pytest.mark.parametrize("arguments", [[], ["-m"]])
def test_the_launcher_needs_a_trainer(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="which trainer"):
        launch(arguments)


def test_messages_keep_their_roles(module: ModuleType) -> None:
    assert module.read_query("developer: Be brief.\nuser: Hi") == (
        Message("developer", "Be brief."),
        Message("user", "Hi"),
    )
