"""The schemas under which records were written, by the ids in their frames. Each is asked for once."""

import json
from typing import Protocol

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro.types import Schema

from producers.errors import SchemaUnavailable
from producers.schema_ids import LOOKUP_TIMEOUT_S
from schemas.codec import parse_physical
from schemas.errors import DatumError

NOT_FOUND = 404


class WriterSchemas(Protocol):
    def schema(self, schema_id: int) -> Schema:
        """As `parse_physical` gives it.

        Raises SchemaUnavailable where the registry does not answer, DatumError where it has no such schema.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class RegistryWriterSchemas:
    """Asks a Confluent-compatible registry at `url`."""

    def __init__(self, url: str) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": LOOKUP_TIMEOUT_S, "max.retries": 0})
        self._parsed: dict[int, Schema] = {}

    def schema(self, schema_id: int) -> Schema:
        if schema_id not in self._parsed:
            self._parsed[schema_id] = parse_physical(json.loads(self._text(schema_id)))
        return self._parsed[schema_id]

    def close(self) -> None:
        self._client.close()

    def _text(self, schema_id: int) -> str:
        try:
            return self._client.get_schema(schema_id).schema_str or ""
        except SchemaRegistryError as error:
            if error.http_status_code == NOT_FOUND:
                raise DatumError(f"the registry has no schema {schema_id}") from error
            raise SchemaUnavailable(
                f"schema {schema_id}", f"the registry answers {error.error_message}", registered=None
            ) from error
        except Exception as error:  # the client lets through whatever its HTTP library raises
            raise SchemaUnavailable(f"schema {schema_id}", f"the registry does not answer: {error}", registered=None) from error
