"""The schemas' ids, asked for on a thread of its own: a registry that is away costs the courier nothing but the ids.

An id never changes, so one that is known is never asked for again.
"""

import logging
import threading
from collections.abc import Callable

from producers.errors import SchemaUnavailable
from producers.schema_ids import SchemaIds
from producers.seldom import level_of
from schemas.topics import Topic

logger = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 5.0
IDLE_S = 5.0

Wanted = tuple[str, int]
"""A topic's name and a contract's version."""


class KnownIds:
    """`failures` counts look-ups without an answer. Owns what `connect` makes."""

    def __init__(self, connect: Callable[[], SchemaIds]) -> None:
        self.failures = 0
        self._connect = connect
        self._ids: dict[Wanted, int] = {}
        self._wanted: dict[Wanted, Topic] = {}
        self._asked, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailrace-registry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def get(self, topic: Topic, version: int) -> int | None:
        """None where it is not known now; it is then asked for until it is."""
        wanted = (topic.name, version)
        found = self._ids.get(wanted)
        if found is None and wanted not in self._wanted:
            self._wanted[wanted] = topic
            self._asked.set()
        return found

    def close(self) -> None:
        """Ask nothing more. A question that hangs ends by itself."""
        self._closing.set()
        self._asked.set()

    def _run(self) -> None:
        schema_ids = self._connect()
        backoff_s = BACKOFF_MIN_S
        while not self._closing.is_set():
            if not self._wanted:
                self._asked.wait(IDLE_S)
                self._asked.clear()
            elif self._ask_all(schema_ids):
                backoff_s = BACKOFF_MIN_S
            else:
                self._asked.wait(backoff_s)
                self._asked.clear()
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        schema_ids.close()

    def _ask_all(self, schema_ids: SchemaIds) -> bool:
        """Whether all were answered. A registry that does not answer ends the round: the others would meet the same."""
        all_answered = True
        for wanted, topic in list(self._wanted.items()):
            try:
                self._ids[wanted] = schema_ids.lookup(topic, wanted[1])
            except Exception as error:  # noqa: BLE001 - the top of the thread's loop; whatever it is, it is asked again
                self._note(error)
                all_answered = False
                if not _lacks_it(error):
                    break
            else:
                del self._wanted[wanted]
        return all_answered

    def _note(self, error: Exception) -> None:
        """Tell of the first failure, and of every doubling of their number."""
        self.failures += 1
        trace = None if isinstance(error, SchemaUnavailable) else error
        logger.log(level_of(self.failures), "look-up %d failed: %s", self.failures, error, exc_info=trace)


def _lacks_it(error: Exception) -> bool:
    """Whether the registry has answered, and has no such schema so far."""
    return isinstance(error, SchemaUnavailable) and error.registered is False
