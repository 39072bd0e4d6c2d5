"""`Formula`: a reward made of others, as text; read by a grammar, and never evaluated as Python."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from flip_reward.core.score import Outcome, Score
from flip_reward.errors import MissingDependencyError, OptionError
from flip_reward.rewards.composite.rules import RULES
from flip_reward.rewards.composite.values import FUNCTIONS, NEGATIVE, OPERATORS, Cell, Column, Function, check_finite
from flip_reward.rewards.function import is_function_name

if TYPE_CHECKING:
    from lark import Lark, Transformer

MOST_CHARACTERS = 2_000
MOST_LEVELS = 60
"""A formula that is nested more deeply is refused, so that working on it cannot exhaust the stack."""

_HINT = "for example: 0.5*z(flip) + 0.5*z(pointwise), min(flip, copy), gate(pointwise, length(max=900))"
_NO_NAME = re.compile(r"[^\w./~\\-]")
_SIGNS_AND_NUMBERS = re.compile(r"^(-|(\d[\d.]*|\.\d+)([eE]-?\d+)?[/-])+")
_BARE = re.compile(r"[^\s,()\[\]\"']+")


@dataclass(frozen=True, slots=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class FormulaPart:
    """A reward or a rule, with settings of its own by their names, in alphabetical order."""

    reward: str
    settings: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if not self.settings:
            return self.reward
        settings = ", ".join(f"{name}={_quote(value)}" for name, value in self.settings)
        return f"{self.reward}({settings})" if self.reward in RULES else f"{self.reward}[{settings}]"


@dataclass(frozen=True, slots=True)
class Application:
    """A function or operator, applied to its arguments."""

    function: Function
    arguments: tuple[Node, ...]


Node: TypeAlias = Number | FormulaPart | Application


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was read.

    Attributes:
        root: The whole of it.
        parts: The rewards and rules in it by their names, in their order: a second one of the same reward, with
            other settings, is called "flip-2".

    Example:
        >>> formula = parse_formula("min(flip,0.5*copy)", ("flip", "copy"))
        >>> str(formula), list(formula.parts)
        ('min(flip, 0.5 * copy)', ['flip', 'copy'])
    """

    root: Node
    parts: Mapping[str, FormulaPart]

    def __str__(self) -> str:
        return _show(self.root, 0, {})

    @property
    def by_names(self) -> str:
        """The formula with the names of rewards in place of their settings, which are recorded for themselves."""
        names = {part: name for name, part in self.parts.items() if part.reward not in RULES}
        return _show(self.root, 0, names)

    @property
    def compares(self) -> bool:
        """Whether a value depends on the other responses of the group."""
        return any(isinstance(node, Application) and node.function.group for node, _ in _walk(self.root))

    def compute(self, columns: Mapping[str, Sequence[Score]]) -> list[Cell]:
        """Compute the value of every response of a group, from the scores that its parts gave them."""
        [count] = {len(column) for column in columns.values()}
        known = {part: [_to_cell(name, score) for score in columns[name]] for name, part in self.parts.items()}
        return list(_compute(self.root, known, count))


def _to_cell(name: str, score: Score) -> Cell:
    if score.value is None:
        return Score(None, score.outcome, detail=score.detail and f"{name}: {score.detail}")
    if isfinite(score.value):
        return score.value
    return Score(None, Outcome.UNDEFINED_VALUE, detail=f"{name} gave {score.value}")


def _compute(node: Node, columns: Mapping[FormulaPart, Column], count: int) -> Column:
    match node:
        case Number(value):
            return [value] * count
        case FormulaPart():
            return columns[node]
        case Application(function, arguments):
            return function.compute([_compute(argument, columns, count) for argument in arguments])


def is_formula(text: str, rewards: Collection[str]) -> bool:
    """Whether a text means a formula, and not the name of a reward, misspelt or not.

    Example:
        >>> [
        ...     is_formula(text, ("flip",))
        ...     for text in ("flip", "flop", "2*flop", "1-flip", "runs/one", "json", "a.b:c")
        ... ]
        [False, False, True, True, False, True, False]
    """
    if text in rewards or is_function_name(text):
        return False
    if _NO_NAME.search(text):
        return True
    rest = _SIGNS_AND_NUMBERS.sub("", text)
    return any(rest == name or rest.startswith((f"{name}-", f"{name}/")) for name in (*rewards, *RULES))


def parse_formula(text: str, rewards: Collection[str]) -> Formula:
    """Read a formula over the named rewards and `RULES`.

    Raises:
        OptionError: It cannot be read, names something unknown, divides by zero, or is too long.
        MissingDependencyError: lark is not installed.
    """
    return _parse(text, tuple(rewards))


@lru_cache(maxsize=64)
def _parse(text: str, rewards: tuple[str, ...]) -> Formula:
    if len(text) > MOST_CHARACTERS:
        raise OptionError(f"the formula has {len(text):,} characters, more than {MOST_CHARACTERS:,}")
    root = _read(text, rewards)
    names: dict[FormulaPart, str] = {}
    for node, level in _walk(root):
        if level > MOST_LEVELS:
            raise OptionError(
                f"the formula is nested more than {MOST_LEVELS} levels deep", hint="sum(a, b, c) is flat"
            )
        if isinstance(node, FormulaPart) and node not in names:
            number = sum(part.reward == node.reward for part in names) + 1
            names[node] = node.reward if number == 1 else f"{node.reward}-{number}"
    if not names:
        raise OptionError(f"the formula {text!r} names no reward", hint=_HINT)
    return Formula(root, {name: part for part, name in names.items()})


def _walk(root: Node) -> Iterator[tuple[Node, int]]:
    """Every node with its level, from the left to the right; without recursion."""
    left: list[tuple[Node, int]] = [(root, 1)]
    while left:
        node, level = left.pop()
        yield node, level
        if isinstance(node, Application):
            left += [(argument, level + 1) for argument in reversed(node.arguments)]


def _read(text: str, rewards: tuple[str, ...]) -> Node:
    parser = _load_parser(rewards)
    from lark.exceptions import UnexpectedInput, UnexpectedToken

    try:
        return cast("Node", parser.parse(text))
    except UnexpectedInput as error:
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            where = "ends too soon"
        else:
            place = cast("int", error.pos_in_stream)
            where = f"cannot be read from character {place + 1} on: {text[place:][:20]!r}"
            if text[place] == ":":
                where += "; it cannot hold a function of yours"
        raise OptionError(f"the formula {where}", hint=_HINT) from None


@lru_cache(maxsize=8)
def _load_parser(rewards: tuple[str, ...]) -> Lark:
    try:
        from lark import Lark
    except ImportError as error:
        raise MissingDependencyError("lark", extra="composite") from error
    hyphenated = sorted((name for name in rewards if "-" in name), key=len, reverse=True)
    grammar = Path(__file__).with_suffix(".lark").read_text("utf-8")
    grammar = grammar.replace("(HYPHENATED)", f"({'|'.join(map(re.escape, hyphenated)) or 'HYPHENATED'})")
    # What is read becomes nodes at once, from the inside out, so that no depth exhausts the stack.
    return Lark(grammar, parser="lalr", transformer=cast("Transformer[Any, Any]", _Builder(rewards)))


class _Builder:
    """Makes nodes of what the grammar finds; each method is named after a rule of it."""

    def __init__(self, rewards: tuple[str, ...]) -> None:
        self._rewards = rewards

    def number(self, found: Sequence[str]) -> Number:
        return _to_number(check_finite(float(found[0])))

    def negative(self, found: Sequence[Node]) -> Node:
        return _apply(NEGATIVE, found)

    def operation(self, found: Sequence[Any]) -> Node:
        left, operator, right = found
        return _apply(OPERATORS[str(operator)], (left, right))

    def text(self, found: Sequence[str]) -> _Text:
        return _Text(found[0][1:-1])

    def setting(self, found: Sequence[str]) -> _Setting:
        name, value = map(str, found)
        return _Setting(name, value[1:-1] if value[0] in "\"'" else value)

    def name(self, found: Sequence[str]) -> FormulaPart:
        name = str(found[0])
        if name in FUNCTIONS:
            raise OptionError(f"{name!r} is a function of a formula: {name}(...)", hint=_HINT)
        self._check_known(name, (*self._rewards, *RULES))
        return FormulaPart(name)

    def reward(self, found: Sequence[Any]) -> FormulaPart:
        name = str(found[0])
        if name in FUNCTIONS or name in RULES:
            raise OptionError(f"what {name!r} takes stands between parentheses: {name}(...)", hint=_HINT)
        self._check_known(name, self._rewards)
        return FormulaPart(name, _sort(name, found[1:]))

    def call(self, found: Sequence[Any]) -> Node:
        name, arguments = str(found[0]), found[1:]
        if name in self._rewards:
            raise OptionError(
                f"settings of the reward {name!r} stand between brackets: {name}[samples=4]", hint=_HINT
            )
        self._check_known(name, (*FUNCTIONS, *RULES))
        if name in RULES:
            parameters = RULES[name].parameters()
            named = [_Setting(parameters[0], one.text) if isinstance(one, _Text) else one for one in arguments[:1]]
            if not all(isinstance(one, _Setting) and one.name in parameters for one in (*named, *arguments[1:])):
                takes = f"takes {', '.join(parameters)}" if parameters else "takes nothing"
                raise OptionError(f"the rule {name!r} {takes}", hint=f"for example {RULES[name].example}")
            return FormulaPart(name, _sort(name, (*named, *arguments[1:])))
        if not all(isinstance(one, Number | FormulaPart | Application) for one in arguments):
            raise OptionError(f"the function {name!r} takes rewards and numbers", hint=_HINT)
        return _apply(FUNCTIONS[name], arguments)

    def _check_known(self, name: str, known: Collection[str]) -> None:
        if name in known:
            return
        everything = (*self._rewards, *RULES, *FUNCTIONS)
        near = get_close_matches(name.lower(), known, n=1) or [one for one in everything if one.startswith(name)]
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(
            f"unknown name {name!r} in the formula{suggestion}",
            hint=f"rewards are {', '.join(self._rewards)}; rules are {', '.join(RULES)}; functions are "
            f"{', '.join(FUNCTIONS)}",
        )


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that stands as an argument."""

    text: str


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting of a part, as it stands in a formula."""

    name: str
    value: str


def _sort(owner: str, settings: Sequence[_Setting]) -> tuple[tuple[str, str], ...]:
    given = {one.name: one.value for one in settings}
    if len(given) < len(settings):
        raise OptionError(f"a setting of {owner!r} is given twice in the formula")
    return tuple(sorted(given.items()))


def _apply(function: Function, arguments: Sequence[Node]) -> Node:
    """Apply a function; of numbers it is a number at once."""
    if not function.least <= len(arguments) <= function.most:
        takes = f"{function.least}" if function.least == function.most else f"at least {function.least}"
        if function.least < function.most < float("inf"):
            takes = f"{function.least} or {function.most}"
        noun = "argument" if takes == "1" else "arguments"
        raise OptionError(f"the function {function.name!r} takes {takes} {noun}, not {len(arguments)}", hint=_HINT)
    if function.name == "/" and arguments[1] == Number(0.0):
        raise OptionError("the formula divides by zero")
    if function.name == "clip":
        _, low, high = arguments
        if isinstance(low, Number) and isinstance(high, Number) and low.value > high.value:
            raise OptionError("the bounds of 'clip' are the wrong way round", hint="clip(value, low, high)")
    values = [argument.value for argument in arguments if isinstance(argument, Number)]
    if function.group is None and len(values) == len(arguments):
        [cell] = function.compute([[value] for value in values])
        return _to_number(cell)
    return Application(function, tuple(arguments))


def _to_number(cell: Cell) -> Number:
    if isinstance(cell, Score):
        raise OptionError(f"the formula holds {cell.detail}")
    return Number(cell)


def _show(node: Node, least: int, names: Mapping[FormulaPart, str]) -> str:
    """Write a node, between parentheses where it binds less than `least`."""
    match node:
        case FormulaPart():
            return names.get(node, str(node))
        case Number(value):
            text, binds = repr(value).removesuffix(".0"), 3 if value < 0 else 4
        case Application(function, (operand,)) if function is NEGATIVE:
            text, binds = f"-{_show(operand, 3, names)}", 3
        case Application(function, arguments) if function.name in OPERATORS:
            binds = _BINDS.get(function.name, 0)
            left, right = _show(arguments[0], max(binds, 1), names), _show(arguments[1], binds + 1, names)
            text = f"{left} {function.name} {right}"
        case Application(function, arguments):
            return f"{function.name}({', '.join(_show(argument, 0, names) for argument in arguments)})"
    return f"({text})" if binds < least else text


_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2}
"""How strongly operators bind; a comparison binds less, a sign (3) more."""


def _quote(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'
