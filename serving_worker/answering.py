"""The answering side of the worker, put together: the control here, every other policy in processes, candidates in the shadow."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from schemas.errors import ConfigurationError
from schemas.events import Event, ExperimentDefinition, ExperimentStatus, Micros
from serving_worker.capacity import Capacity, watch_lateness
from serving_worker.catalogue import Catalogue, ItemsById, by_item_id, load_catalogue
from serving_worker.control import Control
from serving_worker.experiments.assignment import Reason
from serving_worker.experiments.decision import POLICY
from serving_worker.experiments.definitions import Experiments, Snapshot
from serving_worker.experiments.layers import Layer
from serving_worker.isolation.config import PolicySettings
from serving_worker.isolation.limits import PoolLimits
from serving_worker.isolation.policies import Policies
from serving_worker.isolation.pool import Pool
from serving_worker.isolation.process import Program, host_environment
from serving_worker.metrics import PolicyMetrics, WorkerMetrics
from serving_worker.rankers.plugins import load_ranker
from serving_worker.recommend import Clock, Gates, Recommender, RecommenderSettings, Shelf
from serving_worker.shadow import IN_FLIGHT_MAX, Shadow, ShadowOutlets
from serving_worker.tally import ArmTally

WARM_S_MAX = 5.0
"""The worker's start waits so long for the policies of the experiments, so that the first requests find them up."""
WARM_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Stock:
    """What can be recommended and the policy in charge: all that can be wrong with it shows when it is made."""

    catalogue_file: Path
    catalogue: Catalogue
    items: ItemsById
    control: Control


def stock_of(catalogue_file: Path, default_policy: str, rankers: Mapping[str, str]) -> Stock:
    """Raises ConfigurationError."""
    if default_policy not in rankers:
        raise ConfigurationError((f"TAILRACE_DEFAULT_POLICY={default_policy!r} is none of {', '.join(rankers)}",))
    catalogue = load_catalogue(catalogue_file)
    items = by_item_id(catalogue)
    control = Control(default_policy, load_ranker(rankers[default_policy]), catalogue, items)
    return Stock(catalogue_file, catalogue, items, control)


@dataclass(frozen=True, slots=True)
class Outlets:
    """What the parts lean on. `variables` are the environment, which a policy's process inherits without ours."""

    emit: Callable[[Event], bool]
    metrics: WorkerMetrics
    clock: Clock
    variables: Mapping[str, str]


class Answering:
    """`recommender` answers at once; between `at_work` it does so with other policies' processes up."""

    def __init__(
        self,
        stock: Stock,
        experiments: Experiments,
        settings: RecommenderSettings,
        policies: PolicySettings,
        outlets: Outlets,
    ) -> None:
        self._experiments, self._clock = experiments, outlets.clock
        self._capacity = Capacity(policies.in_flight_max, policies.budget_us)
        tally = ArmTally(outlets.metrics.arms)
        isolated = policies.rankers.keys() - {stock.control.policy_id}
        alone = replace(policies.pool, processes=1, waiting_max=IN_FLIGHT_MAX)
        monotonic_us = outlets.clock.monotonic_us
        self._live = Policies(isolated, partial(_pool, stock, policies.rankers, policies.pool, outlets), monotonic_us)
        self._unseen = Policies(policies.shadow, partial(_pool, stock, policies.rankers, alone, outlets), monotonic_us)
        self._shares = policies.shadow
        self._shadow = Shadow(policies.shadow, self._unseen, ShadowOutlets(outlets.emit, tally, outlets.clock))
        gates = Gates(self._capacity, outlets.emit, tally, self._shadow.follow)
        shelf = Shelf(stock.catalogue, stock.control, self._live)
        self.recommender = Recommender(shelf, experiments, settings, gates, outlets.clock)
        PolicyMetrics(outlets.metrics.registry, {"live": self._live.status, "shadow": self._unseen.status})

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Processes are up while inside, and gone after."""
        self._live.warm(self._policies_named())
        self._unseen.warm(self._shares)
        await self._live.wait_until_up(WARM_S_MAX)
        watching = [asyncio.create_task(watch_lateness(self._capacity, self._clock.monotonic_us))]
        watching.append(asyncio.create_task(self._keep_warm()))
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            for task in watching:
                with suppress(asyncio.CancelledError):
                    await task
            await self._shadow.close()
            await asyncio.gather(self._live.close(), self._unseen.close())

    async def _keep_warm(self) -> None:
        """A policy that a new experiment names has its processes before the experiment's first request, if it can be. One that no
        experiment names any more has none after a while.
        """
        while True:
            await asyncio.sleep(WARM_PAUSE_S)
            self._live.warm(self._policies_named())
            self._live.close_unwanted()

    def _policies_named(self) -> set[str]:
        layers = (self._experiments.snapshot() or Snapshot()).layers
        arms = (arm for layer in layers for definition in _open(layer, self._clock.now_us()) for arm in definition.arms)
        return {arm.parameters[POLICY] for arm in arms if POLICY in arm.parameters}


def _open(layer: Layer, now: Micros) -> Iterator[ExperimentDefinition]:
    """Revisions that can decide an answer, now or soon: those in force and the newest ones, but for what ended or was killed."""
    tenants = layer.tables.at(now).tenants
    killed = {experiment_id for experiment_id, tenant in tenants.items() if tenant.closed is Reason.KILLED}
    for definition in (*(tenant.definition for tenant in tenants.values()), *(revisions[-1] for revisions in layer.experiments)):
        if definition.status is not ExperimentStatus.ENDED and definition.experiment_id not in killed:
            yield definition


def _pool(stock: Stock, rankers: Mapping[str, str], limits: PoolLimits, outlets: Outlets, policy_id: str) -> Pool:
    program = Program(rankers[policy_id], stock.catalogue_file, limits.host, host_environment(outlets.variables))
    return Pool(policy_id, program, stock.items, limits, outlets.clock.monotonic_us)
