"""What was emitted, by event id, and how what the warehouse holds compares with it. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.events import EventId

UNKNOWN = "unknown"


class Stored(NamedTuple):
    """One row of the warehouse. `coordinates` name the Kafka record that it came from."""

    event_id: EventId
    coordinates: tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`sent` counts records; an event whose client tried again is one of `events` and several of `sent`.

    `duplicated` are rows beyond one for each record: the same coordinates twice, or more records of an event than were sent.
    `unknown` are rows of events that were never emitted.
    """

    events: int
    sent: int
    rows: int
    missing: int
    duplicated: int
    unknown: int

    @property
    def clean(self) -> bool:
        return not (self.missing or self.duplicated or self.unknown)


def compare_by_source(sent: Mapping[str, Mapping[EventId, int]], stored: Iterable[Stored]) -> dict[str, Comparison]:
    """`compare` for each source by its own ledger. Rows of no source's ledger stand under UNKNOWN, where there are any."""
    sources = {event: source for source, ledger in sent.items() for event in ledger}
    rows: dict[str, list[Stored]] = {source: [] for source in sent}
    for row in stored:
        rows.setdefault(sources.get(row.event_id, UNKNOWN), []).append(row)
    return {source: compare(sent.get(source, {}), found) for source, found in rows.items()}


def compare(sent: Mapping[EventId, int], stored: Iterable[Stored]) -> Comparison:
    """`sent` says of each event how many records it was emitted as."""
    rows = list(stored)
    records = set(rows)
    copies = Counter(record.event_id for record in records)
    surplus = sum(max(0, count - sent[event]) for event, count in copies.items() if event in sent)
    return Comparison(
        events=len(sent),
        sent=sum(sent.values()),
        rows=len(rows),
        missing=sum(max(0, count - copies[event]) for event, count in sent.items()),
        duplicated=len(rows) - len(records) + surplus,
        unknown=sum(count for event, count in copies.items() if event not in sent),
    )
