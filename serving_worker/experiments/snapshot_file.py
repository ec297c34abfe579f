"""The host's copy of the experiments: what its follower writes and every worker reads. Pure, but for the file itself.

The first line is a SHA-256 and the head that it is of: the format, a sequence that grows with every copy whatever the clock does,
when the follower knew itself at the topic's end (`as_of`), and the SHA-256 of the rest. The rest is JSON: the revisions, and the
records of the topic that are none. So no byte can change unnoticed. An idle follower only moves `as_of` on, so a reader that
knows the sum of the rest need not decode it again.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from producers.experiment_log import Refused
from schemas.errors import ContractError
from schemas.events import ExperimentDefinition, Micros
from serving_worker.experiments.durable_file import replace_file

FORMAT = 1


class SnapshotFileError(ContractError):
    """The file is torn, changed, or of another format."""


class Head(msgspec.Struct, frozen=True):
    format: int
    sequence: int
    as_of: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Contents:
    """`left_out`: refused records, older than those in `refused`, that there was no room for."""

    revisions: tuple[ExperimentDefinition, ...] = ()
    refused: tuple[Refused, ...] = ()
    left_out: int = 0


def encode_body(contents: Contents) -> bytes:
    return msgspec.json.encode(contents)


def write(path: Path, sequence: int, as_of: Micros, body: bytes) -> None:
    """Raises OSError."""
    head = msgspec.json.encode(Head(FORMAT, sequence, as_of, _sum_of(body)))
    replace_file(path, b"%s %s\n%s" % (_sum_of(head).encode(), head, body))


def split(text: bytes) -> tuple[Head, bytes]:
    """The head and the body, as they were written. Raises SnapshotFileError."""
    first, _, body = text.partition(b"\n")
    told, _, written = first.partition(b" ")
    if _sum_of(written).encode() != told:
        raise SnapshotFileError("its head is not one that was written")
    try:
        head = msgspec.json.decode(written, type=Head)
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotFileError(f"its head is wrong: {error}") from error
    if head.format != FORMAT:
        raise SnapshotFileError(f"its format is {head.format}, and {FORMAT} is read here")
    if _sum_of(body) != head.sha256:
        raise SnapshotFileError("its contents are not those that were written")
    return head, body


def decode_body(body: bytes) -> Contents:
    """Raises SnapshotFileError. Types are looked at, in compiled code: every worker decodes while it serves. The rules are the
    follower's affair: what it has taken in is served, under newer rules too.
    """
    try:
        return msgspec.json.decode(body, type=Contents)
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotFileError(f"it is none of ours: {error}") from error


def _sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
