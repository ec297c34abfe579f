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
    entries, gone, due = ledger.entries, ledger.gone, _due_rows(ledger)
    rows = Counter(where for table in found.rows.values() for where, _ in table)
    letters = Counter(where for where, _ in found.letters)
    absent = [where for where in due if where not in rows]
    absent_letters = [where for where, entry in entries.items() if entry.fate is Fate.LETTER and where not in letters]
    lost = [where for where in absent if where not in gone]
    letters_lost = [where for where in absent_letters if where not in gone]
    vanished = [where for where in (*absent, *absent_letters) if where in gone]
    unrecorded = [where for where in vanished if not any(gap.covers(where) for gap in found.gaps)]
    overstated = [where for where in (*rows, *letters) if any(gap.covers(where) for gap in found.gaps)]
    strange = [*_strange_rows(due, found.rows), *_strange_letters(entries, found.letters)]
    views = _judge_views(due, rows, found)
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
            *_examples(entries, "lost", lost),
            *_examples(entries, "twice", [where for where, count in rows.items() if count > 1]),
            *_examples(entries, "strange", strange),
            *_examples(entries, "letter lost", letters_lost),
            *_examples(entries, "letter twice", [where for where, count in letters.items() if count > 1]),
            *_examples(entries, "unrecorded", unrecorded),
            *_examples(entries, "in, but in a gap", overstated),
        )[:EXAMPLES_MAX],
    )


@dataclass(frozen=True, slots=True)
class _Views:
    lost: int
    duplicated: int
    strange: int


def _due_rows(ledger: Ledger) -> dict[Coordinates, tuple[str, int]]:
    """By coordinates: the table, and the number of the event, of every record that is to be a row."""
    rows = {where: (entry.table, entry.number) for where, entry in ledger.entries.items() if entry.fate is Fate.ROW}
    return rows | {where: (sound.table, sound.number) for where, sound in ledger.repaired.items()}


def _judge_views(due: Mapping[Coordinates, tuple[str, int]], rows: Mapping[Coordinates, int], found: Found) -> _Views:
    """Every event that must be in, or that is in although Kafka has let go of it, once."""
    lost = duplicated = strange = 0
    for table, numbers in found.once.items():
        wanted = {number for where, (own, number) in due.items() if own == table and where in rows}
        counts = Counter(numbers)
        lost += len(wanted - counts.keys())
        duplicated += counts.total() - len(counts)
        strange += len(counts.keys() - wanted)
    if found.exposed_requests is not None:
        surplus = found.exposed_requests - len(set(found.once["recommendations"]))
        lost, duplicated = lost + max(0, -surplus), duplicated + max(0, surplus)
    return _Views(lost, duplicated, strange)


def _strange_rows(
    due: Mapping[Coordinates, tuple[str, int]], rows: Mapping[str, list[tuple[Coordinates, int]]]
) -> list[Coordinates]:
    return [where for table, content in rows.items() for where, number in content if due.get(where) != (table, number)]


def _strange_letters(entries: Mapping[Coordinates, Entry], letters: Iterable[tuple[Coordinates, int]]) -> list[Coordinates]:
    return [where for where, checksum in letters if not _is_letter(entries.get(where), checksum)]


def _is_letter(entry: Entry | None, checksum: int) -> bool:
    return entry is not None and entry.fate is Fate.LETTER and entry.number == checksum


def _examples(entries: Mapping[Coordinates, Entry], word: str, places: list[Coordinates]) -> list[str]:
    return [f"{word}: {_named(where, entries.get(where))}" for where in sorted(places)[:3]]


def _named(where: Coordinates, entry: Entry | None) -> str:
    what = f"{entry.kind} for {entry.table}" if entry else "nothing of ours"
    return f"{where.topic_id}[{where.partition}]@{where.offset}, {what}"
