"""One table in the place of another: the one mechanism of swap and rollback.

prepare   Compose a table beside the live one, while live inserts go on.
hold      The live table takes no insert; those that run are drained. Nothing moves in it now.
copy      What came meanwhile is composed too, and checked.
exchange  EXCHANGE TABLES: one step of the engine. A query that resolves the name before it reads the old table to its end, one
          after it the new one; no query ever sees half.
fence     A fresh owner that nobody has, for every partition that feeds the table. Only *after* the exchange: a sink that owned
          while the table was held knows what was in the old one, and an insert that began then may be bound to it and see no hold
          any more. Both are refused by this fence, and their sinks own again, and find what is in the new table.
release   The hold is lifted.
finish    Derived tables are rebuilt for the touched days; the table that left stays under its name until the run is pruned.

Interrupted before the exchange it is undone (nobody has seen anything but a hold), after it finished. Which of the two holds is
read from the tables' UUIDs. Each attempt composes under a fresh name, and whoever goes on after another first takes what that
one composed under a fresh name of his own: late requests of a process that was thought dead then name a table that is not
there.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from schemas.envelope import uuid_bytes
from stream_processors.replay.blend import Blend
from stream_processors.replay.compose import Composer, Moved, copy_stragglers
from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.holds import drain_table, held_tables, hold, lift
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import Run, RunStore, State, Step
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.ownership import OWNER_BYTES, drain

COMPOSITIONS_MAX = 3
_BEGINNINGS = (State.PREPARING, State.ROLLING_BACK)
_ENDINGS = (State.SWAPPED, State.ROLLED_BACK, State.ABORTED, State.PRUNED)

_UUIDS = """
SELECT name, toString(uuid) FROM system.tables
WHERE database = currentDatabase() AND (name = {table:String} OR startsWith(name, {prefix:String}))
FORMAT TabSeparatedRaw
"""
_TOPIC_IDS = "SELECT DISTINCT toString(_topic_id) FROM ingest_topics WHERE topic = {topic:String} FORMAT TabSeparatedRaw"
_FENCED = "SELECT lower(hex(key)) FROM ingest_fence FORMAT TabSeparatedRaw"


class Overtaken(ReplayRefused):
    """Another process has gone on with this exchange."""


def unfinished(run: Run) -> Step | None:
    """The step with which an exchange began that has not ended yet, None where there is none."""
    begun = None
    for step in run.steps:
        if step.step in _BEGINNINGS:
            begun = step
        elif step.step in _ENDINGS:
            begun = None
    return begun


def kept_table(run: str) -> str:
    """The table that an exchange has put out of its place."""
    return f"kept_{run.replace('-', '_')}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is exchanged, and the log's words for it: those of a swap, or of a rollback."""

    manifest: Manifest
    blend: Blend
    begins: State
    ends: State
    undone: State
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What is remembered with its first step."""

    @property
    def run(self) -> str:
        return self.manifest.run

    @property
    def live(self) -> str:
        return self.manifest.table

    @property
    def staging_prefix(self) -> str:
        return f"staging_{self.run.replace('-', '_')}_"


@dataclass(slots=True)
class Exchange:
    """Performs, finishes or undoes one plan. `rebuild` is called with the touched days once readers have the new table.

    Raises Retryable where the warehouse does not answer, Overtaken where another process has gone on, Incomplete where what was
    composed is not what it should be: `settle` then finishes what was exchanged, and undoes what was not.
    """

    writer: ClickHouseWriter
    store: RunStore
    plan: Plan
    rebuild: Callable[[str, set[str]], object]
    tell: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each step took; `held` is from the hold to its end."""
    touched: list[str] = field(default_factory=list)
    """The days that were exchanged."""
    _staging: str = ""
    _held_since_s: float | None = None
    _begun: bool = False
    """Whether the log has a beginning of this process's."""
    _asked_for_it: bool = False
    """Whether the table under our name may be the one that was live."""
    _copied: Mapping[str, Any] | None = None
    _feeding: set[str] = field(default_factory=set)

    def settle(self, *, ours_only: bool = False) -> bool:
        """Finish what is exchanged, undo what is not. Whether it was exchanged. After this nothing of an earlier attempt acts.

        With `ours_only` it has to be what this process began; raises Overtaken where another has gone on with that.
        """
        run = self._run()
        if ours_only and self._begun and not self._is_ours(run):
            self._let_go()
            raise Overtaken(f"another process has gone on with {self.plan.run}: `tailrace replay show {self.plan.run}`")
        begun = unfinished(run)
        if begun is None:
            return False
        self._take_over(begun)
        if self.exchanged(begun):
            self._finish()
            return True
        self._undo()
        return False

    def exchanged(self, begun: Step) -> bool:
        """Whether readers have the new table. Asked while nothing of the attempt can act any more, or as a first guess."""
        there: str = begun.detail["live_uuid"]
        return self._uuids()[self.plan.live] != there

    def perform(self) -> None:
        """All of it, from the beginning."""
        if self.plan.live in held_tables(self.writer):
            remedy = f"`tailrace replay list` says for what, `tailrace replay abort --table {self.plan.live}` lifts it"
            raise ReplayRefused(f"{self.plan.live} is held: {remedy}")
        for left in reversed(range(COMPOSITIONS_MAX)):
            try:
                self._compose_and_exchange()
            except Moved:
                self._undo()
                if not left:
                    raise
            else:
                break
        self._finish()

    def _compose_and_exchange(self) -> None:
        self._staging = self.plan.staging_prefix + secrets.token_hex(4)
        composer = self._composer(self._staging)
        detail = {**self.plan.notes, "staging": self._staging, "live_uuid": self._uuids()[self.plan.live]}
        self.store.append(self.plan.run, self.plan.begins, detail)
        self._begun, self._asked_for_it = True, False
        self._refuse_a_second()
        with self._timed("prepare"):
            composer.begin()
            composer.approach()
            self._feeding = self._topic_ids()
        self._go_on(State.HELD)
        self.tell(f"{self.plan.live} is held: what is inserted waits, readers see it as it was")
        self._held_since_s = time.monotonic()
        hold(self.writer, self.plan.live)
        with self._timed("drain"):
            drain_table(self.writer, self.plan.live)
        with self._timed("copy"):
            composer.finish()
        self._copied = {"touched": sorted(composer.touched), "marks": composer.marks()}
        self._go_on(State.COPIED, self._copied)
        self._asked_for_it = True
        with self._timed("exchange"):
            self.writer.command(f"EXCHANGE TABLES {self.plan.live} AND {self._staging}", self._comment)

    def _finish(self) -> None:
        """From the exchange on; all of it may be done again.

        The hold is set once more: a warehouse that was killed may have come back without it, and its sinks may have gone on.
        """
        copied, held_since_s = self._copied or self._copied_before(), self._held_since_s or time.monotonic()
        hold(self.writer, self.plan.live)
        drain_table(self.writer, self.plan.live)
        self.touched = copied["touched"]
        copy_stragglers(self._composer(self.plan.live, set(self.touched)), self._left(), copied["marks"])
        self.store.append(self.plan.run, State.EXCHANGED)
        self._fence()
        lift(self.writer, self.plan.live)
        self.seconds["held"] = time.monotonic() - held_since_s
        self.store.append(self.plan.run, State.FENCED)
        self._go_on(State.RELEASED)
        self.tell(f"{self.plan.live} takes inserts again; it was held for {self.seconds['held']:.2f} s")
        with self._timed("rebuild"):
            self.rebuild(self.plan.live, set(self.touched))
        self._keep()
        self._go_on(self.plan.ends, {"touched": self.touched})

    def _copied_before(self) -> Mapping[str, Any]:
        """What the attempt that was taken over wrote down before it exchanged."""
        copied = self._run().last(State.COPIED)
        assert copied is not None, "what is exchanged was copied before"
        self._feeding = self._topic_ids()
        return copied.detail

    def _left(self) -> str:
        """The table that is out of its place now."""
        return self._staging if self._staging in self._uuids() else kept_table(self.plan.run)

    def _topic_ids(self) -> set[str]:
        """In hex as the fence has them: the topic's, and those of topics that had its name before."""
        known = self.writer.query(_TOPIC_IDS, {"topic": self.plan.manifest.topic}).decode().split()
        return {uuid_bytes(each).hex() for each in {self.plan.manifest.topic_id, *map(UUID, known)}}

    def _fence(self) -> None:
        """Shut out whoever owned a partition that feeds the table."""
        keys = [key for key in self.writer.query(_FENCED).decode().split() if key[:32] in self._feeding]
        if keys:
            owner = secrets.token_hex(OWNER_BYTES)
            rows = ", ".join(f"(unhex('{key}'), unhex('{owner}'))" for key in keys)
            self.writer.command(f"INSERT INTO ingest_fence (key, owner) VALUES {rows}", self._comment)  # noqa: S608 - hex

    def _keep(self) -> None:
        """The table that left, under its lasting name. What a rollback gave back is in the live table again: its copy may go."""
        if self._staging in self._uuids():
            kept = kept_table(self.plan.run)
            self.writer.command(f"DROP TABLE IF EXISTS {kept} SYNC", self._comment)
            self.writer.command(f"RENAME TABLE {self._staging} TO {kept}", self._comment)

    def _undo(self) -> None:
        """Only before the exchange: nobody has seen anything but the hold."""
        self._require_ours()
        self.writer.command(f"DROP TABLE IF EXISTS {self._staging} SYNC", self._comment)
        lift(self.writer, self.plan.live)
        self.store.append(self.plan.run, self.plan.undone, {"undone": self.plan.begins})

    def _take_over(self, begun: Step) -> None:
        """What earlier attempts composed goes by names that only we know, and nothing runs that they began."""
        uuids = self._uuids()
        earlier = [name for name in uuids if name.startswith(self.plan.staging_prefix)]
        self._staging = self.plan.staging_prefix + secrets.token_hex(4)
        self.store.append(self.plan.run, self.plan.begins, {**begun.detail, "staging": self._staging})
        for name in sorted(earlier, key=lambda name: uuids[name] == begun.detail["live_uuid"]):
            self.writer.command(f"DROP TABLE IF EXISTS {self._staging} SYNC", self._comment)
            self.writer.command(f"RENAME TABLE {name} TO {self._staging}", self._comment)
        drain(self.writer, self._comment)

    def _go_on(self, step: State, detail: Mapping[str, Any] | None = None) -> None:
        """Write the step down, unless another process has taken over."""
        self._require_ours()
        self.store.append(self.plan.run, step, detail)

    def _require_ours(self) -> None:
        if not self._is_ours(self._run()):
            raise Overtaken(f"another process has gone on with {self.plan.run}: `tailrace replay show {self.plan.run}`")

    def _is_ours(self, run: Run) -> bool:
        """Whether the last exchange of the run that began is this one."""
        begun = [step for step in run.steps if step.step in _BEGINNINGS]
        return bool(begun) and begun[-1].detail["staging"] == self._staging

    def _let_go(self) -> None:
        """Leave nothing behind that the process which has gone on does not know of."""
        if not self._asked_for_it:
            self.writer.command(f"DROP TABLE IF EXISTS {self._staging} SYNC", self._comment)
        claimed = [run for run in self.store.all() if run.manifest.table == self.plan.live and unfinished(run)]
        if self._held_since_s is not None and not claimed and self.plan.live in held_tables(self.writer):
            lift(self.writer, self.plan.live)

    def _refuse_a_second(self) -> None:
        """Exchanges of one table exclude each other: each has said that it begins before it looks for the others.

        Nor is one done again that another process has just done: it would keep the wrong table.
        """
        before = [step.step for step in self._run().steps if step.step in (State.SWAPPED, State.ROLLED_BACK)]
        if before and before[-1] == self.plan.ends:
            self.store.append(self.plan.run, self.plan.ends, {"again": False})
            raise Overtaken(f"another process has done it: `tailrace replay show {self.plan.run}`")
        for other in self.store.all():
            if other.manifest.table == self.plan.live and other.manifest.run != self.plan.run and unfinished(other):
                self.store.append(self.plan.run, self.plan.undone, {"undone": self.plan.begins})
                raise ReplayRefused(
                    f"{self.plan.live} is being exchanged for {other.manifest.run}: finish that (`tailrace replay swap "
                    f"{other.manifest.run}`) or undo it (`tailrace replay abort {other.manifest.run}`)"
                )

    def _run(self) -> Run:
        run = self.store.get(self.plan.run)
        assert run is not None, "its manifest stays"
        return run

    def _uuids(self) -> dict[str, str]:
        """Of the live table, and of what is composed to take its place, by name."""
        answer = self.writer.query(_UUIDS, {"table": self.plan.live, "prefix": self.plan.staging_prefix})
        return dict(line.split("\t", 1) for line in answer.decode().splitlines())

    def _composer(self, target: str, touched: set[str] | None = None) -> Composer:
        return Composer(self.writer, self.plan.live, target, self.plan.blend, self._comment, touched or set())

    @property
    def _comment(self) -> str:
        return f"tailrace swap {self.plan.run}"

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[step] = time.monotonic() - started
