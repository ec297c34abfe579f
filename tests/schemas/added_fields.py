"""Fields that a new version of a contract may add: one of every Avro type that the warehouse takes, and defaults that are no
type's zero.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from schemas.contracts import AVRO_DIRECTORY

RECORD = {
    "type": "record",
    "name": "Tag",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "weight", "type": ["null", "double"], "default": None},
        {"name": "codes", "type": {"type": "array", "items": "int"}, "default": [7]},
    ],
}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}

ADDED: dict[str, tuple[Any, Any]] = {
    "a_string": ("string", 'it\'s a \\ "web";\nor\ttwo, ü'),
    "a_separator": ("string", "a,"),
    "an_empty_string": ("string", ""),
    "a_bytes": ("bytes", "\u0000\u00ff'\n"),
    "an_int": ("int", -5),
    "a_long": ("long", 2**63 - 1),
    "a_low_long": ("long", -(2**63)),
    "a_float": ("float", 0.5),
    "a_double": ("double", 1e300),
    "a_whole_double": ("double", 3),
    "a_yes": ("boolean", True),
    "a_no": ("boolean", False),
    "an_enum": ({"type": "enum", "name": "Channel", "symbols": ["WEB", "TEL"]}, "TEL"),
    "a_fixed": ({"type": "fixed", "name": "Two", "size": 2}, "\u0001\u00fe"),
    "a_uuid": ({"type": "string", "logicalType": "uuid"}, "018f0000-0000-7000-8000-0000000000aa"),
    "a_micros": (MICROS, 1_700_000_000_123_456),
    "an_early_micros": (MICROS, -1),
    "a_millis": ({"type": "long", "logicalType": "timestamp-millis"}, 1_700_000_000_123),
    "a_date": ({"type": "int", "logicalType": "date"}, 19_000),
    "an_early_date": ({"type": "int", "logicalType": "date"}, -400),
    "a_null": (["null", "string"], None),
    "a_null_time": (["null", MICROS], None),
    "a_some": (["string", "null"], "some"),
    "a_some_time": ([MICROS, "null"], 1_700_000_000_000_001),
    "an_array": ({"type": "array", "items": "string"}, ["x", "y'"]),
    "an_empty_array": ({"type": "array", "items": "long"}, []),
    "an_array_with_null": ({"type": "array", "items": ["null", "int"]}, [None, None]),
    "an_array_of_some": ({"type": "array", "items": ["int", "null"]}, [4]),
    "a_map": ({"type": "map", "values": "long"}, {"k": 1, "l'": 2}),
    "an_empty_map": ({"type": "map", "values": "string"}, {}),
    "some_records": ({"type": "array", "items": RECORD}, [{"name": "t", "weight": None, "codes": [1, 2]}]),
}
"""By name: type and default."""


def schema_with(record: str, fields: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """The first version of `record` and `fields`, each with its default."""
    schema: dict[str, Any] = json.loads((AVRO_DIRECTORY / f"{record}.v1.avsc").read_text())
    schema["fields"] += [{"name": name, "type": kind, "default": default} for name, (kind, default) in fields.items()]
    return schema


def contracts_with(directory: Path, record: str, fields: dict[str, tuple[Any, Any]]) -> Path:
    """A copy of the contracts in which `record` has a second version with `fields`."""
    avro = directory / "avro"
    shutil.copytree(AVRO_DIRECTORY, avro)
    (avro / f"{record}.v2.avsc").write_text(json.dumps(schema_with(record, fields)))
    return avro
