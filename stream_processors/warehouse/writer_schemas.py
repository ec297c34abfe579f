"""What a schema id stands for: the registry's edge, and what the warehouse makes of the answer.

Ids never change their meaning, so an answer is kept for the life of the process. An id that the registry does not know is asked
for again with the next batch.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from schemas.contracts import AvroSchema
from schemas.envelope import FIELD
from schemas.environment import public_address
from schemas.errors import ContractError, PartUnreachable
from stream_processors.warehouse.datum import DatumEnd, check_of
from stream_processors.warehouse.errors import RegistryTrouble
from stream_processors.warehouse.splice import container_header

ANSWER_TIMEOUT_S = 10
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Writer:
    """A writer schema, made ready for splicing and for looking at data. `columns` starts with the envelope."""

    schema_id: int
    record: str
    columns: tuple[str, ...]
    header: bytes
    datum_end: DatumEnd
    fields: tuple[AvroSchema, ...]


class Misfit(NamedTuple):
    """Why a schema id does not stand for what its topic holds, as dead letters say it."""

    reason: str
    error: str


def make_writer(schema_id: int, schema: AvroSchema) -> Writer:
    columns = (FIELD, *(field["name"] for field in schema["fields"]))
    return Writer(schema_id, schema["name"], columns, container_header(schema), _datum_end(schema), tuple(schema["fields"]))


def _datum_end(schema: AvroSchema) -> DatumEnd:
    """A schema that has passed no gate may hold what no column takes: then nothing is known of its data, and the engine says."""
    try:
        return check_of(schema)
    except ContractError:
        return len


class WriterSchemas:
    """Writers by schema id."""

    def __init__(self, registry_url: str) -> None:
        self._client = SchemaRegistryClient({"url": registry_url, "timeout": ANSWER_TIMEOUT_S, "max.retries": 0})
        self._writers: dict[int, Writer | None] = {}
        self._refuse_absence(registry_url)

    def get(self, schema_id: int) -> Writer | None:
        """The writer of `schema_id`, None where the registry knows no Avro record under that id.

        Raises RegistryTrouble where it gives no answer.
        """
        writer = self._writers.get(schema_id)
        if writer is None:
            text = self._text(schema_id)
            writer = None if text is None else _parse(schema_id, text)
            self._writers[schema_id] = writer
        return writer

    def id_of(self, subject: str, schema: str) -> int | None:
        """The id under which `subject` has this very schema, None where it has not. Raises RegistryTrouble."""
        try:
            found: int | None = self._client.lookup_schema(subject, Schema(schema, "AVRO")).schema_id
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise RegistryTrouble(f"the registry answered {error}") from error
        except Exception as error:  # whatever the client's HTTP library raises when there is no answer
            raise RegistryTrouble(f"the registry gave no answer: {error}") from error
        return found

    def ids_of(self, subject: str) -> tuple[int, ...]:
        """The ids of all versions of `subject`, the oldest first. Raises RegistryTrouble."""
        try:
            versions = self._client.get_versions(subject)
            found = [self._client.get_version(subject, number).schema_id for number in versions]
        except Exception as error:  # an answer that is an error, or whatever the client's HTTP library raises
            raise RegistryTrouble(f"the registry says nothing of {subject}: {error}") from error
        return tuple([schema_id for schema_id in found if schema_id is not None])

    def of_record(self, schema_id: int, record: str) -> "Writer | Misfit":
        """The writer of `schema_id`, where it writes `record`s. Raises RegistryTrouble."""
        writer = self.get(schema_id)
        if writer is None:
            return Misfit("unknown_schema", f"the registry knows no Avro record under the id {schema_id}")
        if writer.record != record:
            return Misfit("wrong_type", f"a {writer.record}, in a topic of {record}")
        return writer

    def close(self) -> None:
        self._client.close()

    def _refuse_absence(self, registry_url: str) -> None:
        """Ask the registry something small. Raises PartUnreachable; its URL may hold a password, and is not shown whole."""
        try:
            self._client.get_compatibility()
        except Exception as error:  # whatever the client's HTTP library raises when there is no answer
            self._client.close()
            remedy = f"`tailrace up` starts one, TAILRACE_REGISTRY_URL names another ({error})"
            raise PartUnreachable("the schema registry", public_address(registry_url), remedy) from error

    def _text(self, schema_id: int) -> str | None:
        try:
            schema = self._client.get_schema(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise RegistryTrouble(f"the registry answered {error}") from error
        except Exception as error:  # whatever the client's HTTP library raises when there is no answer
            raise RegistryTrouble(f"the registry gave no answer: {error}") from error
        return schema.schema_str if schema.schema_type == "AVRO" else None


def _parse(schema_id: int, text: str) -> Writer | None:
    schema = json.loads(text)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return None
    return make_writer(schema_id, schema)
