"""What will be done to the sink and its surroundings: drawn from a seed, before anything runs. Pure.

The same seed gives the same plan. It does not give the same interleaving: processes, threads and a network stand between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.faults.statements import Step


class Moment(StrEnum):
    """Where in the life of a request a fault strikes."""

    BEFORE = "before it is forwarded"
    LATE = "before it is forwarded, which happens when its successor has inserted"
    MIDWAY = "in the middle of its body"
    RUNNING = "when it is forwarded whole and has no answer yet"
    APPLIED = "after the warehouse answered, before the sink hears it"
    ANSWERED = "after the sink has the answer"


class Effect(StrEnum):
    """What a fault does."""

    KILL_SINK = "kill -9 of the sink"
    KILL_WAREHOUSE = "kill -9 of the warehouse"
    KILL_BOTH = "kill -9 of sink and warehouse"
    STOP_SINK = "SIGSTOP of the sink"
    REFUSE = "answer 500"
    NO_SPACE = "answer NOT_ENOUGH_SPACE"
    HANG = "hold the request"
    DROP = "close the connection"
    REPEAT = "send the request twice"


@dataclass(frozen=True, slots=True)
class Fault:
    """The `nth` request of `step`, counted from the moment the fault is armed, meets `effect`.

    `seconds`: how long the request is held, where the effect holds it. A request whose sink was killed or stopped before it was
    forwarded is forwarded after so long all the same, if this is not 0: the zombie's late post.
    """

    label: str
    effect: Effect
    step: Step
    moment: Moment
    nth: int = 1
    seconds: float = 0.0

    def __str__(self) -> str:
        held = f", held {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.label}: {self.effect} at {self.step} no. {self.nth}, {self.moment}{held}"


Shape = tuple[Step, Moment]


@dataclass(frozen=True, slots=True)
class FaultClass:
    """A class of faults to draw from: one of `shapes`, the 1st to `nth_max`-th request, held between the two `seconds`."""

    label: str
    effect: Effect
    shapes: tuple[Shape, ...]
    nth_max: int = 1
    seconds: tuple[float, float] = (0.0, 0.0)

    def draw(self, random: Random) -> Fault:
        step, moment = random.choice(self.shapes)
        seconds = round(random.uniform(*self.seconds), 1)
        return Fault(self.label, self.effect, step, moment, random.randint(1, self.nth_max), seconds)


def draw_faults(random: Random, classes: Sequence[FaultClass], count: int) -> list[Fault]:
    """`count` faults, every class as often as the others (± 1), in random order."""
    order = random.sample(classes, len(classes))
    drawn = [order[number % len(order)].draw(random) for number in range(count)]
    random.shuffle(drawn)
    return drawn
