"""What a shell asks for while somebody types, by the protocol of its script."""

from __future__ import annotations

import sys

import pytest

from flip_reward.cli.app import COMMANDS, main


def complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str, line: str) -> str:
    """Return what the command answers to a shell."""
    variables = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    for name, value in {"_FLIP_REWARD_COMPLETE": f"complete_{shell}", **variables[shell]}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
@pytest.mark.parametrize(
    ("line", "found", "other"),
    [
        ("flip-reward sc", "score", "serve"),
        ("flip-reward score --ru", "--run-folder", "--reward"),
        ("flip-reward score --aggr", "--aggregation", "--reward"),
        ("flip-reward score --aggregation me", "median", "max"),
        ("flip-reward data ch", "check", "convert"),
        ("flip-reward score --reward p", "pairwise", "longest"),
        ("flip-reward score --batch c", "collect", "submit"),
        ("flip-reward evaluate -r p", "pairwise", "longest"),
        ("flip-reward serve --similarity r", "rouge-l", "chrf"),
        ("flip-reward try --normalizer m", "multilingual", "english"),
        ("flip-reward data convert --reward general-p", "general-pairwise", "general-flip"),
    ],
)
def test_commands_options_and_values(
    shell: str, line: str, found: str, other: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = complete(capsys, monkeypatch, shell, line)
    assert found in said
    assert other not in said


def test_all_commands_without_importing_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "flip_reward.cli.commands.serve", raising=False)
    assert complete(capsys, monkeypatch, "bash", "flip-reward ").split() == list(COMMANDS)
    assert "flip_reward.cli.commands.serve" not in sys.modules


def test_nothing_is_known_of_a_command_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--model" not in complete(capsys, monkeypatch, "bash", "flip-reward nosuch --mo")
