"""A thread that looks at the live sink's lag while a run goes on, and lets the run be as fast as that leaves room for."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from schemas.errors import PartUnreachable
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.replay.throttle import LiveLag, Rate, Yielding
from stream_processors.warehouse.records import Place

log = logging.getLogger(__name__)

LOOK_S = 0.1
SETTLE_S = 2.0
"""For so long the lag is watched before the run begins."""
STEP_S = 0.5
"""So often the rate changes."""


class LiveWatch:
    """Sets the rate of `rate` until it is left. A broker that does not answer leaves the rate as it is."""

    def __init__(self, kafka: KafkaLog, topics: list[str], rate: Rate) -> None:
        self._kafka, self._rate = kafka, rate
        self._places = [Place(name, each) for name, topic in kafka.topics(topics).items() for each in topic.partitions]
        self._yielding, self._lag = Yielding(rate.rows_per_s), LiveLag()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tailrace-replay-yield", daemon=True)
        self.lag_s = 0.0

    def __enter__(self) -> Self:
        lags_s = []
        until_s = time.monotonic() + SETTLE_S
        while time.monotonic() < until_s:
            lags_s.append(self._look())
            self._leaving.wait(LOOK_S)
        self._yielding.settle(lags_s)
        self._rate.rows_per_s = self._yielding.rows_per_s
        log.info("yields where the live sink is more than %.2f s behind", self._yielding.lag_s_max)
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._leaving.set()
        self._thread.join()

    def _watch(self) -> None:
        worst_s, stepped_s = 0.0, time.monotonic()
        while not self._leaving.wait(LOOK_S):
            worst_s = max(worst_s, self._look())
            if time.monotonic() - stepped_s >= STEP_S:
                self._rate.rows_per_s = self._yielding.after(worst_s)
                worst_s, stepped_s = 0.0, time.monotonic()

    def _look(self) -> float:
        try:
            ends = self._kafka.ends(self._places)
            committed = {place: position.offset for place, position in self._kafka.committed(self._places).items()}
        except PartUnreachable as trouble:
            log.warning("how far the live sink is behind: %s", trouble)
            return self.lag_s
        self.lag_s = self._lag.note(time.monotonic(), ends, committed)
        return self.lag_s
