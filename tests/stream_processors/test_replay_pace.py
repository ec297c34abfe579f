"""How fast a run goes, how much slower beside a live sink that falls behind, and what it says of its progress."""

import pytest

from schemas.errors import PartUnreachable
from stream_processors.replay.progress import STALLED_S, Pacer, StallWatch
from stream_processors.replay.throttle import LAG_S_MIN, YIELD_ROWS_PER_S_FIRST, YIELD_ROWS_PER_S_MIN, LiveLag, Rate, Yielding
from stream_processors.warehouse.kafka_source import FETCH_RECORDS_MAX
from stream_processors.warehouse.records import Place

PLACE, OTHER = Place("t", 0), Place("t", 1)


def test_a_rate_is_kept_over_time_and_nothing_is_saved_up_for_a_burst() -> None:
    now_s = [100.0]
    rate, taken = Rate(lambda: now_s[0], 1000.0), 0
    for _ in range(200):
        now_s[0] += 0.01
        taken += rate.allowance()
        rate.took(rate.allowance())

    assert 1950 <= taken <= 2000
    now_s[0] += 3600.0
    assert rate.allowance() == 100, "a tenth of a second's"
    assert Rate(lambda: 0.0).allowance() == FETCH_RECORDS_MAX


def test_the_lag_is_since_when_a_log_has_had_more_than_is_committed() -> None:
    lag = LiveLag()

    assert lag.note(0.0, {PLACE: 10}, {PLACE: 10}) == 0.0
    assert lag.note(1.0, {PLACE: 20}, {PLACE: 10}) == 0.0, "it may have come this moment"
    assert lag.note(2.0, {PLACE: 30}, {PLACE: 10}) == 1.0
    assert lag.note(3.0, {PLACE: 30}, {PLACE: 25}) == 1.0, "what came at 2.0 is not in"
    assert lag.note(4.0, {PLACE: 30, OTHER: 7}, {PLACE: 30}) == 0.0, "what nobody ever committed is nobody's lag"


def test_a_run_that_gives_way_slows_down_at_once_and_speeds_up_slowly() -> None:
    yielding = Yielding(rows_per_s_max=6_000.0)
    yielding.settle([0.1, 0.8, 0.2])

    assert yielding.lag_s_max == pytest.approx(1.0)
    assert yielding.after(0.9) == pytest.approx(YIELD_ROWS_PER_S_FIRST * 1.1)
    for _ in range(5):
        yielding.after(0.0)
    assert yielding.rows_per_s == 6_000.0, "never faster than it may"
    assert yielding.after(1.1) == 3_000.0
    for _ in range(10):
        yielding.after(9.0)
    assert yielding.rows_per_s == YIELD_ROWS_PER_S_MIN
    assert Yielding().lag_s_max == LAG_S_MIN


def test_progress_has_the_rate_of_late_and_says_when_it_will_be_done() -> None:
    pacer = Pacer(1000)

    assert (pacer.note(0.0, 0).eta_s, pacer.note(0.0, 0).rows_per_s) == (None, 0.0)
    assert pacer.note(10.0, 100).eta_s == 90.0
    assert str(pacer.note(20.0, 300)) == "300/1,000 offsets (30.0 %), 20/s, 0:35 left"


def test_a_run_that_gets_nowhere_ends_with_an_error() -> None:
    watch = StallWatch(0.0)
    watch.refuse_stall(1.0, 5)
    watch.refuse_stall(1.0 + STALLED_S, 5)

    with pytest.raises(PartUnreachable, match="nothing was brought in"):
        watch.refuse_stall(1.1 + STALLED_S, 5)
