"""Records that are random in every field, built from the dataclasses themselves."""

import dataclasses
import typing
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Any

from hypothesis import strategies as st

from schemas import events

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)

_INT32_FIELDS = {"revision", "bucket", "position", "candidate_count", "first", "end", "weight"}
_UUID_FIELDS = {"event_id", "producer_id", "alert_id"}


def records(record_type: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(record_type)
    fields = {field.name: _values(field.name, hints[field.name]) for field in dataclasses.fields(record_type)}
    return st.builds(record_type, **fields)


def _values(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name in _UUID_FIELDS:
        return st.uuids().map(str)
    while isinstance(kind, typing.NewType):
        kind = kind.__supertype__
    if isinstance(kind, UnionType) or typing.get_origin(kind) is typing.Union:
        return st.one_of(*(_values(name, branch) for branch in typing.get_args(kind)))
    return _plain(name, kind)


def _plain(name: str, kind: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return st.lists(_values(name, arguments[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXT, _values(name, arguments[1]), max_size=3)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return records(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if kind is int:
        return INT32 if name in _INT32_FIELDS else INT64
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        float: DOUBLES,
        bool: st.booleans(),
        bytes: st.binary(max_size=20),
        type(None): st.none(),
    }
    return simple[kind]


EVENT_TYPES: tuple[type[Any], ...] = (
    events.RecommendationServed,
    events.Interaction,
    events.ShadowRanking,
    events.ExperimentDefinition,
    events.ProducerCheckpoint,
    events.Alert,
    events.DeadLetter,
)
