import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flip_reward.audit.monitor.alarms import append_alarms, keep_alarms, read_alarms
from flip_reward.audit.monitor.mechanisms import MECHANISMS
from flip_reward.audit.monitor.monitor import Monitor
from flip_reward.audit.monitor.options import MonitorOptions
from flip_reward.audit.monitor.rollout import Alarm, Rollout, StepReport
from flip_reward.errors import RunError
from tests.unit.audit.monitor.synthetic_runs import make_run

TRICKS = {
    "copied": "copied",
    "length": "length",
    "short": "length",
    "repetition": "repetition",
    "rising_phrases": "rising_phrases",
}


def watch(run: Iterable[list[Rollout]], options: MonitorOptions | None = None) -> list[StepReport]:
    monitor = Monitor(options)
    return [monitor.observe(step, rollouts) for step, rollouts in enumerate(run)]


def alarms_of(reports: Iterable[StepReport]) -> list[Alarm]:
    return [alarm for report in reports for alarm in report.alarms]


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("trick", sorted(TRICKS))
def test_a_trick_is_found_and_named(trick: str, *, others: bool) -> None:
    """It begins at step 12, and 20 steps later most responses have it."""
    found = [alarms_of(watch(make_run(trick, seed, others=others))) for seed in range(4)]
    for alarms in found:
        [alarm] = alarms
        assert alarm.mechanism == TRICKS[trick]
        assert 12 < alarm.step <= 36
        assert 0 < alarm.onset <= alarm.step
        assert "\n" not in alarm.message
        assert ("judge" in alarm.message) == others
        assert 1 <= len(alarm.examples) <= 5
        assert len({example.prompt for example in alarm.examples}) == len(alarm.examples)


@pytest.mark.parametrize("others", [True, False])
def test_many_samples_of_one_prompt_tell_as_much(*, others: bool) -> None:
    found = [make_run(trick, 1, others=others, prompts=1, samples=16) for trick in ("rising_phrases", None)]
    assert [len(alarms_of(watch(run))) for run in found] == [1, 0]


@pytest.mark.parametrize("improves", [0.0, 1.5])
@pytest.mark.parametrize("others", [True, False])
def test_trainings_without_a_trick_raise_no_alarm(*, others: bool, improves: float) -> None:
    """Neither where nothing is learned, nor where the responses become better by all rewards: in 2 of 100 at most."""
    runs = [make_run(None, seed, others=others, improves=improves) for seed in range(25)]
    assert sum(bool(alarms_of(watch(run))) for run in runs) == 0


def test_an_alarm_quotes_the_phrase() -> None:
    [alarm] = alarms_of(watch(make_run("rising_phrases", 0)))
    assert '"in summary' in alarm.message
    assert all(example.response.startswith("in summary") for example in alarm.examples)


def test_figures_have_their_names() -> None:
    *_, last = watch([[replace(one, spread=0.01, samples=4) for one in step] for step in make_run("copied", 1)])
    assert last.figures.keys() == {
        *MECHANISMS, "reward", "saturation", "saturation_slope", "noise", "drift", "length_correlation",
        "copied_correlation", "divergence",
    }  # fmt: skip
    assert last.figures["copied"] > 0.5
    assert last.figures["copied_correlation"] > 0
    assert last.figures["drift"] > 0.3


def test_a_restored_monitor_goes_on_as_if_undisturbed() -> None:
    steps = list(make_run("copied", 3))
    undisturbed = watch(steps)
    for interruption in (1, 4, 20, 39):
        monitor = Monitor()
        before = [monitor.observe(step, rollouts) for step, rollouts in enumerate(steps[:interruption])]
        monitor = Monitor.restore(monitor.state())
        later = enumerate(steps[interruption:], start=interruption)
        assert before + [monitor.observe(step, rollouts) for step, rollouts in later] == undisturbed
    with pytest.raises(RunError):
        Monitor.restore(b'{"steps": "many"}')


def test_the_state_does_not_grow_with_the_steps() -> None:
    monitor = Monitor()
    sizes = []
    for step, rollouts in enumerate(make_run("copied", 3, steps=120)):
        monitor.observe(step, rollouts)
        sizes.append(len(monitor.state()))
    assert sizes[-1] < 1.1 * sizes[30] < 200_000


def test_an_evaluation_counts_for_the_steps_before_it() -> None:
    """Samples to learn from have no other reward; held-out prompts have."""
    monitor = Monitor()
    alarms: list[Alarm] = []
    held_out = list(make_run("copied", 5, steps=40, prompts=32, samples=1))
    for step, rollouts in enumerate(make_run("copied", 5, others=False)):
        alarms += monitor.observe(step, rollouts).alarms
        if step % 15 == 0:
            report = monitor.observe_held_out(step, held_out[step])
            alarms += report.alarms
    [alarm] = alarms
    assert alarm.step == 30
    assert alarm.mechanism == "copied"
    assert "away from judge" in alarm.message


def test_missing_steps_rewards_and_numbers() -> None:
    """A training of which each third step was logged, some rewards are missing, and some are not numbers."""
    spoilt = []
    for step, rollouts in enumerate(make_run("copied", 2, steps=60, prompts=8)):
        rewards = [None, math.nan, *(one.reward for one in rollouts[2:])]
        others = [{"judge": math.inf}, {}, *(one.others for one in rollouts[2:])]
        if step % 3 == 0:
            mixed = zip(rollouts, rewards, others, strict=True)
            spoilt.append((step, [replace(one, reward=reward, others=other) for one, reward, other in mixed]))
    monitor = Monitor()
    reports = [monitor.observe(step, rollouts) for step, rollouts in spoilt]
    assert [alarm.mechanism for alarm in alarms_of(reports)] == ["copied"]
    assert all(math.isfinite(value) for report in reports for value in report.figures.values())


def test_constant_rewards_raise_no_alarm() -> None:
    for others in (True, False):
        run = ([replace(one, reward=0.5) for one in step] for step in make_run("copied", 2, others=others))
        assert alarms_of(watch(run)) == []


def test_rewards_that_are_zero_at_first_are_early_until_they_vary() -> None:
    steps = list(make_run("copied", 2, others=False, steps=60))
    sparse = [[replace(one, reward=0.0) for one in step] for step in steps[:8]]
    assert [alarm.mechanism for alarm in alarms_of(watch([*sparse, *steps]))] == ["copied"]


ROLLOUTS = st.builds(
    Rollout,
    step=st.just(0),
    prompt=st.text(max_size=12),
    response=st.text(max_size=40),
    reward=st.none() | st.floats(),
    others=st.dictionaries(st.sampled_from("ab"), st.none() | st.floats(), max_size=2),
    spread=st.none() | st.floats(0, 2),
    samples=st.integers(1, 4),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(ROLLOUTS, max_size=6), max_size=8))
def test_nothing_that_is_logged_ends_a_training(steps: list[list[Rollout]]) -> None:
    monitor = Monitor(MonitorOptions(early_steps=1, patience_steps=1))
    for step, rollouts in enumerate(steps):
        for value in monitor.observe(step, rollouts).figures.values():
            assert not math.isnan(value)
        monitor.observe_held_out(step, rollouts)
        monitor = Monitor.restore(monitor.state(), MonitorOptions(early_steps=1, patience_steps=1))


def test_alarms_are_kept_up_to_a_step(tmp_path: Path) -> None:
    assert read_alarms(tmp_path) == []
    keep_alarms(tmp_path, 3)
    found = [
        Alarm(
            step,
            step - 1,
            "copied",
            0.7,
            "It is copied.",
            (Rollout(step, "Name", "\N{SNOWMAN}\n", 0.5, {"a": None}),),
        )
        for step in (3, 8, 9)
    ]
    append_alarms(tmp_path, found[:1])
    append_alarms(tmp_path, found[1:])
    assert read_alarms(tmp_path) == found
    keep_alarms(tmp_path, 8)
    assert read_alarms(tmp_path) == found[:2]
    with (tmp_path / "alarms.jsonl").open("ab") as file:
        file.write(b'{"step": 10, "on')
    with pytest.raises(RunError, match="alarms"):
        read_alarms(tmp_path)
