"""Plans on top of what the topic holds. Where buckets change hands, the warehouse is asked who was exposed there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.experiments.held import Held, refuse_lost
from deploy.settings import WAREHOUSE_READ_URL, WAREHOUSE_URL, environment, home_of, nothing_runs
from schemas.errors import PartUnreachable
from schemas.events import ExperimentDefinition
from schemas.experiment_plans import Author, Plan, PlanRefused, plan_of
from schemas.experiment_ranges import Ranges
from schemas.experiment_rules import name_of
from schemas.experiment_shrinks import ExposedUnits, Takeover, exposed_within, settled, shrinks_of, takeovers_of

if TYPE_CHECKING:
    from analytics.warehouse import Warehouse


def planned(wishes: Sequence[ExperimentDefinition], held: Held, author: Author) -> Plan:
    """Raises PlanRefused, and PartUnreachable where the warehouse has to be asked and does not know."""
    refuse_lost(held, {wish.experiment_id for wish in wishes})
    shrinks = list(shrinks_of(wishes, held.revisions, author.now))
    takeovers = list(takeovers_of(wishes, held.revisions))
    if not shrinks and not takeovers:
        return plan_of(wishes, held.revisions, author, highest=held.highest)
    with _warehouse() as warehouse:
        settlements = {
            shrink.wish.experiment_id: settled(shrink, _exposed_units(warehouse, shrink.base, shrink.left_out))
            for shrink in shrinks
        }
        problems = [fault for takeover in takeovers if (fault := _fault_of(warehouse, takeover))]
    if problems:
        raise PlanRefused(tuple(problems))
    return plan_of(wishes, held.revisions, author, settlements, held.highest)


def _warehouse() -> "Warehouse":
    # it brings in two seconds' worth of modules, for those who have to ask
    from analytics.config import AnalyticsConfig  # noqa: PLC0415
    from analytics.warehouse import Warehouse  # noqa: PLC0415

    variables = environment()
    if not any(variables.get(name) for name in (WAREHOUSE_READ_URL, WAREHOUSE_URL)):
        raise nothing_runs(home_of(variables))
    return Warehouse(AnalyticsConfig.from_environment(variables))


def _exposed_units(warehouse: "Warehouse", standing: ExperimentDefinition, ranges: Ranges) -> ExposedUnits:
    """A warehouse that has not heard of the revision that stands is another installation's, or nobody fills it."""
    from analytics.exposed_buckets import exposed_units, newest_revision  # noqa: PLC0415

    if newest_revision(warehouse, standing.experiment_id) < standing.revision:
        what = f"who was exposed in buckets that {standing.experiment_id} gives up is not known"
        remedy = f"the warehouse has not heard of {name_of(standing)}; let `tailrace sink` catch up"
        raise PartUnreachable(what, warehouse.where, remedy)
    return exposed_units(warehouse, standing.experiment_id, ranges[0].first, ranges[-1].end)


def _fault_of(warehouse: "Warehouse", takeover: Takeover) -> str | None:
    heir, giver = takeover.wish.experiment_id, takeover.giver.experiment_id
    exposed = exposed_within(takeover.buckets, _exposed_units(warehouse, takeover.giver, takeover.buckets))
    if not exposed.buckets:
        return None
    whose = f"{giver}, which gave them up before that was known: apply its file again, and it takes them back"
    return f"{heir}: wants buckets that hold exposed units ({exposed.units} in {exposed.buckets}) of {whose}"
