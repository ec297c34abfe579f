"""Plans on top of what the topic holds. Where a wish leaves out buckets, the warehouse is asked who was exposed there."""

from collections.abc import Iterable, Sequence

from deploy.experiments.desk import Held
from deploy.settings import WAREHOUSE_READ_URL, WAREHOUSE_URL, environment, home_of, nothing_runs
from schemas.errors import PartUnreachable
from schemas.events import ExperimentDefinition, ExperimentId
from schemas.experiment_plans import Author, Plan, plan_of
from schemas.experiment_rules import name_of
from schemas.experiment_shrinks import Settlement, Shrink, settled, shrinks_of


def planned(wishes: Sequence[ExperimentDefinition], held: Held, author: Author) -> Plan:
    """Raises PlanRefused, and PartUnreachable where the warehouse has to be asked and does not know."""
    shrinks = list(shrinks_of(wishes, held.revisions, author.now))
    return plan_of(wishes, held.revisions, author, _settlements(shrinks) if shrinks else {})


def _settlements(shrinks: Iterable[Shrink]) -> dict[ExperimentId, Settlement]:
    # what they bring in takes two seconds, for those who shrink
    from analytics.config import AnalyticsConfig  # noqa: PLC0415
    from analytics.exposed_buckets import exposed_units, newest_revision  # noqa: PLC0415
    from analytics.warehouse import Warehouse  # noqa: PLC0415

    variables = environment()
    if not any(variables.get(name) for name in (WAREHOUSE_READ_URL, WAREHOUSE_URL)):
        raise nothing_runs(home_of(variables))
    found: dict[ExperimentId, Settlement] = {}
    with Warehouse(AnalyticsConfig.from_environment(variables)) as warehouse:
        for shrink in shrinks:
            named, reach = shrink.wish.experiment_id, shrink.left_out
            _refuse_ignorance(shrink, newest_revision(warehouse, named), warehouse.where)
            found[named] = settled(shrink, exposed_units(warehouse, named, reach[0].first, reach[-1].end))
    return found


def _refuse_ignorance(shrink: Shrink, newest: int, where: str) -> None:
    """A warehouse that has not heard of the revision that stands is another installation's, or nobody fills it."""
    if newest < shrink.base.revision:
        what = f"who was exposed in the buckets that {shrink.wish.experiment_id} gives up is not known"
        remedy = f"the warehouse has not heard of {name_of(shrink.base)}; let `tailrace sink` catch up"
        raise PartUnreachable(what, where, remedy)
