"""A few threads that work on partitions. They never keep the process from ending: what they do may hang in the network."""

import queue
import threading
from collections.abc import Callable


class Crew:
    """Runs jobs on `size` threads. A job must not raise: what it has to say, it says itself."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for number in range(size):
            threading.Thread(target=self._work, name=f"tailrace-sink-{number}", daemon=True).start()

    def take(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()
