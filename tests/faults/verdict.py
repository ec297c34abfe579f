"""What the ledger says against what the warehouse has. Pure.

Base tables are judged as they are, without FINAL: a copy counts even where the tables' second line would heal it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from tests.faults.ledger import Coordinates, Entry, Fate, Ledger


@dataclass(frozen=True, slots=True)
class Gap:
    """A row of `ingest_gaps`: [first, end), to the partition's end where `end` is None."""

    topic_id: str
    partition: int
    reason: str
    first: int
    end: int | None

    def covers(self, where: Coordinates) -> bool:
        same = (where.topic_id, where.partition) == (self.topic_id, self.partition)
        return same and self.first <= where.offset and (self.end is None or where.offset < self.end)


@dataclass(frozen=True, slots=True)
class Found:
    """The warehouse's content, in the order of the tables' names."""

    rows: Mapping[str, list[tuple[Coordinates, int]]]
    """By table, without FINAL: coordinates and event number."""
    final: Mapping[str, int]
    """By table, how many rows FINAL leaves; `dead_letters` among them."""
    once: Mapping[str, list[int]]
    """By table, the event numbers that its view for analysis gives."""
    letters: list[tuple[Coordinates, int]]
    """Without FINAL: coordinates, and the CRC-32 of the value."""
    gaps: list[Gap] = field(default_factory=list)
    exposed_requests: int | None = None
    """The exposures' sum; None where no recommendations were written."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of what is wrong; `examples` name a few. All zero is what must be shown."""

    lost: int = 0
    duplicated: int = 0
    """Surplus copies in base tables, dead letters not counted."""
    strange: int = 0
    """Coordinates that nobody acknowledged, that were aborted, that are in the wrong table, or that hold another event."""
    letters_lost: int = 0
    letters_duplicated: int = 0
    unhealed: int = 0
    """Copies that even FINAL leaves."""
    view_lost: int = 0
    view_duplicated: int = 0
    view_strange: int = 0
    unrecorded: int = 0
    """Gone from Kafka before they were in, and in no gap."""
    overstated: int = 0
    """Said to be missing by a gap, and in."""
    examples: tuple[str, ...] = ()

    @property
    def flawless(self) -> bool:
        return not any(value for name, value in asdict(self).items() if name != "examples")


EXAMPLES_MAX = 12


def judge(ledger: Ledger, found: Found) -> Verdict:
    entries, gone = ledger.entries, ledger.gone
    rows = Counter(where for table in found.rows.values() for where, _ in table)
    letters = Counter(where for where, _ in found.letters)
    wanted_rows, wanted_letters = _wanted(entries, Fate.ROW), _wanted(entries, Fate.LETTER)
    absent = [where for where in wanted_rows if where not in rows]
    absent_letters = [where for where in wanted_letters if where not in letters]
    lost = [where for where in absent if where not in gone]
    letters_lost = [where for where in absent_letters if where not in gone]
    vanished = [where for where in (*absent, *absent_letters) if where in gone]
    unrecorded = [where for where in vanished if not any(gap.covers(where) for gap in found.gaps)]
    overstated = [where for where in (*rows, *letters) if any(gap.covers(where) for gap in found.gaps)]
    strange = [*_strange_rows(entries, found.rows), *_strange_letters(entries, found.letters)]
    views = _judge_views(entries, rows, found)
    return Verdict(
        lost=len(lost),
        duplicated=rows.total() - len(rows),
        strange=len(strange),
        letters_lost=len(letters_lost),
        letters_duplicated=letters.total() - len(letters),
        unhealed=max(0, sum(found.final.values()) - len(rows) - len(letters)),
        view_lost=views.lost,
        view_duplicated=views.duplicated,
        view_strange=views.strange,
        unrecorded=len(unrecorded),
        overstated=len(overstated),
        examples=(
            *_examples("lost", lost),
            *_examples("twice", [where for where, count in rows.items() if count > 1]),
            *_examples("strange", strange),
            *_examples("letter lost", letters_lost),
            *_examples("letter twice", [where for where, count in letters.items() if count > 1]),
            *_examples("unrecorded", unrecorded),
            *_examples("in, but in a gap", overstated),
        )[:EXAMPLES_MAX],
    )


@dataclass(frozen=True, slots=True)
class _Views:
    lost: int
    duplicated: int
    strange: int


def _judge_views(entries: Mapping[Coordinates, Entry], rows: Mapping[Coordinates, int], found: Found) -> _Views:
    """Every event that must be in, or that is in although Kafka has let go of it, once."""
    lost = duplicated = strange = 0
    for table, numbers in found.once.items():
        own = {where: entry for where, entry in entries.items() if entry.table == table and entry.fate is Fate.ROW}
        wanted = {entry.number for where, entry in own.items() if where in rows}
        counts = Counter(numbers)
        lost += len(wanted - counts.keys())
        duplicated += counts.total() - len(counts)
        strange += len(counts.keys() - wanted)
    if found.exposed_requests is not None:
        surplus = found.exposed_requests - len(set(found.once["recommendations"]))
        lost, duplicated = lost + max(0, -surplus), duplicated + max(0, surplus)
    return _Views(lost, duplicated, strange)


def _wanted(entries: Mapping[Coordinates, Entry], fate: Fate) -> list[Coordinates]:
    return [where for where, entry in entries.items() if entry.fate is fate]


def _strange_rows(entries: Mapping[Coordinates, Entry], rows: Mapping[str, list[tuple[Coordinates, int]]]) -> list[Coordinates]:
    return [
        where
        for table, content in rows.items()
        for where, number in content
        if not _is(entries.get(where), Fate.ROW, number) or entries[where].table != table
    ]


def _strange_letters(entries: Mapping[Coordinates, Entry], letters: Iterable[tuple[Coordinates, int]]) -> list[Coordinates]:
    return [where for where, checksum in letters if not _is(entries.get(where), Fate.LETTER, checksum)]


def _is(entry: Entry | None, fate: Fate, number: int) -> bool:
    return entry is not None and entry.fate is fate and entry.number == number


def _examples(word: str, places: list[Coordinates]) -> list[str]:
    return [f"{word}: {where.topic_id}[{where.partition}]@{where.offset}" for where in sorted(places)[:3]]
