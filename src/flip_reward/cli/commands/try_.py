"""`flip-reward try`: the score of a response or several, as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.console import printable
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.options import expand_options
from flip_reward.cli.session import warn_of_tiny_model
from flip_reward.core.cautions import Caution
from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Reading, Score
from flip_reward.errors import OptionError
from flip_reward.report.highlight import find_shared_tokens
from flip_reward.rewards.config import RewardConfig

_LONGEST_SHOWN = 2000
_OUTCOMES = {
    Outcome.EMPTY_RESPONSE: "the response is blank",
    Outcome.UNFINISHED_THINKING: "the response never left its thinking: there is no answer",
    Outcome.EMPTY_INSTRUCTION: "the instruction has no words to compare",
    Outcome.NOTHING_TO_COMPARE: "this reward compares responses: give it two or more",
    Outcome.UNDEFINED_VALUE: "the formula or function is no number here",
    Outcome.UNPARSEABLE_REPLY: "no verdict could be read from the model's reply",
    Outcome.TRUNCATED_REPLY: "the model's reply was cut off",
    Outcome.EMPTY_REPLY: "the model answered nothing",
    Outcome.TEMPLATE_ECHO: "the model repeated its prompt",
    Outcome.CONTEXT_TOO_LONG: "the response does not fit the model's context",
    Outcome.REQUEST_REFUSED: "the model refused the request",
    Outcome.ENGINE_FAILURE: "the model could not be asked",
}
_CAUTIONS = {
    Caution.SHORT_RESPONSE: "so short a response would answer many instructions",
    Caution.MOSTLY_CODE: "the response is mostly code",
    Caution.OTHER_LANGUAGE: "the model was not tuned for this language",
    Caution.COPIES_INSTRUCTION: "the response repeats half of the instruction or more",
    Caution.OUTSIDE_CALIBRATION: "the calibration was made without rewards so high or so low",
}


@dataclass(frozen=True, slots=True)
class _Tried:
    """A response and its score."""

    response: str
    score: Score

    @property
    def order(self) -> tuple[bool, float]:
        """Sorts the best one first, and those without a reward last."""
        return self.score.value is None, -(self.score.value or 0.0)


@expand_options(without=("policy_tokenizer",))
def try_(
    instruction: Annotated[str, typer.Argument(help="What was asked.", show_default=False)],
    config: RewardConfig,
    responses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RESPONSE]...",
            help="What was answered; several are ranked. '-', or none: from standard input.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON and nothing else.")] = False,
) -> None:
    """Score one response, and see why: the inferred instruction, with the words that it shares with yours.

    Nothing is kept. 'flip-reward score' does the same for the rows of a file.

    Examples:

      flip-reward try "Name three fruits." "Apples, pears and plums."

      flip-reward try "Name three fruits." "Apples, pears and plums." "It rains." --model PATH.gguf

      flip-reward try "Summarise the report." - < summary.txt
    """
    reward = config.check()  # mistakes come to light before a model loads
    texts = _read_responses(responses or ["-"])
    if len(texts) == 1 and not reward.independent:
        raise OptionError(f"{config.reward} compares responses, and there is only one", hint="give two or more")
    typer.echo(f"model: {config.describe_model()}", err=True)
    reward = config.load()
    warn_of_tiny_model(reward, Console(stderr=True))
    [scores] = reward.score_sync([Group.of(instruction, texts)])
    tried = [_Tried(text, score) for text, score in zip(texts, scores, strict=True)]
    if as_json:
        typer.echo(_to_json(instruction, config, tried))
    else:
        _print(instruction, sorted(tried, key=lambda one: one.order), config)
    values = [score.value for score in scores if score.value is not None]
    if not values or any(score.outcome is Outcome.ENGINE_FAILURE for score in scores):
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _read_responses(responses: Sequence[str]) -> list[str]:
    if responses.count("-") > 1:
        raise OptionError("standard input can be one response only", hint="write '-' once")
    if "-" in responses and sys.stdin.isatty():
        typer.echo("Type the response, and Ctrl-D at its end.", err=True)
    return [_read_input() if text == "-" else text for text in responses]


def _read_input() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n")


def _to_json(instruction: str, config: RewardConfig, tried: Sequence[_Tried]) -> bytes:
    ranked = sorted(tried, key=lambda one: one.order)
    scores = [
        {
            "response": one.response,
            "rank": None if one.score.value is None else ranked.index(one) + 1,
            "reward": one.score.value,
            **{name: getattr(one.score, name) for name in ("outcome", "inferred_instruction", "precision", "recall")},
            **{name: getattr(one.score, name) for name in ("reasoning", "detail", "cautions", "copied_share")},
            **{name: getattr(one.score, name) for name in ("parts", "other_reading")},
        }
        for one in tried
    ]
    said = {"instruction": instruction, "reward": config.reward, "model": config.describe_model(), "scores": scores}
    return orjson.dumps(said, option=orjson.OPT_INDENT_2)


def _print(instruction: str, ranked: Sequence[_Tried], config: RewardConfig) -> None:
    """Print the scores, the best one first."""
    console = Console()
    for place, one in enumerate(ranked, 1):
        if len(ranked) > 1:
            title = f"{place}." if one.score.value is not None else "Not scored"
            console.print(Text(title, style="bold"))
        lines = Table.grid(padding=(0, 2))
        lines.add_column(no_wrap=True)
        lines.add_column(overflow="fold")
        for label, text in _describe(instruction, one, config, plain=console.color_system is None):
            lines.add_row(Text(label, style="cyan"), text)
        console.print(lines)
        if place < len(ranked):
            console.print()


def _describe(instruction: str, one: _Tried, config: RewardConfig, *, plain: bool) -> list[tuple[str, Text]]:
    """Say what came out, line by line: each with its label."""
    score = one.score
    asked, inferred = instruction, score.inferred_instruction
    lines = [("instruction", _show(asked)), ("response", _show(one.response))]
    if inferred is not None:
        shared = find_shared_tokens(inferred, asked, config.flip.normalizer)
        lines = [("instruction", _mark(asked, shared.original, plain=plain)), lines[1]]
        lines.append(("inferred", _mark(inferred, shared.inferred, plain=plain)))
    if score.reasoning:
        lines.append(("reasoning", _show(score.reasoning)))
    if score.likelihood is not None:
        told = f"{score.likelihood.log_probability:.1f} nats for {score.likelihood.tokens} tokens of the instruction"
        lines.append(("likelihood", Text(told)))
    words, where = ("the response's", "response") if inferred is None else ("the inferred", "inferred one")
    if score.precision is not None:
        lines.append(("precision", Text(f"{score.precision:.3f} of {words} words are in the instruction")))
    if score.recall is not None:
        lines.append(("recall", Text(f"{score.recall:.3f} of the instruction's words are in the {where}")))
    for part in score.parts:
        known = f"{part.value:.3f}" if part.value is not None else f"none: {_OUTCOMES[part.outcome]}"
        lines.append((part.name, Text(known)))
    if score.other_reading is not None:
        lines.append(_describe_reading(score.other_reading))
    if score.value is None:
        lines.append(("reward", Text(f"none: {_OUTCOMES[score.outcome]} ({score.outcome.value})", style="yellow")))
    else:
        lines.append(("reward", Text(f"{score.value:.3f}", style="bold")))
    if score.detail:
        lines.append(("detail", _show(score.detail)))
    lines += [("caution", Text(f"{_CAUTIONS[one]} ({one.value})", style="yellow")) for one in score.cautions]
    return lines


def _describe_reading(other: Reading) -> tuple[str, Text]:
    besides = "without copies" if other.masked else "as it is"
    value = f"none: {_OUTCOMES[other.outcome]}" if other.value is None else f"{other.value:.3f}"
    return besides, Text(f"{value} (does not count: the lower value does)")


def _show(text: str) -> Text:
    return printable(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def _mark(text: str, bounds: Sequence[int], *, plain: bool) -> Text:
    """Mark the shared words: in bold, or between asterisks where there are no styles."""
    marked, at = Text(), 0
    for start, end in zip(bounds[::2], bounds[1::2], strict=True):
        marked.append_text(printable(text[at:start]))
        word = printable(text[start:end])
        marked.append_text(Text(f"*{word}*") if plain else Text(word.plain, style="bold green"))
        at = end
    return marked.append_text(printable(text[at:]))
