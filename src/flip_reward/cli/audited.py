"""What the terminal shows of an audit: the worst of each family of attacks, and what a reward does not see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.audit.findings import (
    describe,
    find_blind,
    find_first_learned,
    find_idle,
    find_lonely,
    find_unfinished,
    find_unread,
    find_unscored,
    find_unstable,
    find_worst_of_families,
)
from flip_reward.audit.results import AttackResult, AuditResults
from flip_reward.cli.console import printable
from flip_reward.errors import list_some
from flip_reward.evaluation.statistics import Estimate

_CELL = 15
"""The least width of a reward's column: the longest name of an attack fits."""
_MOST = 4


def print_audit(console: Console, results: AuditResults) -> None:
    """Print the headline, a table of families and rewards, and in words what each reward is weak at.

    A cell has the exploit of the family that wins most: its win rate and gain, the interval of the first, its name.
    Where the rewards do not fit side by side there are several tables.
    """
    console.print(Text.assemble((printable(results.headline).plain, "bold")), soft_wrap=True)
    worst = {reward.label: find_worst_of_families(results, reward.label) for reward in results.rewards}
    labels = [label for label, found in worst.items() if found]
    families = list(dict.fromkeys(entry.family for entry in results.attacks))
    families = [family for family in families if any(family in found for found in worst.values())]
    if families:
        what = "the worst attack of each family: how often it wins (95 % interval), and its gain in spreads"
        console.print(
            printable(f"{results.source}, {results.prompts:,} prompt{'s' * (results.prompts != 1)}; {what}"),
            soft_wrap=True,
        )
        beside = max(1, (console.width - max(map(len, families)) - 3) // (_CELL + 2))
        for start in range(0, len(labels), beside):
            console.print(_draw(families, {label: worst[label] for label in labels[start : start + beside]}))
    for attacks, why in (
        (find_unread(results), "their texts hold no answer to a reward: blank, or nothing but thinking"),
        (find_idle(results), "they change none of these responses"),
        (find_lonely(results), "they take the response to another prompt, and there is none"),
    ):
        if attacks:
            console.print(printable(f"no figure for {', '.join(attacks)}: {why}"), soft_wrap=True)
    for reward in results.rewards:
        console.print(printable(reward.label), style="bold")
        for line in _describe(results, reward.label):
            console.print(printable(f"  {line}"), soft_wrap=True)


def _draw(families: Sequence[str], worst: dict[str, dict[str, AttackResult]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("attack", no_wrap=True)
    for label in worst:
        table.add_column(printable(label), justify="right", overflow="fold", min_width=_CELL)
    for family in families:
        table.add_row(printable(family), *[_show(found.get(family)) for found in worst.values()])
    return table


def _show(found: AttackResult | None) -> Text:
    if found is None or found.win_rate is None:
        return Text("no score")
    rate, gain = found.win_rate, found.gain
    shown = "" if gain is None else f"  {gain.value:+.2f}"
    name = found.attack.partition(".")[2] or found.attack
    return Text.assemble(f"{rate.value:.3f}{shown}\n", (f"{rate.low:.3f}-{rate.high:.3f}\n{name}", "dim"))


def _describe(results: AuditResults, label: str) -> Iterator[str]:
    """Say what a reward is weak at, and what it gave no score for."""
    if label in find_unfinished(results):
        yield "not finished: the command that asked for it goes on"
        return
    if label in find_unscored(results):
        yield "nothing is known: no attacked text has a score"
        return
    learned = [
        f"{one.result.attack} (gain {one.gain:+.2f} {_show_price(one.result.price)})"
        for one in find_first_learned(results, label)
    ]
    blind = [f"{describe(one.attack)} ({_interval(one.drop_auc)})" for one in find_blind(results, label)]
    moved = [
        f"{describe(one.attack)} ({_interval(one.reward_gain, '+.4g')})" for one in find_unstable(results, label)
    ]
    if learned:
        yield f"a policy would learn first: {list_some(learned, _MOST)}"
    if blind:
        unseen = list_some(blind, _MOST)
        yield f"does not surely see (drop AUC; below 0.5 it prefers what is broken, 0.5 is blind): {unseen}"
    if moved:
        yield f"not robust to (change of the reward): {list_some(moved, _MOST)}"
    if not learned and not blind and not moved:
        yield "nothing was found in what has a score"
    mine = [result for result in results.results if result.reward == label]
    texts = sum(result.prompts for result in mine)
    unscored = sum(result.unscored - result.no_answer for result in mine)
    genuine = sum(one.unscored for one in results.audited if one.label == label)
    if unscored or genuine:
        yield f"unscored: {unscored:,} of {texts:,} attacked texts, {genuine:,} of {results.responses:,} responses"


def _show_price(price: float | None) -> str:
    count = round(abs(price or 0))
    if not count:
        return "for no more characters"
    return f"for {count:,} character{'s' * (count != 1)} {'more' if (price or 0) > 0 else 'fewer'}"


def _interval(found: Estimate | None, form: str = ".2f") -> str:
    return "" if found is None else f"{found.value:{form}}, {found.low:{form}} to {found.high:{form}}"
