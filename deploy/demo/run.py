"""One run of the demo: an empty home, a stack in it, the journey of the events, and the stack taken down."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.demo.commands import Commands, Running
from deploy.demo.home import empty, environment_of, refuse_foreign
from deploy.demo.stages import Stages
from deploy.local.stack import stop_stack
from deploy.local.state import running_addresses
from deploy.settings import completed
from schemas.errors import PartUnreachable

if TYPE_CHECKING:
    from deploy.demo.result import DemoResult

UP_TIMEOUT_S = 1800.0
"""The first start fetches the programs."""


def run_demo(home: Path, variables: Mapping[str, str], stages: Stages, *, keep: bool) -> "DemoResult":
    """What came of it. The stack in `home` is left running where `keep` says so and all went well.

    Raises ConfigurationError, PartUnreachable and DemoFailed.
    """
    refuse_foreign(home)
    stop_stack(home)
    empty(home)
    own = environment_of(home, variables)
    with _logged(home), _stack(home, own, stages, keep=keep) as starting:
        with stages.stage("Kafka, registry and warehouse are up, with topics, schemas and tables"):
            from deploy.demo.journey import load_log, travel  # noqa: PLC0415 - the stack starts while these modules are read in

            log = load_log()
            starting.wait(UP_TIMEOUT_S)
        result = travel(_of_running_stack(home, own), home, log, stages)
    return dataclasses.replace(result, stages=stages.ended, seconds=stages.seconds)


@contextmanager
def _logged(home: Path) -> Iterator[None]:
    """What libraries log stands beside the logs of the parts: Kafka's client reports every retry of a fresh broker."""
    logs = home / "logs"
    logs.mkdir()
    handler = logging.FileHandler(logs / "demo.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextmanager
def _stack(home: Path, variables: Mapping[str, str], stages: Stages, *, keep: bool) -> Iterator[Running]:
    """A stack that is starting; at the end it is taken down, but for a good end with `keep`."""
    ended_well = False
    try:
        with Commands(variables, home / "logs").start("up", show_progress=True) as starting:
            yield starting
        ended_well = True
    finally:
        if not (keep and ended_well):
            with stages.stage("the stack is down"):
                stop_stack(home)


def _of_running_stack(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """`variables`, completed by the addresses of the stack in `home`. Raises PartUnreachable where none runs."""
    if (addresses := running_addresses(home)) is None:
        raise PartUnreachable("the demo's stack", str(home), "it has ended; its logs are below logs/")
    return completed(variables, addresses)
