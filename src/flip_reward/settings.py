"""`FlatSettings`: settings declared once, in nested parts, and given by flat names wherever they are written down.

A part is a frozen dataclass whose fields say everything about a setting: name, type, default, limits and help. From
them come the keys of recipes, the `FLIP_REWARD_` variables, the options of the command line, and the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, Self, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from flip_reward.errors import OptionError, suggest_name

Model = TypeVar("Model", bound=BaseModel)
Settings = TypeVar("Settings")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field's type and description do not say; stands in its `Annotated`."""

    only: tuple[str, ...] = ()
    """The kinds of engine with which it has an effect; empty for all."""
    short: str | None = None
    """The short form of its command-line option, such as "-m"."""
    metavar: str | None = None
    """What stands for its value in help."""
    common: bool = False
    """Many people need it: help shows it without `--help-all`."""
    choices: tuple[str, ...] = ()
    """Values that a shell completes, where any text may be given."""


@dataclass(frozen=True, slots=True)
class Option:
    """One flat name, and the places in the parts that it stands for: several parts may have a setting in common."""

    name: str
    field: FieldInfo
    panel: str | None
    setting: Setting
    places: tuple[tuple[str, ...], ...]

    def limit(self, *kinds: str) -> Any:  # noqa: ANN401 - a number of the setting's type
        """Return its bound of one of these kinds ("ge", "gt", "le", "lt"); None where it has none."""
        for bound in self.field.metadata:
            for kind in kinds:
                if hasattr(bound, kind):
                    return getattr(bound, kind)
        return None


class FlatSettings(BaseModel):
    """Settings in nested parts that can be given by flat names, or part by part.

    Example:
        >>> from flip_reward import RewardConfig
        >>> RewardConfig(model="m", temperature=0.7).flip.sampling.temperature
        0.7
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def options(cls) -> Mapping[str, Option]:
        """Return every setting by its flat name, in the order of their declaration."""
        return _list_options(cls)

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was given
        if not isinstance(given, Mapping):
            return given
        options = cls.options()
        nested = {name: value for name, value in given.items() if name in cls.model_fields or name not in options}
        for name in given.keys() - nested.keys():
            for place in options[name].places:
                _put(nested, place, given[name])
        return nested

    def flat(self) -> dict[str, Any]:
        """Return every setting by its flat name."""
        return flatten(self)

    def changed(self) -> list[str]:
        """Return the flat names of the settings that are not at their defaults, in any of their places."""
        found = find_changed(self)
        return [name for name in self.options() if name in found]

    def updated(self, **settings: object) -> Self:
        """Return a copy with other parts, or other values for some flat names."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(own | settings)


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the name of an option that nobody knows, and say which one is near.

    Example:
        >>> check_names(["sample"], ["model", "samples"])
        Traceback (most recent call last):
        flip_reward.errors.OptionError: there is no option 'sample'; did you mean 'samples'?
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise OptionError(f"there is no option {name!r}{suggest_name(name, known)}")


def names_of(model: type[BaseModel]) -> Sequence[str]:
    """Return the names by which a user gives the settings of a model: flat ones where it has them."""
    return list(model.options() if issubclass(model, FlatSettings) else model.model_fields)


def read_environment(
    model: type[Model], environment: Mapping[str, str], prefix: str, *, others: tuple[str, ...] = ()
) -> Model:
    """Read settings, each from the variable of the prefix and its name in capitals; empty ones are not set.

    Variables with one of the longer prefixes `others` are left to somebody else.
    """
    names = names_of(model)
    chosen: dict[str, str] = {}
    for variable, value in environment.items():
        if not value or not variable.startswith(prefix) or variable.startswith(others):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in names:
            near = get_close_matches(name, names, n=1)
            suggestion = f"; did you mean {prefix}{near[0].upper()}?" if near else ""
            raise OptionError(f"unknown environment variable {variable}{suggestion}")
        chosen[name] = value
    return check_settings(model, chosen, lambda name: f"{prefix}{name.upper()}")


def check_settings(model: type[Settings], chosen: Mapping[str, object], call: Callable[[str], str]) -> Settings:
    """Make settings, or a part of them, of what a user chose; `call` gives what the user calls one, from its name."""
    try:
        return TypeAdapter(model).validate_python(chosen)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = next((str(key) for key in reversed(first["loc"]) if key in chosen), "")
        place = f"{call(name)}: " if name else ""
        raise OptionError(f"{place}{first['msg'].removeprefix('Value error, ')}") from error


def flatten(part: Any) -> dict[str, Any]:  # noqa: ANN401 - a part of any settings
    """Return every setting of a part, and of the parts in it, by its flat name; the first where several share one."""
    flat: dict[str, Any] = {}
    for name in declared(type(part)):
        value = getattr(part, name)
        flat = {**flatten(value), **flat} if is_dataclass(value) else {**flat, name: value}
    return flat


def changed(part: Any) -> list[str]:  # noqa: ANN401 - a part of any settings
    """Return the names of a part's settings that are not at their defaults."""
    return [name for name, info in declared(type(part)).items() if getattr(part, name) != info.default]


def find_changed(*parts: Any) -> set[str]:  # noqa: ANN401 - parts of any settings
    """Return the flat names of the settings of parts, and of the parts in them, that are not at their defaults."""
    found: set[str] = set()
    for part in parts:
        for name in changed(part):
            value = getattr(part, name)
            found |= find_changed(value) if is_dataclass(value) else {name}
    return found


def declared(part: type[Any]) -> Mapping[str, FieldInfo]:
    """Return how each setting of a part is declared."""
    return part.model_fields if issubclass(part, BaseModel) else _declared_in_dataclass(part)  # type: ignore[arg-type]


@cache
def _declared_in_dataclass(part: type[Any]) -> dict[str, FieldInfo]:
    hints = get_type_hints(part, include_extras=True)
    return {one.name: FieldInfo.from_annotated_attribute(hints[one.name], _default(one)) for one in fields(part)}


def _default(field: Field[Any]) -> Any:  # noqa: ANN401 - of the field's type
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def _list_options(model: type[BaseModel]) -> dict[str, Option]:
    found: dict[str, Option] = {}
    for option in _walk(model, ()):
        known = found.get(option.name)
        found[option.name] = replace(known, places=(*known.places, *option.places)) if known else option
    return found


def _walk(part: type[Any], above: tuple[str, ...]) -> Iterator[Option]:
    """Every setting below a part, once for each place where it stands."""
    for name, info in declared(part).items():
        place = (*above, name)
        if isinstance(info.annotation, type) and is_dataclass(info.annotation):
            yield from _walk(info.annotation, place)
        else:
            [owner] = [one for one in part.__mro__ if name in vars(one).get("__annotations__", {})][:1]
            [setting] = [one for one in info.metadata if isinstance(one, Setting)] or [Setting()]
            yield Option(name, info, getattr(owner, "panel", None), setting, (place,))


def _put(nested: dict[str, Any], place: tuple[str, ...], value: object) -> None:
    *parts, last = place
    for part in parts:
        inner = nested.get(part, {})
        if is_dataclass(inner):
            inner = {one.name: getattr(inner, one.name) for one in fields(inner)}
        nested[part] = dict(inner) if isinstance(inner, Mapping) else {}
        nested = nested[part]
    nested[last] = value
