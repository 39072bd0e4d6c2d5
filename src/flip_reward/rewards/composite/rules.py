"""Rules: what can be said of a response without a model, 1 where it holds and 0 where it does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from flip_reward.core.response import replace_lone_surrogates
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import MissingDependencyError, OptionError
from flip_reward.rewards.controls import ModelFreeReward
from flip_reward.rewards.options import ResponseOptions, Settings, record_options

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


@dataclass(frozen=True)
class Rule(ABC):
    """A rule with its parameters, which a formula gives by these names; a text alone is the first of them."""

    example: ClassVar[str]

    @classmethod
    def parameters(cls) -> Sequence[str]:
        """Return the names of its parameters."""
        return [one.name for one in fields(cls)]

    @abstractmethod
    def holds(self, answer: str) -> bool:
        """Whether it holds for the visible answer of a response."""


@dataclass(frozen=True)
class LengthRule(Rule):
    """The answer has at least `min` and at most `max` characters, or words between white space."""

    example: ClassVar[str] = "length(max=900), length(min=20, max=200, unit=words)"

    min: int | None = None
    max: int | None = None
    unit: str = "characters"

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _read_count(name, value))
        if self.min is None and self.max is None:
            raise OptionError("the rule 'length' has neither min nor max", hint=f"for example {self.example}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise OptionError(f"no answer has a length from {self.min} to {self.max}", hint="min is the smaller one")
        if self.unit not in ("characters", "words"):
            raise OptionError(f"the rule 'length' has no unit {self.unit!r}", hint="units are characters and words")

    def holds(self, answer: str) -> bool:
        """Compare the length with the limits."""
        length = len(answer.split()) if self.unit == "words" else len(answer)
        return (self.min is None or length >= self.min) and (self.max is None or length <= self.max)


def _read_count(name: str, value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise OptionError(f"{name} of the rule 'length' is a whole number, not {text!r}")
    return int(text)


@dataclass(frozen=True)
class MatchRule(Rule):
    """A regular expression matches somewhere in the answer, in the syntax of RE2: linear time on any text."""

    example: ClassVar[str] = 'matches("^Dear "), matches("(?i)in summary")'

    pattern: str = ""

    def __post_init__(self) -> None:
        if not self.pattern:
            raise OptionError("the rule 'matches' has no pattern", hint=f"for example {self.example}")
        _compile(self.pattern)

    def holds(self, answer: str) -> bool:
        """Search the answer."""
        return _compile(self.pattern).search(replace_lone_surrogates(answer)) is not None


@lru_cache(maxsize=64)
def _compile(pattern: str) -> Any:  # noqa: ANN401 - the library has no types
    try:
        import re2
    except ImportError as error:
        raise MissingDependencyError("google-re2", extra="composite") from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(replace_lone_surrogates(pattern), options)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if error.args else "it is not one"
        raise OptionError(
            f"the regular expression {pattern!r} cannot be read: {said}",
            hint="the syntax is that of RE2, which has no look-around and no back-references",
        ) from None


@dataclass(frozen=True)
class JsonRule(Rule):
    """The whole answer is a JSON value: what a program would read. One between the marks of a code fence is not."""

    example: ClassVar[str] = "json"

    def holds(self, answer: str) -> bool:
        """Parse the answer."""
        try:
            orjson.loads(answer)
        except orjson.JSONDecodeError:
            return False
        return True


@dataclass(frozen=True)
class LanguageRule(Rule):
    """The answer's first 5,000 characters are in a language, by its code of two letters (ISO 639-1)."""

    example: ClassVar[str] = 'language("en")'

    code: str = ""

    def __post_init__(self) -> None:
        known = _load_identifier().labels
        if self.code not in known:
            near = get_close_matches(self.code.lower()[:2], known, n=1, cutoff=0.9)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"unknown language {self.code!r}{suggestion}", hint=f"codes are {', '.join(known)}")

    def holds(self, answer: str) -> bool:
        """Find out the most likely language."""
        code: str = _load_identifier().classify(replace_lone_surrogates(answer[:_CHARACTERS_READ]))[0]
        return code == self.code


_CHARACTERS_READ = 5_000
"""They tell the language; normalising a long row of combining marks would take its square in time."""


@lru_cache(maxsize=1)
def _load_identifier() -> LanguageIdentifier:
    """Load a model of our own: the library's can be limited to some languages by others."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingDependencyError("py3langid", extra="composite") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)


RULES: Mapping[str, type[Rule]] = MappingProxyType(
    {"length": LengthRule, "matches": MatchRule, "json": JsonRule, "language": LanguageRule}
)
"""The rules by their names in a formula."""


class RuleReward(ModelFreeReward):
    """1 for a response whose visible answer obeys a rule, 0 for one that does not.

    Args:
        name: One of `RULES`.
        parameters: Those of the rule, as a formula gives them.
        response: What is read of a response.

    Raises:
        OptionError: A parameter is missing or wrong.

    Example:
        >>> from flip_reward import Group
        >>> rule = RuleReward("length", {"max": "12"})
        >>> [score.value for score in rule.score_sync(Group.of("Name a fruit.", ["A pear.", "Apples and pears."]))]
        [1.0, 0.0]
    """

    def __init__(self, name: str, parameters: Mapping[str, str], response: ResponseOptions | None = None) -> None:
        self._name = name
        self._rule = RULES[name](**parameters)
        self.response_options = response or ResponseOptions()

    @property
    def settings(self) -> Settings:
        """The rule's name and parameters, and how it reads responses where that is not the usual way."""
        given = {name: value for name, value in asdict(self._rule).items() if value is not None}
        return {"reward": self._name, **given, **record_options(self.response_options, (), ())}

    def measure(self, instruction: str, answer: str) -> Score:  # noqa: ARG002 - others look at it
        """Apply the rule."""
        return Score(float(self._rule.holds(answer)), Outcome.SCORED)
