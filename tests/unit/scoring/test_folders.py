"""What a folder holds, and what goes on with it."""

import json
from pathlib import Path

import pytest

from flip_reward.errors import RunError, RunMismatchError
from flip_reward.scoring.folders import FolderKind, how_to_go_on, recognise
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration, Session
from flip_reward.scoring.run_folder import RunFolder

CONFIGURATION = RunConfiguration(settings={"reward": "a"}, inputs=[InputIdentity(name="x", fingerprint="h")])
OTHER = RunConfiguration(settings={"reward": "b"}, inputs=[InputIdentity(name="x", fingerprint="h")])
RESCORED = RunConfiguration(settings={"reward": "a"}, inputs=[InputIdentity(name="run x", fingerprint="h")])


def write_manifest(folder: Path, command: str = "", configuration: RunConfiguration = CONFIGURATION) -> Path:
    folder.mkdir(parents=True)
    session = Session.now().model_copy(update={"command": command})
    Manifest(configuration=configuration, sessions=[session]).write(folder / "manifest.json")
    return folder


def write_training(folder: Path, kind: str = "grpo") -> Path:
    folder.mkdir()
    content = {"kind": kind, "configuration": {}, "sessions": [{"command": "flip-reward train mine.yaml"}]}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def write_evaluation(folder: Path) -> Path:
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps({"command": "flip-reward evaluate -b pairs.jsonl"}))
    return folder


def test_every_kind_is_recognised_by_what_stands_in_the_folder(tmp_path: Path) -> None:
    assert recognise(write_manifest(tmp_path / "score")) is FolderKind.SCORE
    assert recognise(write_manifest(tmp_path / "best", "flip-reward best-of-n x -o y")) is FolderKind.BEST_OF_N
    older = write_manifest(tmp_path / "older")
    (older / "candidates.jsonl").touch()
    assert recognise(older) is FolderKind.BEST_OF_N
    assert recognise(write_manifest(tmp_path / "again", configuration=RESCORED)) is FolderKind.RESCORE
    assert recognise(write_evaluation(tmp_path / "evaluation")) is FolderKind.EVALUATE
    cell = write_manifest(tmp_path / "evaluation/cells/one")
    assert recognise(cell) is FolderKind.CELL
    assert how_to_go_on(cell) == "'flip-reward evaluate -b pairs.jsonl' goes on with it"
    assert recognise(write_training(tmp_path / "training")) is FolderKind.TRAIN
    assert recognise(write_training(tmp_path / "tuned", "inferrer")) is FolderKind.TUNE
    (tmp_path / "odd").mkdir()
    for content in ("", "[]", "{}", '{"kind": "new"}'):
        (tmp_path / "odd/manifest.json").write_text(content)
        assert recognise(tmp_path / "odd") is None
    assert recognise(tmp_path / "nowhere") is None


def write_rollouts(folder: Path) -> Path:
    folder.mkdir()
    (folder / "rollouts.json").write_text('{"logs": []}')
    return folder


@pytest.mark.parametrize("make", [write_evaluation, write_training, write_rollouts])
def test_a_folder_of_another_command_says_what_goes_on_with_it(make: type[Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "other")
    before = sorted(entry.name for entry in folder.iterdir())
    for open_it in (lambda: RunFolder(folder, CONFIGURATION), lambda: Manifest.read(folder / "manifest.json")):
        with pytest.raises(RunError, match="not a run") as caught:
            open_it()
        assert str(caught.value.hint).startswith("'flip-reward ")
    assert {entry.name for entry in folder.iterdir()} - {".lock"} == set(before)


def test_a_run_of_another_configuration_names_the_command_that_goes_on(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "run", "flip-reward best-of-n x.jsonl")
    with pytest.raises(RunMismatchError, match="best-of-n") as caught:
        RunFolder(folder, OTHER)
    assert "'flip-reward best-of-n x.jsonl' goes on" in str(caught.value.hint)
    unknown = write_manifest(tmp_path / "unknown")
    assert how_to_go_on(unknown) == "'flip-reward score' goes on with it"
