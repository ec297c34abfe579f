"""When a partition that got nowhere tries again."""

from typing import cast

from stream_processors.warehouse.batch import Batch
from stream_processors.warehouse.errors import Retryable, TooManyDeadLetters
from stream_processors.warehouse.partition import PAUSE_S_MAX, STOPPED_PAUSE_S, Partition
from stream_processors.warehouse.tenure import Tenure

TROUBLE = Retryable("the warehouse is away")
STOPPED = TooManyDeadLetters("half of them")


def partition() -> Partition:
    return Partition(cast(Tenure, None), Batch(0), None)  # none of this asks the tenure


def pauses(one: Partition, trouble: Retryable, tries: int) -> list[float]:
    """Of so many tries in which it is owned, and fails at the first record."""
    found, now_s = [], 0.0
    for _ in range(tries):
        found.append(one.rest(trouble, now_s, lambda: 1.0))
        now_s += found[-1]
        one.owned(start=7)
    return found


def test_being_owned_again_does_not_shorten_the_rest_of_one_that_fails_at_its_first_record() -> None:
    assert pauses(partition(), TROUBLE, 12)[-1] == PAUSE_S_MAX
    assert pauses(partition(), STOPPED, 12)[-1] == STOPPED_PAUSE_S


def test_a_batch_that_is_in_or_a_good_while_without_failures_lets_it_begin_with_short_rests() -> None:
    one = partition()
    first = pauses(one, TROUBLE, 5)[0]

    one.delivered(now_s=10.0, now_ms=10_000)
    assert one.rest(TROUBLE, 10.0, lambda: 1.0) == first

    pauses(one, TROUBLE, 5)
    assert one.rest(TROUBLE, 10_000.0, lambda: 1.0) == first


def test_whoever_fails_first_when_owned_shows_no_trouble_while_it_tries() -> None:
    one = partition()
    one.rest(STOPPED, 0.0, lambda: 0.0)
    assert str(one.trouble) == str(STOPPED)

    one.owned(start=7)

    shown = (one.trouble, one.waiting_since_s, one.gathering.end)
    assert shown == (None, None, 7)
