"""Making topics, schemas and tables where an installation's parts are. Idempotent: what is there is kept."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from deploy.kafka_topics import provision_topics
from deploy.outcome import Outcome
from deploy.registry_subjects import provision_subjects
from deploy.settings import Installation
from deploy.warehouse_tables import provision_tables

STEPS: tuple[Callable[[Installation], Outcome], ...] = (provision_topics, provision_subjects, provision_tables)


def provision(installation: Installation) -> Iterator[Outcome]:
    """All of it, side by side; outcomes in the order of STEPS. Raises PartUnreachable and ContractError."""
    with ThreadPoolExecutor(len(STEPS)) as pool:
        yield from pool.map(lambda step: step(installation), STEPS)
