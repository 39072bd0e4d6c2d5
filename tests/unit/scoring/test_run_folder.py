import errno
import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.errors import OptionError, RunLockedError, RunMismatchError, StorageError
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration
from flip_reward.scoring.run_folder import CompletedRows, locked
from flip_reward.scoring.shards.spec import ShardSpec


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2))))
def test_missing_responses(done: list[tuple[int, int]]) -> None:
    completed = CompletedRows()
    for row, index in done:
        completed.add(row=row, group_size=3, response_index=index)
    for row in range(6):
        expected = [index for index in range(3) if (row, index) not in done]
        assert completed.pending(row, group_size=3) == expected
        assert (row in completed) == (not expected)


def test_a_group_that_has_grown_has_its_new_responses_left() -> None:
    completed = CompletedRows()
    completed.add(row=1, group_size=1, response_index=0)
    for index in range(2):
        completed.add(row=3, group_size=2, response_index=index)
    assert completed.pending(1, group_size=3) == [1, 2]
    assert completed.pending(3, group_size=2) == completed.pending(3, group_size=1) == []
    assert completed.pending(3, group_size=4) == [2, 3]
    completed.add(row=3, group_size=4, response_index=3)
    assert (3 in completed, completed.pending(3, group_size=4)) == (False, [2])
    completed.add(row=3, group_size=4, response_index=2)
    assert (len(completed), completed.pending(3, group_size=4)) == (2, [])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named_with_the_way_out(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=str(tmp_path)) as caught, locked(tmp_path):
        pass
    assert "--run-folder" in str(caught.value.hint)
    assert "FLIP_REWARD_LOCK=off" in str(caught.value.hint)
    monkeypatch.setenv("FLIP_REWARD_LOCK", "off")
    with locked(tmp_path):
        pass


def test_a_lock_that_is_held_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunLockedError), locked(tmp_path):
        pass


def test_an_error_inside_the_lock_is_not_about_the_lock(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="inside"), locked(tmp_path):
        raise OSError(errno.ENOLCK, "inside")


def test_the_variable_for_locks_takes_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIP_REWARD_LOCK", "maybe")
    with pytest.raises(OptionError, match="maybe"), locked(tmp_path):
        pass


def test_the_variable_for_locks_is_no_setting_of_a_reward() -> None:
    assert RewardConfig.from_environment({"FLIP_REWARD_LOCK": "off"}) == RewardConfig()


def test_a_run_that_another_engine_began_says_how_to_go_on_with_it(tmp_path: Path) -> None:
    llama, openvino = "embedded/tiny/1a2b/xllamacpp-1", "openvino/tiny/1a2b/openvino-genai-1"

    def configure(engine: str) -> RunConfiguration:
        inputs = [InputIdentity(name="x.jsonl", fingerprint="h")]
        return RunConfiguration(settings={"flip.engine": engine, "samples": 1}, inputs=inputs)

    for begun, now, said in (
        (llama, openvino, "--model llama.cpp:NAME goes on"),
        (openvino, llama, "--model openvino:NAME goes on"),
        (llama, openvino.replace("tiny", "other"), "another folder"),
        (llama, llama.replace("cpp-1", "cpp-2"), "another folder"),
    ):
        with pytest.raises(RunMismatchError, match=r"flip\.engine") as caught:
            Manifest(configuration=configure(begun)).resume_with(configure(now), tmp_path)
        assert said in str(caught.value.hint)
        assert ("goes on" in said) == ("goes on" in str(caught.value.hint))


def test_what_earlier_versions_did_not_have_changes_no_digest() -> None:
    whole = RunConfiguration(settings={"a": 1}, inputs=[InputIdentity(name="x.jsonl", fingerprint="h")])
    assert whole.digest == "3cc6f6fcc3eb5b47111bde430c667937b7f7f338ed3fb153f24e640ab8da5b66"
    parts = [whole.model_copy(update={"shard": ShardSpec(number=number, count=2)}) for number in (1, 2)]
    assert len({whole.digest, *(part.digest for part in parts)}) == 3
    assert all(RunConfiguration.model_validate_json(part.model_dump_json()) == part for part in parts)
    assert parts[0].differences(parts[1]) == ["shard: '1/2' there, '2/2' now"]
