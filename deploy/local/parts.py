"""The three parts of the local stack, put together from the stack's plan."""

import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from deploy.local import kafka, registry, warehouse
from deploy.local.artifacts import Programs, Report, cached_programs, fetch_programs, locked_artifacts
from deploy.local.java import JavaProgram, make_startup_caches
from deploy.local.part import Part
from deploy.local.ports import free_port
from deploy.local.state import StackPlan

NAMES = (kafka.NAME, registry.NAME, warehouse.NAME)
JAVA_NAMES = frozenset({kafka.NAME, registry.NAME})

_SCRATCH = StackPlan(0, 0, 0, 0, kafka.new_cluster_id(), "", "")
"""The plan of a stack that is started once to be watched, but for its ports."""


def stack_parts(home: Path, cache: Path, plan: StackPlan, names: Collection[str]) -> list[Part]:
    """The parts that `names` asks for, ready to be started once `prepare_parts` has been called."""
    programs = cached_programs(cache, locked_artifacts())
    parts = [part for part, _ in _java_parts(home, cache, plan, programs)]
    parts.append(warehouse.warehouse_part(home / warehouse.NAME, plan.warehouse_port, plan.writer_password, plan.reader_password))
    return [part for part in parts if part.name in names]


def prepare_parts(home: Path, cache: Path, plan: StackPlan, names: Collection[str], report: Report) -> None:
    """Fetch programs, make start-up caches and directories, write settings. Raises PartUnreachable."""
    for name in names:
        (home / name).mkdir(parents=True, exist_ok=True)
    if JAVA_NAMES.isdisjoint(names):
        return
    programs = fetch_programs(cache, report)
    _make_startup_caches(cache, programs, report)
    if kafka.NAME in names:
        kafka.prepare_kafka(programs, home / kafka.NAME, plan.kafka_port, plan.kafka_controller_port, plan.kafka_cluster_id)


def _java_parts(home: Path, cache: Path, plan: StackPlan, programs: Programs) -> list[tuple[Part, JavaProgram]]:
    broker = kafka.kafka_program(programs, cache, home / kafka.NAME)
    schemas = registry.registry_program(programs, cache)
    return [
        (kafka.kafka_part(broker, home / kafka.NAME, plan.kafka_port), broker),
        (registry.registry_part(schemas, home / registry.NAME, plan.registry_port), schemas),
    ]


def _make_startup_caches(cache: Path, programs: Programs, report: Report) -> None:
    """By a start of each program on free ports in a scratch stack, which is thrown away."""
    if all(program.startup_cache.is_file() for _, program in _java_parts(cache, cache, _SCRATCH, programs)):
        return
    with tempfile.TemporaryDirectory(dir=cache, prefix="partial-") as scratch:
        home = Path(scratch)
        plan = replace(_SCRATCH, kafka_port=free_port(), kafka_controller_port=free_port(), registry_port=free_port())
        kafka.prepare_kafka(programs, home / kafka.NAME, plan.kafka_port, plan.kafka_controller_port, plan.kafka_cluster_id)
        (home / registry.NAME).mkdir()
        make_startup_caches(cache, _java_parts(home, cache, plan, programs), report)
