"""`tailrace up` without its terminal: start what is not named elsewhere, then provision all of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.local.stack import await_ready, start_stack
from deploy.local.state import read_plan
from deploy.outcome import Outcome
from deploy.settings import (
    KAFKA_BOOTSTRAP,
    REGISTRY_URL,
    WAREHOUSE_URL,
    Installation,
    StackSettings,
    completed,
    exported,
    home_of,
)

VARIABLE_OF_PART = {"kafka": KAFKA_BOOTSTRAP, "registry": REGISTRY_URL, "warehouse": WAREHOUSE_URL}


@dataclass(frozen=True, slots=True)
class Installed:
    """`variables` name the installation for every other command. `seconds` until each part and step was done."""

    variables: Mapping[str, str]
    outcomes: tuple[Outcome, ...]
    seconds: Mapping[str, float]


def bring_up(variables: Mapping[str, str], report: Callable[[str], None]) -> Installed:
    """Raises ConfigurationError, PartUnreachable and ContractError."""
    began = time.monotonic()
    own = without_local_addresses(variables)
    local = [part for part, variable in VARIABLE_OF_PART.items() if not own.get(variable)]
    parts = {part.name: part for part in start_stack(StackSettings.from_environment(own), local, report)} if local else {}
    named = _with_local_addresses(own, local)
    installation = Installation.from_environment(named)
    seconds: dict[str, float] = {}

    def await_part(name: str) -> None:
        if name in parts:
            await_ready(home_of(own), parts[name])
            seconds[name] = round(time.monotonic() - began, 2)
            report(f"{name} is ready on port {parts[name].port} ({seconds[name]:.1f} s)")

    from deploy.provision import provision  # noqa: PLC0415 - the parts are starting while the clients' modules are read in

    outcomes = provision(installation, await_part)
    seconds["total"] = round(time.monotonic() - began, 2)
    return Installed(named, tuple(outcomes), seconds)


def without_local_addresses(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` but for those that name the home's own stack: `eval "$(tailrace env)"` does not make it somebody else's."""
    plan = read_plan(home_of(variables))
    own = {} if plan is None else exported(plan.addresses(VARIABLE_OF_PART))
    return {name: value for name, value in variables.items() if own.get(name) != value}


def _with_local_addresses(variables: Mapping[str, str], local: list[str]) -> dict[str, str]:
    plan = read_plan(home_of(variables))
    return dict(variables) if plan is None else completed(variables, plan.addresses(local))
