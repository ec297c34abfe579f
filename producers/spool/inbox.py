"""What was submitted to the spool, and is not begun to be written. Bounded in events and in bytes.

One thread puts, two may take.
"""

import threading
from collections import deque
from typing import NamedTuple

from producers.parcel import Parcel

EVENTS_MAX = 20_000
BYTES_MAX = 64 << 20


class Submitted(NamedTuple):
    parcel: Parcel
    held: bool

    @property
    def data_bytes(self) -> int:
        return len(self.parcel.record.datum)


class Inbox:
    """`_lock` guards both fields."""

    def __init__(self) -> None:
        self._waiting: deque[Submitted] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, submitted: Submitted) -> bool:
        """False where it is full. One that is larger than all the room has it to itself."""
        size = submitted.data_bytes
        with self._lock:
            if self._waiting and (len(self._waiting) >= EVENTS_MAX or self._bytes + size > BYTES_MAX):
                return False
            self._waiting.append(submitted)
            self._bytes += size
        return True

    def take(self, events_max: int) -> list[Submitted]:
        """The oldest, alike in whether they are held."""
        taken: list[Submitted] = []
        with self._lock:
            waiting = self._waiting
            while waiting and len(taken) < events_max and waiting[0].held == (taken or waiting)[0].held:
                taken.append(waiting.popleft())
            self._bytes -= sum(submitted.data_bytes for submitted in taken)
        return taken

    def empty(self) -> list[Submitted]:
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
        return taken
