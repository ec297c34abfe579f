"""Which parameters are to answer a request: every layer is asked, and what their arms set is put together. Pure.

A (surface, parameter) belongs to one layer, so no two arms set the same. A unit that is held out, killed, blank, or asked about
under definitions that are too old, is answered as if there were no experiment, and every layer says why. Where no definitions
could be read there are no layers to say so: one assignment of none does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.events import Assignment, ExperimentId, Micros
from serving_worker.experiments.assignment import Asker, Reason, framed
from serving_worker.experiments.definitions import Snapshot
from serving_worker.experiments.layers import HELD_OUT, Entry, enter, force, hold_out

POLICY = "policy"
"""The parameter by which an arm names its ranker."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy that is to answer, with the parameters of all arms, and what every layer said."""

    policy_id: str
    parameters: Mapping[str, str]
    assignments: tuple[Assignment, ...]
    forced: bool = False
    """The request named arms, whether they could be had or not: its event is Traffic.FORCED."""


def decide(snapshot: Snapshot | None, asker: Asker, now: Micros, default_policy: str) -> Decision:
    entries = entries_of(snapshot, asker, now)
    parameters = _parameters(entries)
    assignments = tuple([entry.assignment for entry in entries])
    return Decision(parameters.get(POLICY, default_policy), parameters, assignments, bool(asker.forced))


def entries_of(snapshot: Snapshot | None, asker: Asker, now: Micros) -> Sequence[Entry]:
    """Refusals that hold for all layers come first, then forced arms, then holdbacks, then the layers one by one."""
    if snapshot is None:
        return [Entry(Assignment(asker.unit_type, Reason.NO_CONFIG, exposed=False))]
    if not snapshot.holds(now):
        return _alike(snapshot, asker, Reason.STALE_CONFIG)
    if asker.forced:
        return _forced(snapshot, asker, now)
    if not asker.unit_id.strip():
        return _alike(snapshot, asker, Reason.NO_UNIT)
    return _entries(snapshot, asker, now)


def cannot_be_forced(snapshot: Snapshot, forced: Iterable[ExperimentId], now: Micros) -> list[ExperimentId]:
    """Those of `forced` that are no experiments of any layer, for an edge that would rather refuse the request."""
    known = {experiment_id for layer in snapshot.layers for experiment_id in layer.tables.at(now).tenants}
    return [experiment_id for experiment_id in forced if experiment_id not in known]


def _entries(snapshot: Snapshot, asker: Asker, now: Micros) -> Sequence[Entry]:
    unit = framed(asker.unit_id)
    held = [entry for holdback in snapshot.holdbacks if (entry := hold_out(holdback, asker, unit, now))]
    if any(entry.assignment.reason is HELD_OUT for entry in held):
        return [*held, *_alike(snapshot, asker, Reason.HOLDBACK)]
    return [*held, *[enter(layer, asker, unit, now) for layer in snapshot.layers]]


def _forced(snapshot: Snapshot, asker: Asker, now: Micros) -> Sequence[Entry]:
    """Layers in which nothing is forced assign as ever, so that one arm can be looked at among the others' answers."""
    unit = framed(asker.unit_id)
    unknown = cannot_be_forced(snapshot, asker.forced, now)
    refused = [Entry(Assignment(asker.unit_type, Reason.CANNOT_FORCE, exposed=False)) for _ in unknown]
    return [*[force(layer, asker, now) or enter(layer, asker, unit, now) for layer in snapshot.layers], *refused]


def _alike(snapshot: Snapshot, asker: Asker, reason: Reason) -> list[Entry]:
    return [Entry(Assignment(asker.unit_type, reason, exposed=False, layer_id=layer.layer_id)) for layer in snapshot.layers]


def _parameters(entries: Iterable[Entry]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        if entry.arm is not None:
            found.update(entry.arm.parameters)
    return found
