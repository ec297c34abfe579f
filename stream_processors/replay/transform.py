"""A Python function on decoded events, applied to what a run reads: loaded, known by the sum of its file, called on each.

The function takes an event (a dataclass of schemas.events) and returns one of the same type. One that raises, or returns anything
else, makes the record a dead letter of the run: every coordinate stays accounted for. It must depend on the event alone, or the
run would not give the same rows again; verification calls it once more on a sample and compares.
"""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from confluent_kafka import KafkaError
from fastavro.types import Schema

from schemas import events
from schemas.codec import Codec, parse_physical
from schemas.contracts import contract
from schemas.errors import DatumError
from stream_processors.replay.errors import ReplayRefused, WrongQuestion
from stream_processors.replay.manifest import Manifest, Transform
from stream_processors.warehouse.dead_letters import reject
from stream_processors.warehouse.records import Message, Rejection
from stream_processors.warehouse.splice import Group
from stream_processors.warehouse.writer_schemas import Misfit, Writer, WriterSchemas

Function = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A record with another value, at its coordinates. A `Message`."""

    original: Message
    framed: bytes

    def __len__(self) -> int:
        return len(self.framed)

    def topic(self) -> str:
        return self.original.topic()

    def partition(self) -> int:
        return self.original.partition()

    def offset(self) -> int:
        return self.original.offset()

    def timestamp(self) -> tuple[int, int]:
        return self.original.timestamp()

    def key(self) -> bytes | None:
        return self.original.key()

    def value(self) -> bytes | None:
        return self.framed

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.original.headers()

    def error(self) -> KafkaError | None:
        return None


def find(named: str) -> tuple[Function, Transform]:
    """The function that `module:function` names, looked for in the working directory too. Raises WrongQuestion."""
    module_name, _, name = named.partition(":")
    if not module_name or not name:
        raise WrongQuestion(f"--transform {named!r} is not module:function")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the person's own module raises when it is imported
        raise WrongQuestion(f"--transform: {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise WrongQuestion(f"--transform: {module_name} has no function {name}")
    source = inspect.getsourcefile(module)
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    return cast("Function", function), Transform(named, digest)


def found_again(planned: Transform) -> Function:
    """The function of a manifest. Raises ReplayRefused where its file is not the one that was planned with."""
    function, now = find(planned.function)
    if now != planned:
        raise ReplayRefused(f"{planned.function} has changed since the run was planned: plan it again")
    return function


class Transformation:
    """Applies a function to records of one type, which are encoded again under the newest schema."""

    def __init__(self, function: Function, record: str, schemas: WriterSchemas, newest_id: int) -> None:
        self._function, self._record, self._schemas, self._newest_id = function, record, schemas, newest_id
        self._type = getattr(events, record)
        self._codec: Codec[Any] = Codec(self._type)
        self._readable: dict[int, Schema] = {}

    def __call__(self, groups: list[Group]) -> tuple[list[Group], list[Rejection]]:
        """The groups as the function makes them, and what it could not make."""
        made, refused = [], []
        for group in groups:
            writer = self._schemas.of_record(group.schema_id, self._record)
            if isinstance(writer, Misfit):
                refused += [reject(message, group.schema_id, writer.reason, writer.error) for message in group.messages]
                continue
            messages, poison = self._apply(group.messages, writer)
            refused += poison
            if messages:
                made.append(Group(self._newest_id, messages))
        return made, refused

    def value(self, message: Message, writer: Writer) -> bytes:
        """The framed value that the function makes of a record. Raises DatumError where the record does not read.

        Raises whatever the function does, TypeError where it gives no event of its type.
        """
        event = self._codec.decode(message.value(), self._schema(writer))
        made = self._function(event)
        if not isinstance(made, self._type):
            raise TypeError(f"the function returned {type(made).__name__}, not {self._record}")
        return self._codec.encode(made, self._newest_id)

    def _apply(self, messages: Sequence[Message], writer: Writer) -> tuple[list[Message], list[Rejection]]:
        made: list[Message] = []
        refused = []
        for message in messages:
            try:
                made.append(Rewritten(message, self.value(message, writer)))
            except DatumError as error:
                refused.append(reject(message, writer.schema_id, "datum", str(error)))
            except Exception as error:  # noqa: BLE001 - whatever a person's function raises is said in the dead letter
                refused.append(reject(message, writer.schema_id, "transform", f"{type(error).__name__}: {error}"))
        return made, refused

    def _schema(self, writer: Writer) -> Schema:
        if writer.schema_id not in self._readable:
            schema = {"type": "record", "name": writer.record, "fields": list(writer.fields)}
            self._readable[writer.schema_id] = parse_physical(schema)
        return self._readable[writer.schema_id]


def transformation(manifest: Manifest, schemas: WriterSchemas) -> Transformation | None:
    """Raises ReplayRefused where the function is not what it was, or the newest schema is not registered."""
    if manifest.transform is None:
        return None
    function = found_again(manifest.transform)
    subject = f"{manifest.topic}-value"
    newest_id = schemas.id_of(subject, contract(manifest.record).newest.text)
    if newest_id is None:
        raise ReplayRefused(f"the registry lacks the newest {manifest.record} under {subject}: `tailrace up` registers it")
    return Transformation(function, manifest.record, schemas, newest_id)
