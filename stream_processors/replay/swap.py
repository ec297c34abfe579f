"""Swap, rollback, abort, prune: what a person asks for, whether it may be, and seeing it through.

Both directions are one exchange (exchange.py). Whatever interrupts it, the same command goes on: what was exchanged is
finished, what was not is undone and done anew. `abort` only undoes; once readers have the new table that is a rollback's
business.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from schemas.errors import PartUnreachable
from stream_processors.replay.blend import rolled_back, swapped_in
from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.exchange import Exchange, Plan, kept_table, unfinished
from stream_processors.replay.holds import held_tables, lift
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import Run, RunStore, State, Step
from stream_processors.replay.tables import definition_of, drop_tables
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.errors import Retryable

PATIENCE_S = 120.0
"""The warehouse may be away for so long before a swap gives up; then it is to be run again."""
_PAUSE_S = 0.5
_COMMENT = "tailrace replay"


class Result(StrEnum):
    SWAPPED = "swapped"
    ROLLED_BACK = "rolled_back"
    UNDONE = "undone"
    LIFTED = "lifted"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`touched` are days, as YYYYMMDD; `seconds` by step, `held` among them."""

    run: str
    table: str
    result: Result
    touched: list[str] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Swapper:
    """Raises ReplayRefused where the answer is no, PartUnreachable where the warehouse stays away.

    `committed` gives the live stream's committed offsets by partition, for the topic id of a run.
    """

    writer: ClickHouseWriter
    store: RunStore
    committed: Callable[[Manifest], Mapping[int, int]]
    rebuild: Callable[[str, set[str]], object]
    tell: Callable[[str], None]

    def swap(self, name: str, force: str | None = None) -> Outcome:
        """The run's rows in the place of the live ones, at once. `force` is the reason to do it without a sound verification."""
        run = self._found(name)
        begun = unfinished(run)
        if begun is not None:
            if begun.step == State.ROLLING_BACK:
                raise ReplayRefused(f"{name} is being rolled back: finish that with `tailrace replay rollback {name}`")
            if self._settled(exchange := self._swapping(run)):
                return _outcome(exchange, Result.SWAPPED)
            force = force or begun.detail.get("forced")
            run = self._found(name)
        if is_swapped(run):
            raise ReplayRefused(f"{name} is swapped already; `tailrace replay rollback {name}` undoes it")
        self._refuse_unsound(run, force)
        committed = {str(partition): offset for partition, offset in self.committed(run.manifest).items()}
        exchange = self._swapping(run, {"committed": committed, "forced": force})
        self._perform(exchange)
        return _outcome(exchange, Result.SWAPPED)

    def rollback(self, name: str) -> Outcome:
        """The rows that the swap put out of the table back into it; what has come live since stays.

        A swap that was left behind its exchange is finished first, so that it is undone as a whole.
        """
        run = self._found(name)
        begun = unfinished(run)
        if begun is not None:
            swapping = begun.step == State.PREPARING
            exchange = self._swapping(run) if swapping else self._rolling_back(run)
            if self._settled(exchange) and not swapping:
                return _outcome(exchange, Result.ROLLED_BACK)
            run = self._found(name)
        if not is_swapped(run):
            raise ReplayRefused(f"{name} is not swapped: there is nothing to roll back")
        self._refuse_buried(run)
        exchange = self._rolling_back(run)
        self._perform(exchange)
        return _outcome(exchange, Result.ROLLED_BACK)

    def abort(self, name: str) -> Outcome:
        """Undo a swap or a rollback that was left before its exchange."""
        run = self._found(name)
        begun = unfinished(run)
        if begun is None:
            raise ReplayRefused(_nothing_to_abort(run))
        swapping = begun.step == State.PREPARING
        exchange = self._swapping(run) if swapping else self._rolling_back(run)
        if exchange.exchanged(begun):
            again = "swap" if swapping else "rollback"
            undoing = f", `tailrace replay rollback {name}` undoes it" if swapping else ""
            raise ReplayRefused(f"readers have the new table already: `tailrace replay {again} {name}` finishes it{undoing}")
        self._settled(exchange)
        return Outcome(name, run.manifest.table, Result.UNDONE)

    def lift(self, table: str) -> Outcome:
        """Lift a hold that no run claims."""
        if table not in held_tables(self.writer):
            raise ReplayRefused(f"{table} is not held")
        if claimed := [run for run in self.store.all() if run.manifest.table == table and unfinished(run)]:
            raise ReplayRefused(f"{claimed[0].manifest.run} holds {table}: abort that, or finish it")
        lift(self.writer, table)
        return Outcome("", table, Result.LIFTED)

    def prune(self, name: str) -> Outcome:
        """Drop what a run has left: its own tables, and the table that its swap put out of its place. No rollback after this."""
        run = self._found(name)
        if unfinished(run):
            raise ReplayRefused(f"{name} is being exchanged: finish that or abort it first")
        if run.state == State.RUNNING:
            raise ReplayRefused(f"{name} is running")
        self.writer.command(f"DROP TABLE IF EXISTS {kept_table(name)} SYNC", _COMMENT)
        drop_tables(self.writer, name)
        self.store.append(name, State.PRUNED)
        return Outcome(name, run.manifest.table, Result.PRUNED)

    def _perform(self, exchange: Exchange) -> None:
        """Perform it; after whatever goes wrong, finish what was exchanged, undo what was not, and try again where that helps."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return exchange.perform()
            except (ReplayRefused, KeyboardInterrupt):
                if self._settled(exchange, ours_only=True):
                    return None
                raise
            except Retryable as trouble:
                if self._settled(exchange, ours_only=True):
                    return None
                if trouble.needs_somebody or time.monotonic() > deadline_s:
                    raise _unreachable(exchange, trouble) from trouble
                self.tell(f"again, from the beginning: {trouble}")
                time.sleep(_PAUSE_S)

    def _settled(self, exchange: Exchange, *, ours_only: bool = False) -> bool:
        """As `settle`, again and again while the warehouse is away."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return exchange.settle(ours_only=ours_only)
            except Retryable as trouble:
                if time.monotonic() > deadline_s:
                    raise _unreachable(exchange, trouble) from trouble
                time.sleep(_PAUSE_S)

    def _swapping(self, run: Run, notes: Mapping[str, Any] = MappingProxyType({})) -> Exchange:
        manifest = run.manifest
        return self._exchange(Plan(manifest, swapped_in(manifest), State.PREPARING, State.SWAPPED, State.ABORTED, notes))

    def _rolling_back(self, run: Run) -> Exchange:
        manifest, swapped = run.manifest, run.last(State.PREPARING)
        assert swapped is not None, "what is swapped was prepared"
        committed = {int(partition): offset for partition, offset in swapped.detail["committed"].items()}
        blend = rolled_back(manifest, kept_table(manifest.run), committed)
        return self._exchange(Plan(manifest, blend, State.ROLLING_BACK, State.ROLLED_BACK, State.SWAPPED))

    def _exchange(self, plan: Plan) -> Exchange:
        return Exchange(self.writer, self.store, plan, self.rebuild, self.tell)

    def _found(self, name: str) -> Run:
        run = self.store.get(name)
        if run is None:
            raise ReplayRefused(f"no run is named {name}: `tailrace replay list` names them all")
        return run

    def _refuse_unsound(self, run: Run, force: str | None) -> None:
        """A run that is not whole is refused whatever is said; what only a person can judge, unless its reason is given."""
        manifest = run.manifest
        if run.last(State.PRUNED):
            raise ReplayRefused(f"{manifest.run} was pruned: its rows are gone")
        if manifest.derive is not None:
            name = manifest.run
            raise ReplayRefused(f"{name} was planned to fill a derived table: `tailrace derive apply --run {name}` does that")
        if not is_filled(run):
            raise ReplayRefused(f"{manifest.run} is not filled: `tailrace replay run {manifest.run}` goes on with it")
        if definition_of(self.writer, manifest.table).sha256 != manifest.table_sha256:
            raise ReplayRefused(f"{manifest.table} is defined otherwise than when {manifest.run} was planned: plan it again")
        objections = [found for found in (_objection(run), self._moved(run)) if found]
        if objections and not force:
            raise ReplayRefused(f"{'; '.join(objections)}; --force REASON swaps it in all the same")

    def _moved(self, run: Run) -> str | None:
        """Another run that has changed the live rows of these offsets since they were compared."""
        verified = run.last(State.VERIFIED)
        for other in self.store.all():
            changed = [step for step in other.steps if step.step in (State.EXCHANGED, State.SWAPPED, State.ROLLED_BACK)]
            later = changed and verified is not None and changed[-1].at_ms >= verified.at_ms
            if later and other.manifest.run != run.manifest.run and _overlap(run.manifest, other.manifest):
                return f"{other.manifest.run} has changed rows of these offsets since this run was verified: verify it again"
        return None

    def _refuse_buried(self, run: Run) -> None:
        """The last swap is undone first: what it put out of the table has an earlier one in it."""
        if run.last(State.PRUNED):
            raise ReplayRefused(f"{run.manifest.run} was pruned: what it put out of {run.manifest.table} is gone")
        mine = run.last(State.SWAPPED)
        for other in self.store.all():
            theirs = other.last(State.SWAPPED)
            if mine and theirs and is_swapped(other) and theirs.at_ms > mine.at_ms and _overlap(run.manifest, other.manifest):
                raise ReplayRefused(f"{other.manifest.run} was swapped over it: roll that back first")


def is_swapped(run: Run) -> bool:
    """Whether readers have the run's rows, by its last exchange that came to its end."""
    ended = [step.step for step in run.steps if step.step in (State.SWAPPED, State.ROLLED_BACK)]
    return bool(ended) and ended[-1] == State.SWAPPED


def is_filled(run: Run) -> bool:
    """Whether all of it has been read, and nobody has begun to fill it once more."""
    filling = [step.step for step in run.steps if step.step in (State.RUNNING, State.FILLED)]
    return bool(filling) and filling[-1] == State.FILLED


def _objection(run: Run) -> str | None:
    """What stands against a run that is whole."""
    judged: Step | None = None
    for step in run.steps:
        if step.step == State.RUNNING:
            judged = None
        elif step.step in (State.VERIFIED, State.DIFFERS):
            judged = step
    if judged is None:
        return f"{run.manifest.run} is not verified: `tailrace replay verify {run.manifest.run}`"
    return f"{run.manifest.run} differs from what it should be" if judged.step == State.DIFFERS else None


def _overlap(one: Manifest, other: Manifest) -> bool:
    """Whether two runs give rows at the same coordinates of one table."""
    return (one.table, one.topic_id) == (other.table, other.topic_id) and any(
        mine.partition == theirs.partition and mine.first < theirs.end and theirs.first < mine.end
        for mine in one.ranges
        for theirs in other.ranges
    )


def _outcome(exchange: Exchange, result: Result) -> Outcome:
    plan = exchange.plan
    return Outcome(plan.run, plan.live, result, exchange.touched, {step: round(s, 4) for step, s in exchange.seconds.items()})


def _nothing_to_abort(run: Run) -> str:
    name = run.manifest.run
    undoing = f": `tailrace replay rollback {name}` undoes the swap" if is_swapped(run) else ""
    return f"nothing of {name} is under way{undoing}"


def _unreachable(exchange: Exchange, trouble: Retryable) -> PartUnreachable:
    remedy = f"it was tried for {PATIENCE_S:.0f} s; run the command again, it goes on where this one stopped ({trouble})"
    return PartUnreachable(exchange.plan.live, "the warehouse", remedy)
