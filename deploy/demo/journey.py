"""The way of the demo's events: out through the emitter and the HTTP worker, into the warehouse, and back as findings."""

import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.demo import demo_ranking, open_bandit
from deploy.demo.commands import Commands, Running
from deploy.demo.emission import emit_log
from deploy.demo.errors import DemoFailed
from deploy.demo.findings import Emitted, find
from deploy.demo.home import INPUTS
from deploy.demo.open_bandit_log import Impression, load_sample
from deploy.demo.result import DemoResult
from deploy.demo.stages import Stages
from deploy.demo.users import Visited, WorkerClient, visit
from producers.main import emitter_from_environment, new_id, now_us
from schemas.errors import PartUnreachable
from schemas.events import EventId

PUBLISH_TIMEOUT_S = 60.0
WORKER_START_TIMEOUT_S = 60.0
SINK_TIMEOUT_S = 180.0
SERVING_SEED = "2020"
BUDGET_MS = "5000"
"""Of a request: a machine that is busy should not make the users see the fallback, for they come out the same in every run."""
_POLL_S = 0.05

_CATALOGUE = "TAILRACE_CATALOGUE_FILE"
_EXPERIMENTS = "TAILRACE_EXPERIMENTS_FILE"
_SERVING_ON = re.compile(r"serving on (http://\S+)")


def load_log() -> list[Impression]:
    """The logged impressions of all logs, in the order in which the shop showed them."""
    return sorted(load_sample(), key=lambda impression: impression.shown_at)


def travel(variables: Mapping[str, str], home: Path, log: Sequence[Impression], stages: Stages) -> DemoResult:
    """Send everything through the stack that `variables` name. Raises PartUnreachable and DemoFailed."""
    commands = Commands({**variables, **_write_inputs(home, log)}, home / "logs")
    emitted = _emit(commands, log, stages)
    with stages.stage("the sink has caught up"), commands.start("sink", "--drain") as sink:
        sink.wait(SINK_TIMEOUT_S)
    with stages.stage("what arrived is compared, and the scorecards are asked"):
        return find(variables, log, emitted)


def _write_inputs(home: Path, log: Sequence[Impression]) -> dict[str, str]:
    """The experiments and the catalogue as files, as their owners would keep them, and the variables that name them."""
    experiments, catalogue = home / INPUTS.experiments, home / INPUTS.catalogue
    definitions = [*open_bandit.definitions(log), demo_ranking.definition(now_us())]
    experiments.write_text(json.dumps([dataclasses.asdict(definition) for definition in definitions], indent=2), encoding="utf-8")
    catalogue.write_text(json.dumps(demo_ranking.catalogue(), indent=2), encoding="utf-8")
    fixed = {"TAILRACE_SERVING_SEED": SERVING_SEED, "TAILRACE_REQUEST_BUDGET_MS": BUDGET_MS, "TAILRACE_DRAIN_MS": "0"}
    return {_EXPERIMENTS: str(experiments), _CATALOGUE: str(catalogue), **fixed}


def _emit(commands: Commands, log: Sequence[Impression], stages: Stages) -> Emitted:
    """The log, then the users. The sink runs all the while, as it would in production."""
    publish = commands.start("experiments", "apply", commands.variables[_EXPERIMENTS])
    with commands.start("sink") as sink, publish as publishing, commands.start("serve", "--port", "0") as worker:
        with stages.stage("the log is emitted; sink and worker start meanwhile, and definitions are published"):
            emission = emit_log(emitter_from_environment(commands.variables), log, lambda: EventId(new_id()))
            publishing.wait(PUBLISH_TIMEOUT_S)
        with stages.stage(f"{demo_ranking.VISITS.requests:,} requests of simulated users are answered over HTTP"):
            visited = _visit(worker)
        sink.refuse_end()
    return Emitted(emission, visited)


def _visit(worker: Running) -> Visited:
    client = WorkerClient(_await_address(worker))
    try:
        if not client.ready():
            raise DemoFailed(f"the HTTP worker is not ready:\n{worker.said()}")
        return visit(client, demo_ranking.VISITS)
    finally:
        client.close()


def _await_address(worker: Running) -> str:
    """The URL that the worker says it serves on. Raises PartUnreachable."""
    deadline_s = time.monotonic() + WORKER_START_TIMEOUT_S
    while (said := _SERVING_ON.search(worker.said())) is None:
        if worker.has_ended() or time.monotonic() > deadline_s:
            raise PartUnreachable(worker.name, str(worker.log), f"it did not start:\n{worker.said()}")
        time.sleep(_POLL_S)
    return said[1]
