"""Events whose way is timed: sent at fixed times to every partition in turn, and looked for in the warehouse all the while.

Truth is a SELECT that sees it. A probe that is sent late because we were slow counts from when it was due.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import clickhouse_connect
from confluent_kafka import Producer

from deploy.settings import KAFKA_BOOTSTRAP, WAREHOUSE_URL
from producers.kafka_transport import DEFAULT_OPTIONS
from schemas.codec import Codec
from schemas.events import Interaction, UnitId
from schemas.topics import INTERACTIONS
from tests.benchmarks.filling import schema_id_of
from tests.benchmarks.ground import Place
from tests.benchmarks.workloads import WORKLOADS, interaction
from tests.waiting import eventually

INTERVAL_S = 0.01
LOOK_S = 0.02
LAST_LIMIT_S = 300
"""A sink that falls behind shows in the figures; one that far behind ends the run."""
FLUSH_LIMIT_S = 60
LOOK_LIMIT_S = 30
_SEEN = "SELECT unit_id, max(producer_seq) FROM interactions WHERE unit_id IN ({units}) GROUP BY unit_id"


class Sent(NamedTuple):
    partition: int
    number: int
    due_s: float


class Seen(NamedTuple):
    """The last number of each partition that was there at a time."""

    at_s: float
    numbers: Mapping[int, int]


def latencies(sent: Sequence[Sent], seen: Sequence[Seen]) -> list[float]:
    """Seconds from when a probe was due to the first look that saw it. All have been seen. Pure."""
    found = []
    for partition in {probe.partition for probe in sent}:
        looks = iter(seen)
        look = next(looks)
        for probe in (probe for probe in sent if probe.partition == partition):
            while look.numbers.get(partition, -1) < probe.number:
                look = next(looks)
            found.append(look.at_s - probe.due_s)
    return found


@dataclass
class Probes:
    """Sends and looks, each in a thread of its own."""

    place: Place
    sent: list[Sent] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _all_sent: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """At the end of the block all that were sent have been seen."""
        with ThreadPoolExecutor(2) as threads:
            sending, looking = threads.submit(self._send), threads.submit(self._look)
            try:
                yield
                self._all_sent.set()
                sending.result(FLUSH_LIMIT_S)
                complete = eventually(lambda: looking.done() or self._complete(), LAST_LIMIT_S)
            finally:
                self._all_sent.set()
                self._ending.set()
            looking.result(LOOK_LIMIT_S)
        assert complete, f"the last probe was not seen within {LAST_LIMIT_S} s: the sink does not keep up"

    def _complete(self) -> bool:
        last = {probe.partition: probe.number for probe in self.sent}
        return bool(self.seen) and all(self.seen[-1].numbers.get(partition, -1) >= last[partition] for partition in last)

    def _send(self) -> None:
        producer = Producer({**DEFAULT_OPTIONS, "bootstrap.servers": self.place.variables[KAFKA_BOOTSTRAP], "log_level": 3})
        schema_id, codec = schema_id_of(self.place.variables, WORKLOADS["flat"]), Codec(Interaction)
        topic, began_s, number = self.place.topic(INTERACTIONS), time.perf_counter(), 0
        while not self._all_sent.is_set():
            due_s, partition = began_s + number * INTERVAL_S, number % INTERACTIONS.partitions
            self._all_sent.wait(max(0.0, due_s - time.perf_counter()))
            event = replace(interaction(number), unit_id=UnitId(_unit(partition)))
            producer.produce(topic, codec.encode(event, schema_id), partition=partition)
            producer.poll(0)
            self.sent.append(Sent(partition, number, due_s))
            number += 1
        assert producer.flush(FLUSH_LIMIT_S) == 0, "the broker takes all probes"

    def _look(self) -> None:
        partitions = {_unit(partition): partition for partition in range(INTERACTIONS.partitions)}
        statement = _SEEN.format(units=", ".join(f"'{unit}'" for unit in partitions))
        with clickhouse_connect.get_client(dsn=self.place.variables[WAREHOUSE_URL]) as client:
            while not self._ending.wait(LOOK_S):
                rows = client.query(statement).result_rows
                self.seen.append(Seen(time.perf_counter(), {partitions[unit]: number for unit, number in rows}))


def _unit(partition: int) -> str:
    return f"probe-{partition}"
