"""A request as multipart/form-data: arguments too long for a URL, and external tables. Pure.

clickhouse-connect sends bound parameters so where they are long. An external table is a file of rows beside the query, which the
URL arguments `<name>_format` and `<name>_structure` (or `<name>_types`) describe; it is a temporary table for the one request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

from deploy.local.warehouse_server.errors import BAD_ARGUMENTS, refusal


@dataclass(frozen=True, slots=True)
class ExternalTable:
    name: str
    structure: str
    format: str
    rows: bytes


@dataclass(frozen=True, slots=True)
class Form:
    arguments: Mapping[str, str]
    """The URL's arguments and the form's fields, without those that describe external tables."""
    tables: tuple[ExternalTable, ...]


def is_form(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def form(content_type: str, body: bytes, arguments: Mapping[str, str]) -> Form:
    """Raises ServerError 36 where a part has no name, or a table no structure."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields, files = dict(arguments), {}
    for part in message.get_payload():
        assert isinstance(part, Message), "the parts of a multipart message are messages"
        name, content = _named(part)
        if part.get_filename() is None:
            fields[name] = content.decode()
        else:
            files[name] = content
    tables = tuple(_table(name, rows, fields) for name, rows in files.items())
    return Form(fields, tables)


def _named(part: Message) -> tuple[str, bytes]:
    name = part.get_param("name", header="content-disposition")
    content = part.get_payload(decode=True)
    if not isinstance(name, str) or not isinstance(content, bytes):
        raise refusal(BAD_ARGUMENTS, "A part of the form has no name.")
    return name, content


def table_definition(table: ExternalTable) -> bytes:
    """The table as SQL, for the same checks that every statement goes through."""
    return f"CREATE TEMPORARY TABLE t ({table.structure}) FORMAT {table.format}".encode()


def _table(name: str, rows: bytes, fields: dict[str, str]) -> ExternalTable:
    types = fields.pop(f"{name}_types", "")
    numbered = ", ".join(f"_{index} {one.strip()}" for index, one in enumerate(types.split(","), 1)) if types else ""
    structure = fields.pop(f"{name}_structure", "") or numbered
    if not structure:
        raise refusal(BAD_ARGUMENTS, f"The external table {name} has neither {name}_structure nor {name}_types.")
    format_name = fields.pop(f"{name}_format", "TabSeparated")
    if not format_name.isalnum():
        raise refusal(BAD_ARGUMENTS, f"The external table {name} has no format that is a name.")
    return ExternalTable(name, structure, format_name, rows)
