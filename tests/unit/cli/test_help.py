"""Help is plain text of 80 columns at most, and shows first what people use first."""

from __future__ import annotations

import pytest

from flip_reward.cli.app import COMMANDS, main

DATA = {f"data {name}" for name in ("convert", "wildchat", "check", "verl", "words")}
LEAVES = sorted({*COMMANDS} - {"data", "cache"} | DATA)


def show(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    out, errors = capsys.readouterr()
    assert not errors or status
    return out or errors


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("command", LEAVES)
def test_the_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    short, whole = (show(capsys, *command.split(), flag) for flag in ("-h", "--help-all"))
    assert short == show(capsys, *command.split(), "--help")
    options = [line for line in short.splitlines() if line.startswith("  -")]
    assert len(options) <= 20
    assert max(map(len, f"{short}\n{whole}".splitlines())) <= 80
    assert "<" not in short.replace("<|im_end|>", "").replace("< summary.txt", ""), "no column of types"
    listed = {word for word in whole.replace(",", " ").split() if word.startswith("--")}
    assert {word for word in short.replace(",", " ").split() if word.startswith("--")} <= listed


def test_rare_options_are_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    short, whole = show(capsys, "score", "-h"), show(capsys, "score", "--help-all")
    for common in ("-r, --reward", "-m, --model", "-o, --output", "--dry-run", "--help-all"):
        assert common in short
    for rare in ("--aggregation mean|max|median", "--retry-refused", "--seed N", "Sampling:"):
        assert rare not in short
        assert rare in whole


@pytest.mark.parametrize("command", ["audit", "best-of-n", "evaluate", "score", "serve"])
def test_reward_and_model_come_first(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = show(capsys, command, "-h").partition("\nOptions:\n")[2]
    assert options.index("-r, --reward") < options.index("-m, --model") < options.index("--similarity")


def test_every_command_has_a_line_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    overview = show(capsys, "-h")
    assert overview == show(capsys, "--help-all")
    assert all(name in overview and line[:20] in overview for name, line in COMMANDS.items())
    assert "Exit status" in overview
    assert show(capsys, status=2) == overview, "without arguments"
    assert "check" in show(capsys, "data", "-h")


def test_a_long_example_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    examples = show(capsys, "score", "-h").partition("Examples:")[2].partition("Arguments:")[0]
    assert "--base-url http://localhost:8000/v1 \\\n      --model Qwen/Qwen3-4B -o scored.parquet\n" in examples


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scroe", "x"], "did you mean 'score'?"),
        (["score", "x", "--modle", "m"], "did you mean --model"),
        (["score"], "missing argument 'INPUT...'"),
        (["score", "--input", "x"], "flip-reward score [OPTIONS] INPUT..."),
        (["report"], "flip-reward report [OPTIONS] FOLDER..."),
        (["data", "check", "one", "two"], "flip-reward data check [OPTIONS] INPUT"),
        (["score", "x", "--limit", "0"], "'--limit'"),
        (["score", "x", "--model"], "'--model'"),
        (["data", "chek", "x"], "check"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = show(capsys, *arguments, status=2)
    assert said in errors
    assert [line.partition(":")[0] for line in errors.splitlines()] == ["Error", "Hint"]
