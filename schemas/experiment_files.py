"""Experiment definitions as plain values (of JSON or YAML): one object or a list, with the fields of ExperimentDefinition.

Times are microseconds since 1970 or ISO 8601 with a zone. Fields with a default may be left out, unknown ones are refused: a
mistyped name must not be read as an absent one. What a definition has to satisfy beyond its types: experiment_rules.py.

A wish is a definition as its owner writes it: what `experiments apply` fills in (UNFILLED) may be left out.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from schemas.errors import ContractError
from schemas.events import ExperimentDefinition, Micros
from schemas.experiment_history import broken_rules

UNFILLED: Mapping[str, Any] = types.MappingProxyType({"revision": 0, "changed_by": "", "changed_at": 0, "effective_at": 0})
"""What stands in a wish for what was left out: the next revision, whoever applies it, and at once."""


class ExperimentFileError(ContractError):
    """A file of experiments is wrong; `problems` has one sentence for each fault."""

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__("\n  ".join((f"{source}:", *problems)))
        self.problems = problems


def parse_experiments(text: str | bytes, source: str) -> tuple[ExperimentDefinition, ...]:
    """The definitions in `text`, which came from `source`. Raises ExperimentFileError that names every problem."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ExperimentFileError(source, (f"not JSON: {error}",)) from error
    found = read_definitions(document, source)
    if problems := broken_rules(found):
        raise ExperimentFileError(source, tuple(problems))
    return found


def read_definitions(document: object, source: str) -> tuple[ExperimentDefinition, ...]:
    """The definitions in `document` by their types alone: no rule is asked. Raises ExperimentFileError."""
    problems: list[str] = []
    values = document if isinstance(document, list) else [document]
    found = [_read(ExperimentDefinition, value, _name(value, place), problems) for place, value in enumerate(values)]
    if problems:
        raise ExperimentFileError(source, tuple(problems))
    return tuple(found)


def read_wishes(document: object, source: str) -> tuple[ExperimentDefinition, ...]:
    """The wishes in `document`, which came from `source`. Rules are asked when they are planned. Raises ExperimentFileError."""
    values = document if isinstance(document, list) else [document]
    return read_definitions([{**UNFILLED, **value} if isinstance(value, Mapping) else value for value in values], source)


def _name(value: Any, place: int) -> str:
    """How problems call a definition: by its id where it has one."""
    named = value.get("experiment_id") if isinstance(value, Mapping) else None
    return named if isinstance(named, str) and named else f"[{place}]"


def _read(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    """`value` as a `kind`, which is a field's type; where it is none, a problem, and None for want of better."""
    if kind is Micros:
        return _time(value, where, problems)
    kind = getattr(kind, "__supertype__", kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, where, problems)
    origin = typing.get_origin(kind)
    if origin in {types.UnionType, typing.Union}:  # a NewType's union is the older kind
        return None if value is None else _read(typing.get_args(kind)[0], value, where, problems)
    if origin is tuple:
        return _list(typing.get_args(kind)[0], value, where, problems)
    if origin is not None and issubclass(origin, Mapping):
        return _texts(value, where, problems)
    return _plain(kind, value, where, problems)


def _record(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{where}: should be an object")
        return None
    (hints, required), before = _fields_of(kind), len(problems)
    problems.extend(f"{where}.{name}: is not a field" for name in sorted(map(str, value.keys() - hints.keys())))
    problems.extend(f"{where}.{name}: is missing" for name in sorted(required - value.keys()))
    known = {name: _read(hints[name], item, f"{where}.{name}", problems) for name, item in value.items() if name in hints}
    return kind(**known) if len(problems) == before else None


@cache
def _fields_of(kind: type[Any]) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The types of its fields, and which of them have no default. A definition may hold a thousand ranges."""
    return typing.get_type_hints(kind), frozenset(field.name for field in dataclasses.fields(kind) if _is_required(field))


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _list(kind: Any, value: Any, where: str, problems: list[str]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        problems.append(f"{where}: should be a list")
        return ()
    return tuple(_read(kind, item, f"{where}[{place}]", problems) for place, item in enumerate(value))


def _texts(value: Any, where: str, problems: list[str]) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        problems.append(f"{where}: should be an object of texts")
        return {}
    return dict(value)


def _plain(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    if issubclass(kind, StrEnum):
        if value not in (allowed := [member.value for member in kind]):
            problems.append(f"{where}: {value!r} is not one of {', '.join(allowed)}")
            return None
        return kind(value)
    if type(value) is not kind:
        problems.append(f"{where}: should be {'a text' if kind is str else 'a whole number'}, not {value!r}")
    return value


def _time(value: Any, where: str, problems: list[str]) -> Micros:
    if type(value) is int:
        return Micros(value)
    moment = _moment(value)
    if moment is None:
        problems.append(f"{where}: {value!r} is neither microseconds since 1970 nor ISO 8601 with a zone")
        return Micros(0)
    return Micros(int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond)


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None
