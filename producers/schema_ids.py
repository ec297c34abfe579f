"""Looking up the ids under which the registry holds our schemas. Never registers: that is provisioning's."""

from typing import Protocol

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from producers.errors import SchemaUnavailable
from schemas.contracts import contract
from schemas.topics import Topic, subject

LOOKUP_TIMEOUT_S = 2.0


class SchemaIds(Protocol):
    def lookup(self, topic: Topic, version: int | None = None) -> int:
        """The id of a version of the schema of `topic`'s record, the newest where none is named.

        Raises SchemaUnavailable.
        """
        ...

    def close(self) -> None:
        """Let go of connections. Closing again does nothing."""
        ...


class RegistrySchemaIds:
    """Asks a Confluent-compatible registry, at `url`, under the subjects of the topics with `prefix`."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": LOOKUP_TIMEOUT_S, "max.retries": 0})
        self._prefix = prefix

    def lookup(self, topic: Topic, version: int | None = None) -> int:
        assert topic.record is not None, "only topics of records have schemas"
        name, versions = subject(self._prefix, topic), contract(topic.record).versions
        text = versions[-1 if version is None else version - 1].text
        try:
            found = self._client.lookup_schema(name, Schema(text, "AVRO"))
        except SchemaRegistryError as error:
            message = f"the registry answers {error.error_message}; `tailrace schemas register` registers it"
            raise SchemaUnavailable(name, message, registered=False) from error
        except Exception as error:  # the client lets through whatever its HTTP library raises
            raise SchemaUnavailable(name, f"the registry does not answer: {error}", registered=None) from error
        assert found.schema_id is not None, "a registered schema has an id"
        return found.schema_id

    def close(self) -> None:
        self._client.close()
