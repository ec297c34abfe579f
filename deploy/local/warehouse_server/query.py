"""From an HTTP request's arguments to what the engine is to run. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.warehouse_server.config import READER, Limits
from deploy.local.warehouse_server.errors import (
    NOT_IMPLEMENTED,
    READONLY,
    SETTING_CONSTRAINT_VIOLATION,
    UNKNOWN_SETTING,
    refusal,
)

_TRANSPORT_NAMES = (
    "add_http_cors_header buffer_size cancel_http_readonly_queries_on_client_close client_protocol_version "
    "close_session compress database decompress default_format enable_http_compression "
    "http_headers_progress_interval_ms http_zlib_compression_level password query query_id quota_key role "
    "send_progress_in_http_headers session_check session_id session_timeout stacktrace user wait_end_of_query"
)
_TRANSPORT = frozenset(_TRANSPORT_NAMES.split())
"""URL arguments that the HTTP edge answers for itself; every other one is a setting of the query."""

LIMITING = {"max_execution_time": "execution_seconds", "max_memory_usage": "query_memory_bytes"}
"""Settings that hold a query within the server's limits, and the limit's name. The reader may only lower them."""

_UNIVERSAL = {"implicit_select": "0", "allow_introspection_functions": "0"}
"""Where the embedded engine's defaults are not those of ClickHouse's server."""

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Query:
    """What one request asks of the engine, its text apart."""

    user: str
    query_id: str
    database: str | None
    default_format: str
    base: Mapping[str, str]
    """What every connection begins with: the server's limits, and the defaults of ClickHouse's server."""
    settings: Mapping[str, str]
    """The settings of this request; they go before `base`."""
    parameters: Mapping[str, str]
    read_only: str | None
    """The level of `readonly` under which the engine runs it; None for what may write."""
    protocol_version: int
    """The client's client_protocol_version: it says how Native is to be written."""
    waits_for_end: bool
    compresses: bool
    session_id: str | None
    session_seconds: str
    session_must_exist: bool


def set_statement(settings: Mapping[str, str]) -> str:
    return "SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())


def quoted(value: str) -> str:
    """`value` as a string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quoted_identifier(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def query_of(
    user: str, method: str, headers: Mapping[str, str], arguments: Mapping[str, str], limits: Limits, query_id: str
) -> Query:
    """Raises ServerError for what this server cannot do, or this user may not ask."""
    for name in ("compress", "decompress"):
        if _on(arguments.get(name, "0")):
            raise refusal(
                NOT_IMPLEMENTED,
                f"{name}=1 is ClickHouse's native block compression, which this server does not speak: "
                "use Content-Encoding, and Accept-Encoding with enable_http_compression=1.",
            )
    given = {name: value for name, value in arguments.items() if name not in _TRANSPORT and not name.startswith("param_")}
    if unknown := [name for name in given if not _SETTING_NAME.fullmatch(name)]:
        raise refusal(UNKNOWN_SETTING, f"Unknown setting {unknown[0]!r}")
    if given.get("dialect", "clickhouse").lower() != "clickhouse":
        raise refusal(
            NOT_IMPLEMENTED,
            "The embedded warehouse does not do the setting dialect: statements are checked as ClickHouse's own SQL.",
        )
    if user == READER:
        for name, limit in LIMITING.items():
            _refuse_above(name, given.get(name), getattr(limits, limit))
    read_only = user == READER or method in {"GET", "HEAD"}
    return Query(
        user=user,
        query_id=query_id,
        database=arguments.get("database") or headers.get("x-clickhouse-database") or None,
        default_format=headers.get("x-clickhouse-format") or arguments.get("default_format") or "TabSeparated",
        base=_UNIVERSAL | {name: str(getattr(limits, limit)) for name, limit in LIMITING.items()},
        settings={"log_comment": query_id}
        | {name: value for name, value in given.items() if name != "readonly" or not read_only},
        parameters={name.removeprefix("param_"): value for name, value in arguments.items() if name.startswith("param_")},
        read_only=_read_only_level(given) if read_only else None,
        protocol_version=_whole_number(arguments.get("client_protocol_version", "0")),
        waits_for_end=_on(arguments.get("wait_end_of_query", "0")),
        compresses=_on(arguments.get("enable_http_compression", "0")),
        session_id=arguments.get("session_id") or None,
        session_seconds=arguments.get("session_timeout", "60"),
        session_must_exist=_on(arguments.get("session_check", "0")),
    )


def _refuse_above(name: str, value: str | None, ceiling: int) -> None:
    if value is None:
        return
    amount = float(value) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) else 0.0
    if not 0 < amount <= ceiling:
        raise refusal(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} shouldn't be greater than {ceiling}")


def _read_only_level(given: Mapping[str, str]) -> str:
    level = given.get("readonly", "2")
    if level not in {"1", "2"}:
        raise refusal(READONLY, "Cannot modify 'readonly' setting in readonly mode.")
    return level


def _whole_number(value: str) -> int:
    return int(value) if value.isdecimal() else 0


def _on(value: str) -> bool:
    return value.lower() in {"1", "true"}


def summary(figures: Mapping[str, int]) -> str:
    """The X-ClickHouse-Summary header: whole numbers, as strings."""
    return json.dumps({name: str(value) for name, value in figures.items()}, separators=(",", ":"))
