"""Kafka lets go of records: topics deleted and made anew, offsets expired before they were read. It has to be on record."""

import threading
from random import Random

from confluent_kafka import KafkaException, TopicPartition

from deploy.provision import provision
from deploy.settings import Installation
from schemas.errors import PartUnreachable
from schemas.topics import INTERACTIONS, SHARED_PARTITIONS, topic_name
from tests.faults.arena import Arena
from tests.faults.poison import MISFRAMED
from tests.faults.records import Mix
from tests.faults.scenario import Extent, Plan, Scenario
from tests.waiting import eventually

SINKS = 2
RECORDS = 1500
ANSWER_TIMEOUT_S = 30
MADE_ANEW_LIMIT_S = 60
LOOKED_AT_LIMIT_S = 60
EVERYTHING = 1 << 62

_MIX = Mix(poison=0.005, kinds=MISFRAMED, recommendations=0.1)


def _no_plan(_random: Random, _extent: Extent) -> Plan:
    return []


def _run_recreations(arena: Arena, _plan: Plan, extent: Extent) -> None:
    """In turns under running sinks and while none runs; what was not in by then is gone.

    A topic that ended before any sink had looked at it leaves nothing to tell of: each is looked at before it ends.
    """
    for number in range(extent.points):
        _work_a_while(arena)
        assert eventually(lambda: _looked_at(arena), LOOKED_AT_LIMIT_S), "a sink has looked at the topic"
        if number % 2:
            arena.fleet.kill_all()
            arena.traffic.send(RECORDS)
        _make_anew(arena)
        arena.struck[f"topic made anew {'between' if number % 2 else 'under'} sinks"] += 1
        arena.traffic.send(RECORDS)
    _work_a_while(arena)


def _run_expiries(arena: Arena, _plan: Plan, extent: Extent) -> None:
    for number in range(extent.points):
        _work_a_while(arena)
        if number % 2:
            arena.fleet.kill_all()
        arena.traffic.send(RECORDS)
        _expire(arena)
        arena.struck[f"expired {'between' if number % 2 else 'under'} sinks"] += 1
    _work_a_while(arena)


def _work_a_while(arena: Arena) -> None:
    """Some of the records are in when it returns, in general not all."""
    arena.fleet.ensure(SINKS)
    arena.traffic.send(RECORDS)
    threading.Event().wait(arena.random.uniform(0.5, 4.0))


def _looked_at(arena: Arena) -> bool:
    return arena.traffic.topic_id(INTERACTIONS) in arena.warehouse.topic_ids()


def _make_anew(arena: Arena) -> None:
    name = topic_name(arena.variables["TAILRACE_TOPIC_PREFIX"], INTERACTIONS)
    old = arena.traffic.topic_id(INTERACTIONS)
    arena.admin.delete_topics([name], request_timeout=ANSWER_TIMEOUT_S)[name].result()
    for partition in range(SHARED_PARTITIONS):
        arena.ledger.let_go(old, partition, EVERYTHING)

    def made_anew() -> bool:
        """The broker deletes in its own time, and refuses to make it until then."""
        try:
            provision(Installation.from_environment(arena.variables))
            arena.traffic.topics_were_made_anew()
            return arena.traffic.topic_id(INTERACTIONS) != old
        except (PartUnreachable, KafkaException):
            return False

    assert eventually(made_anew, MADE_ANEW_LIMIT_S), "the topic is there again"


def _expire(arena: Arena) -> None:
    """Each partition loses a random part of what it holds, as retention would take it."""
    name, topic_id = topic_name(arena.variables["TAILRACE_TOPIC_PREFIX"], INTERACTIONS), arena.traffic.topic_id(INTERACTIONS)
    ends = dict.fromkeys(range(SHARED_PARTITIONS), 0)
    for where in arena.ledger.entries:
        if where.topic_id == topic_id:
            ends[where.partition] = max(ends[where.partition], where.offset + 1)
    cuts = [TopicPartition(name, partition, arena.random.randint(end // 2, end)) for partition, end in ends.items() if end]
    for cut in cuts:
        arena.ledger.let_go(topic_id, cut.partition, cut.offset)
    for future in arena.admin.delete_records(cuts, request_timeout=ANSWER_TIMEOUT_S).values():
        future.result()


RECREATED = Scenario(
    name="recreated",
    shows="A topic deleted and made anew, under running sinks and between two",
    plan=_no_plan,
    run=_run_recreations,
    points=4,
    mix=_MIX,
)
EXPIRED = Scenario(
    name="expired",
    shows="Offsets expired before they were read, under running sinks and between two",
    plan=_no_plan,
    run=_run_expiries,
    points=4,
    mix=_MIX,
)
