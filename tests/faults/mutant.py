"""Sinks with one rule taken away: `python -m tests.faults.mutant NAME …` is `tailrace sink …` without it.

A harness that finds nothing in these proves nothing. The rule is taken out of the sink's modules before the command starts; there
is nothing for it in production code. A mutant without a patch is one of the tables, and its sink is the usual one.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

from deploy.cli import main
from stream_processors.warehouse import ownership, tenure
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import NoAnswer, Refused
from stream_processors.warehouse.kafka_source import KafkaSource
from stream_processors.warehouse.ownership import OwnershipKeeper
from stream_processors.warehouse.partition import Partition
from stream_processors.warehouse.records import OffsetRanges, Position
from stream_processors.warehouse.worker import Worker


@dataclass(frozen=True, slots=True)
class Mutant:
    """`scenario` is where the harness is to find it, `by` the counts of the verdict that can only be its doing.

    `sql` breaks the tables of the installation.
    """

    without: str
    scenario: str
    by: tuple[str, ...]
    patch: Callable[[], None] | None = None
    sql: tuple[str, ...] = ()
    share: float = 0.2
    """Of the scenario's usual extent, for each seed."""


def _no_fence() -> None:
    """Every owner is the same one: nobody is shut out."""
    _set(ownership, "secrets", SimpleNamespace(token_bytes=bytes))


def _no_drain() -> None:
    _set(tenure, "drain", lambda _writer, _comment: None)


def _no_reconciliation() -> None:
    """What the warehouse has already is not looked at."""
    genuine = OwnershipKeeper.reconcile

    def reconcile(keeper: OwnershipKeeper, *arguments: Any) -> Any:
        owned, found = genuine(keeper, *arguments)
        return replace(owned, present=OffsetRanges()), found

    _set(OwnershipKeeper, "reconcile", reconcile)


def _no_topic_id() -> None:
    """A name stands for one topic for ever."""
    _set(KafkaSource, "topic_id", functools.cache(KafkaSource.topic_id))


def _commit_first() -> None:
    genuine = Worker._deliver

    def deliver(self: Worker, partition: Partition) -> None:
        self._to_commit[partition.place] = Position(partition.gathering.end, partition.tenure.ownership.topic_id)
        genuine(self, partition)

    _set(Worker, "_deliver", deliver)


def _resend() -> None:
    """An insert without a clean answer is sent again, and nothing is owned anew."""
    genuine = ClickHouseWriter.insert

    def insert(writer: ClickHouseWriter, *arguments: Any) -> None:
        try:
            genuine(writer, *arguments)
        except (NoAnswer, Refused):
            genuine(writer, *arguments)

    _set(ClickHouseWriter, "insert", insert)


def _set(owner: object, name: str, value: object) -> None:
    """Refuses to take away what is not there, as it would be after a change of the sink."""
    assert hasattr(owner, name), f"{owner} has no {name} any more: mend this mutant"
    setattr(owner, name, value)


_UNGUARDED = tuple(
    f"ALTER TABLE {table} MODIFY COLUMN _framed UInt8 DEFAULT 0" for table in ("interactions", "recommendations", "dead_letters")
)

STUCK = "stuck"
"""A count that is not the verdict's: the last sink cannot bring in what is left."""
_COPIES = ("duplicated", "letters_duplicated")
_LOSSES = ("lost", "letters_lost")

MUTANTS: Mapping[str, Mutant] = MappingProxyType(
    {
        "fence": Mutant("the fence", "late-posts", _COPIES, _no_fence, share=0.5),
        "drain": Mutant("the drain", "slow-warehouse", _COPIES, _no_drain, share=1),
        "reconciliation": Mutant("the reconciliation", "kill", _COPIES, _no_reconciliation),
        "guard": Mutant("the guard", "poison", (*_LOSSES, "strange", STUCK), sql=_UNGUARDED, share=0.5),
        "topic-id": Mutant("the topic's id", "recreated", (*_LOSSES, "strange"), _no_topic_id, share=1),
        "commit-first": Mutant("the rule that commits come after inserts", "kill", _LOSSES, _commit_first),
        "resend": Mutant("the ban on resending", "warehouse", _COPIES, _resend),
    }
)

if __name__ == "__main__":
    found = MUTANTS[sys.argv[1]]
    if found.patch is not None:
        found.patch()
    main(["sink", *sys.argv[2:]])
