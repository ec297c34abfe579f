"""Which ClickHouse column takes which Avro type, and which Avro types the warehouse cannot take at all.

Storage choices are not part of the answer: `LowCardinality(X)` takes whatever `X` takes.
"""

import re
from typing import Any

from schemas.errors import ContractError

_PRIMITIVES = {
    "string": "String",
    "bytes": "String",
    "int": "Int32",
    "long": "Int64",
    "float": "Float32",
    "double": "Float64",
    "boolean": "Bool",
}
_LOGICAL = {
    ("string", "uuid"): "UUID",
    ("long", "timestamp-micros"): "DateTime64(6, 'UTC')",
    ("long", "timestamp-millis"): "DateTime64(3, 'UTC')",
    ("int", "date"): "Date32",
}
_CONTAINERS = ("Array(", "Map(", "Tuple(")
_LOW_CARDINALITY = re.compile(r"LowCardinality\(((?:[^()]|\([^()]*\))*)\)")


def column_type(avro: Any) -> str:
    """The ClickHouse type of an Avro type.

    Raises ContractError for what the engine's Avro reader cannot take: unions of more than null and one type, nullable arrays,
    maps and records, recursive and bare record types, logical types other than uuid, date and the timestamps.
    """
    if isinstance(avro, list):
        return _nullable(avro)
    if isinstance(avro, str):
        return _primitive(avro)
    return _complex(avro)


def same_column(declared: str, wanted: str) -> bool:
    """Whether a column declared as `declared` holds what `wanted` says, storage choices left aside."""
    return plain_type(declared) == plain_type(wanted)


def plain_type(clickhouse: str) -> str:
    """A ClickHouse type without LowCardinality and white space."""
    while (plain := _LOW_CARDINALITY.sub(r"\1", clickhouse)) != clickhouse:
        clickhouse = plain
    return re.sub(r"\s*([(),])\s*", r"\1", clickhouse)


def _nullable(union: list[Any]) -> str:
    others = [branch for branch in union if branch != "null"]
    if len(union) != 2 or len(others) != 1:
        raise ContractError(f"the union {union} is not null and one type")
    inner = column_type(others[0])
    if inner.startswith(_CONTAINERS):
        raise ContractError(f"{inner} cannot be nullable")
    return f"Nullable({inner})"


def _primitive(name: str) -> str:
    if name not in _PRIMITIVES:
        raise ContractError(f"the type {name!r} is not a primitive: named references and recursion are not taken")
    return _PRIMITIVES[name]


def _complex(avro: dict[str, Any]) -> str:
    kind = avro["type"]
    if "logicalType" in avro:
        return _logical(kind, avro["logicalType"])
    match kind:
        case "array":
            return f"Array({_item(avro['items'])})"
        case "map":
            return f"Map(String, {column_type(avro['values'])})"
        case "fixed":
            return f"FixedString({avro['size']})"
        case "enum":
            return "LowCardinality(String)"
        case "record":
            raise ContractError(f"the record {avro['name']!r} stands outside an array")
        case _:
            return column_type(kind)


def _logical(kind: str, logical: str) -> str:
    if (kind, logical) not in _LOGICAL:
        raise ContractError(f"the logical type {logical!r} on {kind!r} is not taken")
    return _LOGICAL[kind, logical]


def _item(items: Any) -> str:
    if isinstance(items, dict) and items["type"] == "record":
        return f"Tuple({', '.join(_element(field) for field in items['fields'])})"
    return column_type(items)


def _element(field: dict[str, Any]) -> str:
    return f"{field['name']} {column_type(field['type'])}"
