"""Each step of a decision, for people: what is hashed, where it falls, who holds the place, and why it does or does not decide.

Pure. The arms and reasons are those of `decide` itself; the steps beside them use the same functions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.events import Assignment, Micros
from schemas.experiment_rules import BUCKETS, name_of
from serving_worker.experiments.assignment import Asker, Domain, fall, framed, prefix_of
from serving_worker.experiments.decision import Decision, decide
from serving_worker.experiments.definitions import Snapshot
from serving_worker.experiments.layers import Layer, Tenant


@dataclass(frozen=True, slots=True)
class Step:
    """`of` is the layer or the holdback; `facts` are lines."""

    of: str
    reason: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    decision: Decision
    steps: tuple[Step, ...]


def explain(snapshot: Snapshot, asker: Asker, now: Micros, default_policy: str) -> Explanation:
    decision = decide(snapshot, asker, now, default_policy)
    by_layer = {each.layer_id: each for each in decision.assignments if each.layer_id is not None}
    holdbacks = {each.experiment_id: each for each in decision.assignments if each.layer_id is None}
    above = [_step_of_holdback(each.tenants.at(now), holdbacks.get(each.experiment_id), asker) for each in snapshot.holdbacks]
    steps = [_step_of_layer(layer, by_layer[layer.layer_id], asker, now) for layer in snapshot.layers]
    return Explanation(decision, (*(step for step in above if step is not None), *steps))


def _step_of_holdback(tenant: Tenant | None, assignment: Assignment | None, asker: Asker) -> Step | None:
    if tenant is None:
        return None
    name = f"holdback {name_of(tenant.definition)}"
    if assignment is None:
        return Step(name, "not asked", (f"{tenant.definition.status}, for units of type {tenant.definition.unit_type}",))
    return Step(name, assignment.reason, (*_arm_facts(tenant, Domain.HOLDBACK, asker), f"arm {assignment.arm}"))


def _step_of_layer(layer: Layer, assignment: Assignment, asker: Asker, now: Micros) -> Step:
    bucket = fall(layer.prefix, framed(asker.unit_id), BUCKETS)
    facts = [_hash_fact(Domain.LAYER, layer.salt, asker, BUCKETS, "bucket")]
    table = layer.tables.at(now)
    tenant = table.holder(bucket)
    forced = next((table.tenants[each] for each in asker.forced if each in table.tenants), None)
    if forced is not None:
        facts.append(f"the request forces {forced.definition.experiment_id} to {asker.forced[forced.definition.experiment_id]}")
    facts.extend(["nobody holds the bucket"] if tenant is None else _tenant_facts(tenant, asker))
    if assignment.arm is not None:
        facts.append(f"arm {assignment.arm}")
    return Step(f"layer {layer.layer_id}", assignment.reason, tuple(facts))


def _tenant_facts(tenant: Tenant, asker: Asker) -> Iterator[str]:
    definition = tenant.definition
    yield f"{name_of(definition)} holds it: {definition.status}, of {definition.unit_type}, on {', '.join(definition.surfaces)}"
    for rule in definition.eligibility:
        found = asker.context.get(rule.key)
        fits = "fits" if found in rule.values else "does not fit"
        yield f"context {rule.key}={found!r} {fits} {', '.join(rule.values)}"
    if tenant.refusal(asker) is None:
        yield from _arm_facts(tenant, Domain.ARM, asker)


def _arm_facts(tenant: Tenant, domain: Domain, asker: Asker) -> Iterator[str]:
    weights = ", ".join(f"{arm.name} {arm.weight}" for arm in tenant.definition.arms)
    yield _hash_fact(
        domain, tenant.definition.arm_salt or "", asker, tenant.arm_ends[-1], f"among the weights {weights}, the place"
    )


def _hash_fact(domain: Domain, salt: str, asker: Asker, places: int, what: str) -> str:
    place = fall(prefix_of(domain, salt), framed(asker.unit_id), places)
    return f"murmur3({domain}, {salt!r}, {asker.unit_id!r}) of {places}: {what} {place}"
