"""Which ClickHouse column takes which Avro type, and which Avro types the warehouse cannot take at all; and how a default of
Avro's is said as a DEFAULT expression.

Storage choices are not part of the answer: `LowCardinality(X)` takes whatever `X` takes.
"""

import json
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
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bytes": (str,),
    "fixed": (str,),
    "enum": (str,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "map": (dict,),
    "record": (dict,),
}
_CONTAINER_KINDS = ("array", "map", "record")
_ESCAPES = {"\\": r"\\", "'": r"\'"}
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


def default_expression(avro: Any, value: Any) -> str:
    """The default `value` of a field of the Avro type `avro`, as JSON has it, as SQL on one line.

    Raises ContractError where the value is none of that type.
    """
    if isinstance(avro, list):
        return _default_of_union(avro, value)
    if isinstance(avro, dict) and "logicalType" in avro:
        return _default_of_logical((avro["type"], avro["logicalType"]), value)
    kind = avro if isinstance(avro, str) else avro["type"]
    if type(value) not in _JSON_TYPES.get(kind, ()):
        raise ContractError(f"{json.dumps(value)} is no default of the type {kind!r}")
    if kind in _CONTAINER_KINDS:
        return _default_of_container(avro, value)
    return _default_of_scalar(kind, value)


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


def _default_of_scalar(kind: str, value: Any) -> str:
    match kind:
        case "string" | "enum":
            return _quoted(value)
        case "bytes" | "fixed":
            return f"unhex('{_default_bytes(value).hex()}')"
        case _:
            return json.dumps(value)


def _default_of_container(avro: dict[str, Any], value: Any) -> str:
    match avro["type"]:
        case "array":
            return f"[{', '.join(default_expression(avro['items'], each) for each in value)}]"
        case "map":
            pairs = (f"{_quoted(key)}, {default_expression(avro['values'], each)}" for key, each in value.items())
            return f"map({', '.join(pairs)})"
        case _:
            return f"tuple({', '.join(_default_of_element(field, value) for field in avro['fields'])})"


def _default_of_union(union: list[Any], value: Any) -> str:
    """Of the first branch, as Avro has it: the engine's Avro library refuses every record under a schema with another."""
    first, *_ = union
    if first != "null":
        return default_expression(first, value)
    if value is not None:
        raise ContractError(f"{json.dumps(value)} is no default of a union whose first branch is null")
    return "NULL"


def _default_of_logical(logical: tuple[str, str], value: Any) -> str:
    """A bare number in the place of a time would be read as seconds."""
    if type(value) not in _JSON_TYPES[logical[0]]:
        raise ContractError(f"{json.dumps(value)} is no default of the type {logical[1]!r}")
    match logical[1]:
        case "timestamp-micros":
            return f"fromUnixTimestamp64Micro({value}, 'UTC')"
        case "timestamp-millis":
            return f"fromUnixTimestamp64Milli({value}, 'UTC')"
        case "date":
            return f"addDays(toDate32('1970-01-01'), {value})"
        case _:
            return f"toUUID({_quoted(value)})"


def _default_of_element(field: dict[str, Any], value: dict[str, Any]) -> str:
    if field["name"] not in value and "default" not in field:
        raise ContractError(f"{json.dumps(value)} says nothing of {field['name']!r}")
    return default_expression(field["type"], value.get(field["name"], field.get("default")))


def _default_bytes(value: str) -> bytes:
    """Avro writes a default of bytes as text whose code points are the bytes."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ContractError(f"{json.dumps(value)} is no default of bytes: a code point is over 255") from error


def _quoted(text: str) -> str:
    return "'" + "".join(_ESCAPES.get(char, char if char.isprintable() else _escaped(char)) for char in text) + "'"


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
