"""Making topics, schemas and tables where an installation's parts are. Idempotent: what is there is kept."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from deploy.kafka_topics import examine_topics, provision_topics
from deploy.outcome import Outcome, Problem
from deploy.registry_subjects import examine_subjects, provision_subjects
from deploy.settings import Installation
from deploy.warehouse_tables import examine_tables, provision_tables

STEPS: Mapping[str, Callable[[Installation], Outcome]] = MappingProxyType(
    {"kafka": provision_topics, "registry": provision_subjects, "warehouse": provision_tables}
)
"""By the part that each works on."""

EXAMINATIONS: Mapping[str, Callable[[Installation], list[Problem]]] = MappingProxyType(
    {"kafka": examine_topics, "registry": examine_subjects, "warehouse": examine_tables}
)


def provision(installation: Installation, await_part: Callable[[str], None] = lambda _part: None) -> list[Outcome]:
    """All of it, side by side, each as soon as `await_part` has returned for its part; outcomes in the order of STEPS.

    Raises PartUnreachable and ContractError.
    """

    def step(part: str) -> Outcome:
        await_part(part)
        return STEPS[part](installation)

    with ThreadPoolExecutor(len(STEPS)) as pool:
        return list(pool.map(step, STEPS))
