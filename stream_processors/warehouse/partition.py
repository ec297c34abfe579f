"""What the loop keeps of a partition beside its tenure: the batch that gathers, and when to try again. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass

from stream_processors.warehouse.batch import Batch
from stream_processors.warehouse.errors import Retryable
from stream_processors.warehouse.protocol import Step
from stream_processors.warehouse.records import Place
from stream_processors.warehouse.tenure import Tenure

PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 15.0
STOPPED_PAUSE_S = 60.0
"""A partition that needs somebody to mend something is looked at again after so long."""


@dataclass(slots=True)
class Partition:
    """One partition of the loop's. Its tenure belongs to the crew while `busy`."""

    tenure: Tenure
    gathering: Batch
    waiting_since_s: float | None
    """Since when it has something to do and has got nowhere; None while there is nothing to do."""
    busy: bool = False
    fetching: bool = False
    progress_ms: int = 0
    """When a batch was last in, by the wall clock."""
    log_end: int = -1
    """The offset after the log's last record, as of the last fetch."""
    failures: int = 0
    pause_until_s: float = 0.0
    trouble: Retryable | None = None
    """What made it rest."""

    @property
    def place(self) -> Place:
        return self.tenure.place

    @property
    def resting(self) -> bool:
        return not self.busy and self.tenure.step is Step.REST

    @property
    def ready(self) -> bool:
        """Owned, with something that could be delivered."""
        return not self.busy and self.tenure.step is Step.GATHER and self.gathering.opened_s is not None

    def cut(self) -> None:
        """What has gathered is to be delivered; what comes now gathers behind it."""
        self.tenure.batch, self.gathering = self.gathering, Batch(self.gathering.end)

    def bytes_in_hand(self) -> int:
        delivering = self.tenure.batch
        return self.gathering.bytes + (delivering.bytes if delivering else 0)

    def oldest_ms(self) -> int | None:
        """Kafka's time of the first record that is in hand and not in the warehouse."""
        delivering = self.tenure.batch
        return delivering.oldest_ms() if delivering else self.gathering.oldest_ms()

    def done_end(self) -> int:
        """The offset up to which all is in, as far as this process knows."""
        delivering = self.tenure.batch
        first = delivering.first_offset() if delivering else self.gathering.first_offset()
        return self.gathering.end if first is None else first

    def waiting_s(self, now_s: float) -> float:
        return 0.0 if self.waiting_since_s is None else now_s - self.waiting_since_s

    def owned(self, start: int) -> None:
        """It can be fetched from `start` on. Its failures stay: one that always fails at its first record is owned each time."""
        self.gathering, self.fetching = Batch(start), True
        self.trouble = self.waiting_since_s = None

    def delivered(self, now_s: float, now_ms: int) -> None:
        self.failures, self.trouble, self.progress_ms = 0, None, now_ms
        self.waiting_since_s = None if self.gathering.opened_s is None else now_s

    def rest(self, trouble: Retryable, now_s: float, jitter: Callable[[], float]) -> float:
        """Seconds until the next try: doubled with each failure, capped, and spread so that partitions do not try in step.

        Failures with a good while between them do not add up.
        """
        if now_s - self.pause_until_s > STOPPED_PAUSE_S:
            self.failures = 0
        longest_s = STOPPED_PAUSE_S if trouble.needs_somebody else PAUSE_S_MAX
        pause_s = min(longest_s, PAUSE_S_MIN * 2.0 ** min(self.failures, 10)) * (0.5 + jitter() / 2)
        self.failures += 1
        self.pause_until_s, self.trouble = now_s + pause_s, trouble
        self.gathering, self.fetching = Batch(0), False
        if self.waiting_since_s is None:
            self.waiting_since_s = now_s
        return pause_s
