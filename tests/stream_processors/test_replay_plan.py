"""Planning against a real topic: times become offsets, what has expired is named, and what makes no sense changes nothing."""

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.stream_processors.replay_fixture import TABLE, asked, planned, tailrace
from tests.stream_processors.warehouse_fixture import Bench, interactions

pytestmark = pytest.mark.integration

ANSWER_LIMIT_S = 30


def expire(bench: Bench, before: int) -> None:
    """Kafka lets go of the first offsets of every partition."""
    client = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    places = [TopicPartition(bench.topic(), partition, before) for partition in range(4)]
    for future in client.delete_records(places).values():
        future.result(ANSWER_LIMIT_S)


def kafka_time_of_the_end(bench: Bench) -> str:
    """A moment behind everything that the sink has brought in, and not in the future."""
    [(newest,)] = bench.rows("SELECT toString(max(_kafka_time) + INTERVAL 1 MILLISECOND) FROM interactions")
    return f"{newest}+00:00"


def manifest(bench: Bench, run: str) -> dict[str, object]:
    found: dict[str, object] = asked(bench, "replay", "show", run, "--json").fields["manifest"]
    return found


def runs(bench: Bench) -> int:
    return len(asked(bench, "replay", "list", "--json").fields["runs"])


def test_times_become_offsets_and_the_ends_are_fixed(bench: Bench) -> None:
    bench.produce(interactions(bench, 400))
    bench.drain()
    between = kafka_time_of_the_end(bench)
    bench.produce(interactions(bench, 400, first=400))

    before, after = planned(bench, "--to", between), planned(bench, first=between)
    bench.produce(interactions(bench, 400, first=800))

    [first, second] = [manifest(bench, run) for run in (before, after)]
    counts = bench.rows("SELECT _partition, count() FROM interactions GROUP BY 1 ORDER BY 1")
    assert [(each["partition"], each["first"], each["end"]) for each in first["ranges"]] == [(p, 0, n) for p, n in counts]  # type: ignore[attr-defined]
    assert [each["first"] for each in second["ranges"]] == [n for _, n in counts]  # type: ignore[attr-defined]
    assert sum(each["end"] - each["first"] for each in second["ranges"]) == 400  # type: ignore[attr-defined]
    assert first["schema_ids"] == [bench.schema_id("Interaction")]


def test_what_has_expired_is_named_and_only_left_out_when_that_is_said(bench: Bench) -> None:
    bench.produce(interactions(bench, 400))
    bench.drain()
    behind = kafka_time_of_the_end(bench)
    expire(bench, 10)

    by_offset = asked(bench, "replay", "plan", "--topic", TABLE, "--from", "0")
    by_time = asked(bench, "replay", "plan", "--topic", TABLE, "--from", "1h")

    for said in (by_offset, by_time):
        assert said.code == 1
        assert "40 offsets cannot be had" in said.err
        assert "partition 2: 0–9 (expired: Kafka's log begins at 10)" in said.err
    assert runs(bench) == 0, "nothing was kept"
    run = planned(bench, "--allow-missing", first="0")
    assert [each["first"] for each in manifest(bench, run)["ranges"]] == [0] * 4  # type: ignore[attr-defined]
    assert tailrace(bench, "replay", "run", run, "--json").fields["rows"] == 360
    kept = planned(bench)
    assert [each["first"] for each in manifest(bench, kept)["ranges"]] == [10] * 4  # type: ignore[attr-defined]
    later = asked(bench, "replay", "plan", "--topic", TABLE, "--from", behind)
    assert (later.code, "nothing to replay" in later.err) == (1, True)


def test_what_expires_after_planning_stops_the_run_and_is_named(bench: Bench) -> None:
    bench.produce(interactions(bench, 400))
    run = planned(bench)
    expire(bench, 10)

    said = tailrace(bench, "replay", "run", run)

    assert said.code == 1
    assert f"{bench.topic()}[3]: Kafka's log begins at 10 by now, and 0 is still to be read" in said.err


NONSENSE = [
    (("--from", "7", "--to", "3"), 2, "is not before"),
    (("--from", "2999-01-01"), 2, "in the future"),
    (("--from", "0", "--to", "1000000"), 2, "only what has arrived"),
    (("--from", "9:0"), 2, "has no partition 9"),
    (("--from", "0:40", "--to", "0:40"), 1, "nothing to replay"),
    (("--from", "0", "--table", "recommendations"), 2, "recommendations has no column item_id"),
    (("--from", "0", "--table", "ingest_gaps"), 2, "no table that a topic is brought into"),
    (("--from", "0", "--table", "nowhere"), 2, "has no table nowhere"),
    (("--from", "0", "--select", "1 AS nothing"), 2, "has no column nothing"),
    (("--from", "0", "--select", "7 AS _offset"), 2, "stay as they are"),
    (("--from", "0", "--select", "nobody + 1 AS value"), 2, "is no list that interactions can answer"),
    (("--from", "0", "--transform", "json:nothing"), 2, "has no function nothing"),
    (("--from", "0", "--transform", "no_such_module:f"), 2, "cannot be imported"),
    (("--from", "0", "--source", "auto"), 2, "no archive is known"),
]


def test_what_cannot_be_planned_is_refused_with_words_and_nothing_is_kept(bench: Bench) -> None:
    bench.produce(interactions(bench, 400))

    for options, code, why in NONSENSE:
        said = asked(bench, "replay", "plan", "--topic", TABLE, *options)
        assert (said.code, why in said.err) == (code, True), (options, said.err)
    assert runs(bench) == 0


def test_a_plan_says_in_words_what_will_happen(bench: Bench) -> None:
    bench.produce(interactions(bench, 40))

    said = asked(bench, "replay", "plan", "--topic", TABLE, "--from", "beginning", "--select", "'x' AS surface")

    assert said.code == 0, said.err
    for words in ("It reads 40 offsets", "with 'x' AS surface computed by the warehouse", "Next: tailrace replay run r"):
        assert words in said.out
