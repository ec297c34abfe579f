"""What `/health` says of how the partitions stand."""

from dataclasses import replace

from stream_processors.warehouse.health import STUCK_S, verdict
from stream_processors.warehouse.records import Place, Standing

WELL = Standing(
    Place("interactions", 2),
    owned=True,
    stopped=False,
    lag_records=5,
    lag_s=0.2,
    waiting_s=0.2,
    progress_s=1.0,
    gathered=5,
    trouble=None,
)


def test_a_sink_that_gets_on_is_ready() -> None:
    assert verdict([WELL], loop_silent_s=0.1, broker_trouble=None)["ready"]
    assert verdict([], loop_silent_s=0.1, broker_trouble=None)["ready"]


def test_a_partition_that_gets_nowhere_makes_it_unready_and_is_named_with_the_reason() -> None:
    stuck = replace(WELL, waiting_s=STUCK_S + 1, trouble="the warehouse gave no answer")

    said = verdict([WELL, stuck], loop_silent_s=0.1, broker_trouble=None)

    assert not said["ready"]
    assert said["stuck"] == [
        {"topic": "interactions", "partition": 2, "waiting_s": STUCK_S + 1, "why": "the warehouse gave no answer"}
    ]


def test_a_stopped_partition_a_silent_loop_and_a_silent_broker_make_it_unready() -> None:
    assert not verdict([replace(WELL, stopped=True)], loop_silent_s=0.1, broker_trouble=None)["ready"]
    assert not verdict([WELL], loop_silent_s=STUCK_S + 1, broker_trouble=None)["ready"]
    assert verdict([WELL], loop_silent_s=0.1, broker_trouble="no answer")["broker"] == "no answer"
    assert not verdict([WELL], loop_silent_s=0.1, broker_trouble="no answer")["ready"]
