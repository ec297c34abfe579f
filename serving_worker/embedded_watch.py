"""Keeping a host's experiments up to date beside its own work: for whoever embeds them, and may fork.

One thread looks at the files, another follows the topic for all processes of the host. What goes wrong, foreseen or not, is told
by `problem`, said once, and done again. A forked process has none of its parent's threads, so it gets its own at once: what is
stopped or killed must be seen there as soon as anywhere. No fork waits for a look, which may wait for a disk: what it inherits of
one is done again.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from weakref import WeakSet

from producers.main import now_us
from schemas.events import Micros
from serving_worker.experiments.definitions import ExperimentFile, Snapshot
from serving_worker.experiments.feed import LastLook, following, reload
from serving_worker.experiments.following import Errand, Hitches

logger = logging.getLogger(__name__)

END_S = 5.0
"""For a look that is under way."""
FOLLOWED_US = 60_000_000
"""A snapshot that is no older is kept by somebody: an idle follower dates it anew every few seconds."""


class EmbeddedWatch:
    """Looks at `experiments` at once, and every `reload_s` until it is closed. Without an `errand` others write the files."""

    def __init__(
        self,
        experiments: ExperimentFile,
        reload_s: float,
        errand: Errand | None = None,
        *,
        now_us: Callable[[], Micros] = now_us,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._experiments, self._reload_s, self._errand = experiments, reload_s, errand
        self._now_us = now_us
        self._last_look, self._hitches = LastLook(reload_s, monotonic_s), Hitches(monotonic_s, self._count_hitch)
        self._listeners: list[Callable[[], None]] = []
        self._fault: str | None = None
        self._failed_looks = self._failed_tries = 0
        """Each is counted by one thread."""
        self._look()
        _look_after_forks()
        self.begin()
        _WATCHES.add(self)

    def snapshot(self) -> Snapshot | None:
        """The last good copy; None before there was one."""
        return self._experiments.snapshot()

    @property
    def problem(self) -> str | None:
        """What is wrong with the files, with looking at them, or with what keeps them new; None where all is well."""
        told = self._fault, self._last_look.trouble(), self._experiments.problem, *self._troubles_of_age(self._now_us())
        return "; ".join(filter(None, told)) or None

    @property
    def faults(self) -> int:
        """Looks that failed for a reason that nobody foresaw, and tries to have the topic followed that failed."""
        return self._failed_looks + self._failed_tries

    @contextmanager
    def telling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Within it `listener` is called after every look that did not fail, on the thread that looks."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def end(self) -> None:
        """Look and follow no more. What is under way then, `close` waits for."""
        _WATCHES.discard(self)
        self._ending.set()

    def close(self) -> None:
        self.end()
        self._following.close()
        self._thread.join(END_S)

    def begin_anew(self) -> None:
        """In a forked process: what was the parent's stays as it is, its threads are gone."""
        _LEFT.append(self._following)
        self.begin()

    def begin(self) -> None:
        """In this process."""
        self._ending, self._following = threading.Event(), ExitStack()
        self._following.enter_context(following(self._errand, self._hitches, self._ending))
        self._thread = threading.Thread(target=self._watch, args=(self._ending,), name="tailrace-experiments", daemon=True)
        self._thread.start()

    def _watch(self, ending: threading.Event) -> None:
        self._look()
        while not ending.wait(self._reload_s):
            self._look()

    def _look(self) -> None:
        try:
            reload(self._experiments)
            for listener in tuple(self._listeners):
                listener()
        except Exception as error:
            self._failed_looks += 1
            if repr(error) != self._fault:
                logger.exception("looking at the experiments failed; they stay as they were, and are looked at again")
            self._fault = repr(error)
        else:
            self._fault = None
        self._last_look.ended()

    def _count_hitch(self) -> None:
        self._failed_tries += 1

    def _troubles_of_age(self, now: Micros) -> Iterator[str | None]:
        """Who cannot follow tells it where nobody else of the host does either: those who have no right to may be the others."""
        snapshot = self.snapshot()
        if snapshot is not None and not snapshot.holds(now):
            yield "the definitions are too old to be served, or dated in the future"
        validity = None if snapshot is None else snapshot.validity
        if validity is None or now - validity.as_of >= FOLLOWED_US:
            yield self._hitches.trouble()


_WATCHES: WeakSet[EmbeddedWatch] = WeakSet()
_LEFT: list[ExitStack] = []
"""What forked processes have of their parents' followers. Ending them would wait for locks that nobody will release."""


@cache
def _look_after_forks() -> None:
    os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for watch in list(_WATCHES):
        watch.begin_anew()
