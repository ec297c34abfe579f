"""Which fault meets which request: counts the requests of each armed fault's step, and says when one has struck. Thread-safe."""

import threading
from dataclasses import dataclass, field

from tests.faults.plan import Fault
from tests.faults.statements import Step


@dataclass(slots=True)
class Armed:
    """A fault that waits for its request. `struck` is set once its effect has happened; `by` names the sink that it met."""

    fault: Fault
    left: int
    struck: threading.Event = field(default_factory=threading.Event)
    by: str = ""


class Strikes:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[Armed] = []

    def arm(self, fault: Fault) -> Armed:
        armed = Armed(fault, fault.nth)
        with self._lock:
            self._armed.append(armed)
        return armed

    def disarm(self) -> None:
        with self._lock:
            self._armed.clear()

    def meet(self, step: Step, sink: str) -> Armed | None:
        """The fault that meets this request of `sink`, which it does once."""
        with self._lock:
            due = None
            for armed in self._armed:
                if armed.fault.step is step:
                    armed.left -= 1
                    due = armed if armed.left == 0 else due
            if due is not None:
                self._armed.remove(due)
                due.by = sink
            return due
