"""Which buckets of an experiment hold units that it has exposed: what cannot be given up when its ranges shrink.

Every revision counts, and every kind of traffic but forced requests, whose arms were named and not drawn. Buckets and units are
counted once, so copies of an event make no difference, and nothing is read twice for FINAL.
"""

from analytics.warehouse import Warehouse

EXPOSED_UNITS = """
SELECT assignment.bucket AS bucket, uniqExact(assignment.unit_type, unit_id)
FROM recommendations
ARRAY JOIN assignments AS assignment
WHERE traffic != 'forced' AND has(assignments.experiment_id, {experiment:String})
    AND assignment.experiment_id = {experiment:String} AND assignment.exposed
    AND bucket >= {first:Int32} AND bucket < {end:Int32}
GROUP BY bucket
"""

NEWEST_REVISION = "SELECT max(revision) FROM experiment_revisions WHERE experiment_id = {experiment:String}"


def exposed_units(warehouse: Warehouse, experiment: str, first: int, end: int) -> dict[int, int]:
    """How many exposed units each bucket from `first` to before `end` holds; those without any are left out."""
    rows = warehouse.rows(EXPOSED_UNITS, {"experiment": experiment, "first": first, "end": end})
    return {int(bucket): int(units) for bucket, units in rows}


def newest_revision(warehouse: Warehouse, experiment: str) -> int:
    """The newest one that the warehouse has heard of; 0 where it knows none."""
    ((revision,),) = warehouse.rows(NEWEST_REVISION, {"experiment": experiment})
    return int(revision)
