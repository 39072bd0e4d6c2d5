"""A recipe: what a command does, as a YAML file, so that one command repeats it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from flip_reward.errors import DataError, MissingDependencyError, OptionError
from flip_reward.settings import FlatSettings, names_of

Recipe = TypeVar("Recipe", bound=BaseModel)


def read_recipe(path: Path, model: type[Recipe], overrides: Sequence[str] = (), *, extra: str) -> Recipe:
    """Read a recipe from a YAML file, and check it. An unknown key is named with the nearest known one.

    Overrides are "key=value" or "part.key=value", with values in YAML. `extra` is the extra of this package that
    brings PyYAML.
    """
    content = _load(path, extra)
    for override in overrides:
        _apply(override, content)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _explain(path, model, error) from error


def _load(path: Path, extra: str) -> dict[str, object]:
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{path} is not a recipe", hint="recipes are YAML files: their names end in .yaml")
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("PyYAML", extra=extra) from None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"the recipe {path} holds no keys and values")
    return content


def _apply(override: str, content: dict[str, object]) -> None:
    import yaml

    key, equals, text = override.partition("=")
    if not equals or not key:
        raise OptionError(f"{override!r} is not of the form key=value", hint="for example learning_rate=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OptionError(f"{override!r}: the value is not YAML") from error
    *parts, last = key.split(".")
    for part in parts:
        inner = content.setdefault(part, {})
        if not isinstance(inner, dict):
            raise OptionError(f"{key}: {part!r} has no keys of its own")
        content = inner
    content[last] = value


def _explain(path: Path, model: type[BaseModel], error: ValidationError) -> DataError:
    first = error.errors(include_url=False)[0]
    part, place = _part_at(model, first["loc"][:-1])
    last = str(first["loc"][-1]) if first["loc"] else ""
    where = ".".join(map(str, (*place, last) if last else place))
    if first["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        reason = "Input should have keys of its own" if first["type"] == "model_type" else first["msg"]
        return DataError(f"the recipe {path}{', ' if where else ''}{where}: {reason.removeprefix('Value error, ')}")
    known = names_of(part)
    below = [f"{name}.{last}" for name in known if last in _settings_below(part, name)]
    near = below or get_close_matches(last, known, n=1)
    return DataError(
        f"the recipe {path}: unknown key {where!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        hint=f"keys are {', '.join(known)}",
    )


def _settings_below(part: type[BaseModel], name: str) -> Sequence[str]:
    """The flat names of the settings in a key of a part; none where it holds no settings."""
    field = part.model_fields.get(name)
    models = [] if field is None else list(_models_in(field.annotation))
    return [setting for model in models if issubclass(model, FlatSettings) for setting in names_of(model)]


def _part_at(model: type[BaseModel], path: Sequence[int | str]) -> tuple[type[BaseModel], list[int | str]]:
    """The part of a recipe that a path inside it names, and the path as a user writes it.

    Numbers count the items of a list, and settings are given by flat names.
    """
    place: list[int | str] = []
    for key in path:
        if issubclass(model, FlatSettings):
            break
        place.append(key)
        if isinstance(key, str) and key in model.model_fields:
            model = next(_models_in(model.model_fields[key].annotation), model)
    return model, place


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
