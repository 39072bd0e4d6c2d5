"""A trainer's logs are watched in the order of their steps, whatever the order they were written in."""

from __future__ import annotations

from pathlib import Path

import pytest

from flip_reward.audit.rollouts.columns import RolloutColumns
from flip_reward.audit.rollouts.results import read_kept_samples, read_rollouts
from flip_reward.audit.rollouts.watch import SAMPLES_KEPT, watch_rollouts
from flip_reward.errors import DataError, OptionError
from flip_reward.scoring.folders import ROLLOUTS
from tests.unit.audit.rollouts.test_read import write_lines
from tests.unit.audit.rollouts.watchers import AlarmAt


def row(step: int, reward: float | None = 0.5, response: str = "A pear.") -> dict[str, object]:
    return {"step": step, "prompt": "Name a fruit.", "response": response, "reward": reward}


def test_steps_come_in_order_from_rows_in_any_order(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(10), row(2, response="a"), row(10), row(2, response="b"), row(9)])
    watcher = AlarmAt()
    audit = watch_rollouts([str(log)], monitor=watcher)
    assert list(watcher.seen) == [2, 9, 10]
    assert [one.response for one in watcher.seen[2]] == ["a", "b"]
    assert [(one.step, one.samples) for one in audit.steps] == [(2, 2), (9, 1), (10, 2)]


def test_several_logs_are_one_training(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "rank-0.jsonl", [row(1), row(2)])
    second = write_lines(tmp_path / "rank-1.jsonl", [row(1), row(3)])
    audit = watch_rollouts([str(first), str(second)], monitor=AlarmAt())
    assert [(one.step, one.samples) for one in audit.steps] == [(1, 2), (2, 1), (3, 1)]


def test_an_alarm_is_the_verdict_with_onset_and_mechanism(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(step) for step in range(1, 20)])
    audit = watch_rollouts([str(log)], monitor=AlarmAt(12))
    assert (audit.onset, audit.mechanism, audit.verdict) == (11, "copied", "Step 12: responses copy more.")


def test_a_sample_a_step_compares_nothing_and_says_so(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [{**row(step), "gold": 0.1 * step} for step in range(1, 40)])
    assert watch_rollouts([str(log)]).verdict.endswith("that takes two samples of a step that have both rewards.")


def test_rows_that_cannot_be_read_are_named_where_no_reward_is_left(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(1, None), {**row(2), "step": "last"}])
    with pytest.raises(DataError, match=r"has a reward; 1 rows cannot be read: .*log.jsonl, row 2"):
        watch_rollouts([str(log)])


def test_held_out_prompts_are_shown_apart_and_not_counted(tmp_path: Path) -> None:
    write_lines(tmp_path / "samples" / "train" / "step-000001.jsonl", [row(1)])
    held_out = [{**row(step), "held_out_rewards": {"pointwise": 0.25}} for step in (0, 1)]
    write_lines(tmp_path / "samples" / "held-out" / "all.jsonl", held_out)
    watcher = AlarmAt()
    audit = watch_rollouts([str(tmp_path)], monitor=watcher)
    assert (list(watcher.seen), list(watcher.held_out)) == ([1], [0, 1])
    assert (audit.samples, audit.not_trained_on) == (1, ["pointwise"])


def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    rows = [row(1), row(1, None), {**row(2), "reward": "good"}, {**row(3), "gold": 1.0}]
    audit = watch_rollouts([str(write_lines(tmp_path / "log.jsonl", rows))], monitor=AlarmAt())
    assert (audit.samples, audit.without_reward, audit.rejected) == (3, 1, 1)
    assert "log.jsonl, row 3" in audit.reasons[0]
    assert [one.without_reward for one in audit.steps] == [1, 0]
    assert audit.steps[1].others == {"gold": 1.0}


def test_one_step_is_no_training(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(1), row(1)])
    assert "one step only" in watch_rollouts([str(log)], monitor=AlarmAt()).verdict


def test_few_steps_are_too_few_for_an_alarm(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(step) for step in range(4)])
    assert "too few" in watch_rollouts([str(log)], monitor=AlarmAt()).verdict


def test_without_another_reward_the_verdict_says_what_stays_unseen(tmp_path: Path) -> None:
    rows = [row(step) for step in range(20)]
    log, gold = tmp_path / "log.jsonl", tmp_path / "gold.jsonl"
    write_lines(log, rows)
    write_lines(gold, [{**one, "gold": 0.5} for one in rows])
    assert "not trained on" in watch_rollouts([str(log)], monitor=AlarmAt()).verdict
    assert "not trained on" not in watch_rollouts([str(gold)], monitor=AlarmAt()).verdict


def test_logs_without_any_reward_are_an_error(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(1, None), row(2, float("nan"))])
    with pytest.raises(DataError, match="none of the 2 samples"):
        watch_rollouts([str(log)], monitor=AlarmAt())


def test_logs_without_any_good_row_are_an_error_that_shows_one(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [{**row(1), "reward": "good"}])
    with pytest.raises(DataError, match="the text 'good'"):
        watch_rollouts([str(log)], monitor=AlarmAt())


def test_results_and_samples_are_kept_in_a_folder(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [row(step, response=f"{step}") for step in range(1, 20)])
    folder = tmp_path / "found"
    audit = watch_rollouts([str(log)], folder=folder, monitor=AlarmAt(12))
    assert read_rollouts(folder) == audit
    assert [one.step for one in read_kept_samples(folder)] == list(range(1, 20))
    assert watch_rollouts([str(log)], folder=folder, monitor=AlarmAt()).alarms == []
    assert read_rollouts(folder).alarms == []


@pytest.mark.parametrize(("steps", "a_step"), [(10, 400), (4500, 1)])
def test_the_kept_samples_are_some_of_many(tmp_path: Path, steps: int, a_step: int) -> None:
    rows = (row(step) for step in range(steps) for _ in range(a_step))
    log = write_lines(tmp_path / "log.jsonl", rows)
    watch_rollouts([str(log)], folder=tmp_path / "found", monitor=AlarmAt(steps // 2))
    kept = [one.step for one in read_kept_samples(tmp_path / "found")]
    assert SAMPLES_KEPT / 2 <= len(kept) <= SAMPLES_KEPT * 1.25
    assert {0, steps // 2, steps - 1} <= set(kept)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "logs" / "1.jsonl", [row(1)])
    with pytest.raises(OptionError, match="something else"):
        watch_rollouts([str(log)], folder=tmp_path / "logs", monitor=AlarmAt())
    assert not (tmp_path / "logs" / ROLLOUTS).exists()


def test_columns_may_be_named(tmp_path: Path) -> None:
    rows = [{"when": 1, "asked": "Name a fruit.", "said": "A pear.", "value": 0.5}]
    log = write_lines(tmp_path / "log.jsonl", rows)
    watcher = AlarmAt()
    watch_rollouts([str(log)], RolloutColumns("when", "asked", "said", ("value",)), monitor=watcher)
    assert watcher.seen[1][0].response == "A pear."
