"""What `flip-reward audit --rollouts` prints of a trainer's logs, and the status that it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from flip_reward.cli.app import main
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.rollouts import run_rollouts
from flip_reward.errors import OptionError
from tests.unit.audit.rollouts.test_read import write_lines
from tests.unit.audit.rollouts.watchers import AlarmAt


def make_log(tmp_path: Path, *more: dict[str, object], response: str = "A pear.") -> str:
    rows = [
        {"step": step, "prompt": "Name a fruit.", "response": response, "reward": 0.25, "gold": 0.5}
        for step in range(1, 21)
    ]
    return str(write_lines(tmp_path / "log.jsonl", [*rows, *more]))


def test_it_prints_what_was_read_the_figures_and_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_rollouts([make_log(tmp_path)], monitor=AlarmAt())
    shown = capsys.readouterr().out
    assert "trained on reward; not trained on: gold" in shown
    assert "20 samples in 20 steps, 1 to 20" in shown
    assert shown.index("reward  ") < shown.index("gold, not trained on")
    assert "No alarm" in shown


def test_an_alarm_is_shown_with_its_onset_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_rollouts([make_log(tmp_path, response="A [red]pear[/red] \x1b[31m")], monitor=AlarmAt(15))
    shown = capsys.readouterr().out
    assert "Step 15: responses copy more." in shown
    assert "onset" in shown
    assert "[red]pear[/red]" in shown
    assert "\x1b[31m" not in shown


def test_fail_if_alarm_decides_the_status(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    run_rollouts([log], fail_if=["alarm"], monitor=AlarmAt())
    run_rollouts([log], monitor=AlarmAt(15))
    with pytest.raises(typer.Exit) as ended:
        run_rollouts([log], fail_if=["alarm"], monitor=AlarmAt(15))
    assert ended.value.exit_code == ExitCode.THRESHOLD_PASSED


def test_rejected_rows_decide_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        run_rollouts([make_log(tmp_path, {"step": "one"})], monitor=AlarmAt())
    assert ended.value.exit_code == ExitCode.PARTLY_DONE
    assert "1 row could not be read" in capsys.readouterr().out


def test_json_is_all_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_rollouts([make_log(tmp_path)], as_json=True, monitor=AlarmAt(15))
    found = json.loads(capsys.readouterr().out)
    assert (found["onset"], found["mechanism"], found["alarms"][0]["step"]) == (14, "copied", 15)


@pytest.mark.parametrize(
    ("options", "named"), [({"fail_if": ["echo.win_rate>0.05"]}, "alarm"), ({"columns": "steps=a"}, "step")]
)
def test_options_that_are_not_for_logs_are_refused(tmp_path: Path, options: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError) as error:
        run_rollouts([make_log(tmp_path)], monitor=AlarmAt(), **options)  # type: ignore[arg-type]
    assert named in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    "more",
    [
        ("other.jsonl",),
        ("-r", "flip"),
        ("-m", "scripted"),
        ("--attack", "copy"),
        ("--attack-seed", "3"),
        ("--limit", "5"),
        ("--group-by", "prompt"),
        ("--skip-bad-rows",),
        ("--retry-refused",),
        ("--same-model",),
        ("--copy-guard",),
        ("--fail-if", "copy.win_rate>0.05"),
    ],
    ids=" ".join,
)
def test_what_would_have_no_effect_on_logs_is_refused(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("audit", "--rollouts", make_log(tmp_path), *more))
    assert ended.value.code == ExitCode.BAD_USAGE
    assert "--rollouts" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--reward-column", "a"), ("--other-column", "a"), ("--fail-if", "alarm")])
def test_what_is_for_logs_is_refused_without_them(more: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("audit", "rows.jsonl", "-r", "copy", *more))
    assert ended.value.code == ExitCode.BAD_USAGE
    assert "--rollouts" in capsys.readouterr().err
