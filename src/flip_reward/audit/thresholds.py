"""`--fail-if`: what an audit must not find, so that it can guard a release."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from operator import ge, gt, le, lt

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.results import ESTIMATES, NUMBERS, AttackEntry, AttackResult, AuditResults
from flip_reward.errors import OptionError, suggest_name
from flip_reward.evaluation.statistics import Estimate

_COMPARE = {">=": ge, "<=": le, ">": gt, "<": lt}
_CONDITION = re.compile(r"(?P<where>[^<>=]+?)\s*(?P<operator>[<>]=?)\s*(?P<limit>[^<>=\s]+)")
_ENDS = ("low", "high")
_COUNTS = ("no_answer", "prompts")
_ALIASES = {"echo": "copy"}
_HINT = (
    'a threshold is [REWARD:]ATTACK.FIGURE and a comparison with a number, such as "copy.win_rate>0.05"; '
    '"alarm" is one of --rollouts'
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A condition on the figures of an audit.

    Attributes:
        text: As the user wrote it.
        reward: The label of a reward, or what stands in it before the model; None for all.
        attack: An attack, a family, an effect, or a pattern with `*`.
        figure: A field of `AttackResult`.
        end: "low" or "high" for an end of its interval, None for the value.
        operator: How it is compared: ">", ">=", "<" or "<=".
        limit: With what.
    """

    text: str
    reward: str | None
    attack: str
    figure: str
    end: str | None
    operator: str
    limit: float

    def check_names(self, attacks: Iterable[AttackEntry], rewards: Iterable[str]) -> None:
        """Raise an OptionError where no attack or no reward of an audit is meant, or none has such a figure."""
        entries, labels = list(attacks), list(rewards)
        if not any(self._names(entry) for entry in entries):
            known = dict.fromkeys(name for entry in entries for name in (entry.family, entry.name))
            raise OptionError(f"{self.text!r}: {_unknown('attack', self.attack, list(known))}", hint=_HINT)
        if not any(self._names(entry) and self._applies(entry) for entry in entries):
            kind = "break the meaning" if self.figure == "drop_auc" else "do not break the meaning"
            raise OptionError(f"{self.text!r}: {self.figure} is a figure of attacks that {kind}", hint=_HINT)
        if not any(self._means(label) for label in labels):
            raise OptionError(f"{self.text!r}: {_unknown('reward', self.reward or '', labels)}", hint=_HINT)

    def check(self, results: AuditResults) -> list[str]:
        """Return a line for each reward that passes it, with what passes most; none where the audit holds.

        What is not defined passes, too: nothing was measured that could hold. Only an attack that made no text with
        an answer, such as blanks, is left out where others of the same condition did, but for counts of just these.
        """
        names = {entry.name for entry in results.attacks if self._names(entry) and self._applies(entry)}
        labels = [reward.label for reward in results.rewards if self._means(reward.label)]
        if not names or not labels:
            return [f"{self.text}: the audit has no such figure"]
        lines = []
        for label in labels:
            found = [result for result in results.results if result.reward == label and result.attack in names]
            counts = self.figure in _COUNTS
            tried = [result for result in found if counts or result.no_answer < result.prompts]
            if not found:
                lines.append(f"{self.text}: {label} is not scored")
            elif not tried and any(result.prompts for result in found):
                lines.append(f"{self.text}: {label} finds no answer in any text of {self.attack}")
            elif not tried:
                lines.append(f"{self.text}: {self.attack} makes no text of these responses")
            elif passed := self._find_passing(tried):
                more = f", and {len(passed) - 1} more" if len(passed) > 1 else ""
                lines.append(f"{self.text}: {self._describe(passed[0])}{more}")
        return lines

    def _find_passing(self, tried: Sequence[AttackResult]) -> list[AttackResult]:
        """Find what passes the threshold, first what passes it most, and before that what is not defined."""
        values = [(self._read(result), result) for result in tried]
        undefined = [result for value, result in values if value is None]
        passed = [(value, result) for value, result in values if value is not None and self._passes(value)]
        passed.sort(key=lambda one: one[0], reverse=self.operator.startswith(">"))
        return undefined + [result for _, result in passed]

    def _passes(self, value: float) -> bool:
        return bool(_COMPARE[self.operator](value, self.limit))

    def _read(self, result: AttackResult) -> float | None:
        found: Estimate | float | None = getattr(result, self.figure)
        return float(getattr(found, self.end or "value")) if isinstance(found, Estimate) else found

    def _describe(self, result: AttackResult) -> str:
        where, value = f"{result.attack} by {result.reward}", self._read(result)
        if value is None:
            scored = result.prompts - result.unscored
            return f"{where} has no {self.figure}, with {scored:,} of {result.prompts:,} prompts scored"
        found: object = getattr(result, self.figure)
        shown = ""
        if isinstance(found, Estimate):
            shown = f" ({found.low:.3f} to {found.high:.3f}, {found.n:,} prompts)"
        return f"{where} has {self.figure}{f'.{self.end}' if self.end else ''} {value:.4g}{shown}"

    def _names(self, entry: AttackEntry) -> bool:
        if entry.is_control:
            return self.attack == entry.name
        return self.attack in (entry.family, entry.effect.value) or fnmatchcase(entry.name, self.attack)

    def _applies(self, entry: AttackEntry) -> bool:
        broken = entry.effect is Effect.BROKEN
        return broken if self.figure == "drop_auc" else not (broken and self.figure == "flip_rate")

    def _means(self, label: str) -> bool:
        return self.reward is None or self.reward in (label, label.partition(" @ ")[0])


def parse(text: str) -> Threshold:
    """Read a threshold.

    Raises:
        OptionError: It is none.

    Example:
        >>> parse("echo.win_rate>0.05").attack
        'copy'
        >>> found = parse("flip:copy.before.win_rate.low >= 0.05")
        >>> found.reward, found.attack, found.figure, found.end, found.operator, found.limit
        ('flip', 'copy.before', 'win_rate', 'low', '>=', 0.05)
    """
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"{text!r} is no threshold", hint=_HINT)
    reward, colon, name = match["where"].rpartition(":")
    attack, _, figure = name.strip().rpartition(".")
    end = None
    if figure in _ENDS:
        end = figure
        attack, _, figure = attack.rpartition(".")
    known = ESTIMATES if end else (*ESTIMATES, *NUMBERS)
    if figure in known and not attack:
        raise OptionError(f"{text!r} names no attack", hint=_HINT)
    if figure.isdecimal():
        raise OptionError(f"{text!r}: the number comes last", hint=_HINT)
    if figure not in known:
        raise OptionError(f"{text!r}: {_unknown('figure', figure, known)}", hint=f"figures are {', '.join(known)}")
    try:
        limit = float(match["limit"])
    except ValueError:
        limit = float("nan")
    if not isfinite(limit):
        raise OptionError(f"{text!r}: {match['limit']!r} is no number", hint=_HINT)
    family, dot, name = attack.partition(".")
    return Threshold(
        text.strip(),
        reward.strip() if colon else None,
        _ALIASES.get(family, family) + dot + name,
        figure,
        end,
        match["operator"],
        limit,
    )


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    return f"unknown {what} {name!r}{suggest_name(name, known)}"
