"""One run of one scenario, from the seed to the outcome."""

import time
import traceback
from pathlib import Path
from random import Random

from tests.faults.arena import Arena, Setting, arena
from tests.faults.fleet import LAUNCH
from tests.faults.mutant import MUTANTS
from tests.faults.outcome import Outcome
from tests.faults.scenario import Extent, Plan, Scenario
from tests.faults.stack import LocalStack

MUTANT_LAUNCH = "tests.faults.mutant"
PLAN_SALT = "plan"
"""The plan has a random stream of its own, so that it can be printed without running anything."""


def planned(scenario: Scenario, seed: int, share: float) -> list[str]:
    return [str(fault) for fault in scenario.plan(Random(f"{PLAN_SALT} {seed}"), scenario.extent(share))]


def command(scenario: Scenario, seed: int, protocol: str, share: float, mutant: str = "") -> str:
    rule = f" --mutant {mutant}" if mutant else ""
    size = f" --share {share:g}" if share != 1 else ""
    return f".venv/bin/python -m tests.faults --scenario {scenario.name} --protocol {protocol} --seed {seed}{size}{rule}"


def run_name(scenario: Scenario, seed: int, protocol: str, mutant: str = "") -> str:
    """Of the run's database, topics and log."""
    return "_".join(filter(None, (scenario.name, protocol, str(seed), mutant))).replace("-", "_")


def run(stack: LocalStack, scenario: Scenario, seed: int, protocol: str, share: float, mutant: str = "") -> Outcome:
    """`mutant` names the rule that the sink is to break, if any."""
    name = run_name(scenario, seed, protocol, mutant)
    launch, broken_tables = ((MUTANT_LAUNCH, mutant), MUTANTS[mutant].sql) if mutant else (LAUNCH, ())
    sql = (*scenario.sql, *broken_tables)
    setting = Setting(
        name, seed, scenario.mix, protocol, scenario.batch_rows, launch=launch, sql=sql, healing_sql=scenario.healing_sql
    )
    plan, extent = scenario.plan(Random(f"{PLAN_SALT} {seed}"), scenario.extent(share)), scenario.extent(share)
    with arena(stack, setting, log_of(stack, name)) as fought:
        broken = _fight(fought, scenario, plan, extent)
        return _outcome(fought, scenario, broken, command(scenario, seed, protocol, share, mutant))


def _fight(fought: Arena, scenario: Scenario, plan: Plan, extent: Extent) -> str:
    """What the harness itself fell over, if it did: a figure of the report, and no reason not to run the other scenarios."""
    try:
        scenario.run(fought, plan, extent)
    except Exception:  # noqa: BLE001 - the top of a run
        return traceback.format_exc()
    return ""


def log_of(stack: LocalStack, name: str) -> Path:
    """What a run's sinks say."""
    return stack.home / "logs" / f"{name}.log"


def _outcome(fought: Arena, scenario: Scenario, broken: str, again: str) -> Outcome:
    until_s = time.monotonic()
    end = fought.end()
    return Outcome(
        scenario=scenario.name,
        shows=scenario.shows,
        seed=fought.setting.seed,
        protocol=fought.setting.protocol,
        again=again,
        struck=dict(fought.struck),
        missed=dict(fought.missed),
        records=len(fought.ledger),
        rows=sum(len(rows) for rows in end.found.rows.values()),
        dead_letters=len(end.found.letters),
        gaps=len(end.found.gaps),
        verdict=end.verdict,
        opinion=end.opinion,
        second_line=scenario.second_line,
        finished=end.drained and not broken,
        trouble=broken + ("" if end.drained else end.drain_said),
        pause_limit_s=scenario.pause_limit_s,
        longest_pause_s=round(fought.longest_pause_s(fought.began_s, until_s), 2),
        seconds=round(time.monotonic() - fought.began_s, 1),
    )
