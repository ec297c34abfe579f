"""Verification: what is sound and equal, what differs and why, and what must never be called sound."""

from typing import Any

import pytest
from confluent_kafka import Producer

from tests.stream_processors.replay_fixture import TABLE, asked, filled, planned, table_of, tailrace
from tests.stream_processors.warehouse_fixture import Bench, interactions

pytestmark = pytest.mark.integration

RECORDS = 1200
COORDINATES = "_topic_id, _partition, _offset, _kafka_time, _schema_id, _run, unit_id, event_id"


@pytest.fixture
def brought_in(bench: Bench) -> Bench:
    values: list[bytes | None] = [*interactions(bench, RECORDS), b"poison", None]
    bench.produce(values)
    bench.drain()
    return bench


def verified(bench: Bench, run: str) -> dict[str, Any]:
    return asked(bench, "replay", "verify", run, "--json").fields


def altered(bench: Bench, statement: str) -> None:
    bench.command_sql(f"{statement} SETTINGS mutations_sync = 1, lightweight_deletes_sync = 1")


def test_a_run_of_what_live_has_is_verified_and_a_spoilt_live_table_is_explained_row_by_row(brought_in: Bench) -> None:
    run = filled(brought_in)

    found = verified(brought_in, run)
    said = asked(brought_in, "replay", "verify", run)

    assert (found["state"], found["sound"], found["equal"]) == ("verified", True, True)
    assert found["comparison"]["rows"] == RECORDS
    assert (found["sample"]["looked_at"], found["sample"]["misread"]) == (100, [])
    assert (said.code, "is verified: every record is in once, and equal to live" in said.out) == (0, True)

    altered(brought_in, "ALTER TABLE interactions UPDATE surface = 'spoilt' WHERE _partition = 1 AND _offset < 5")
    altered(brought_in, "ALTER TABLE interactions DELETE WHERE _partition = 2 AND _offset = 7")
    altered(brought_in, "ALTER TABLE dead_letters DELETE WHERE reason = 'magic'")
    spoilt = asked(brought_in, "replay", "verify", run, "--json")

    assert (spoilt.code, spoilt.fields["state"]) == (1, "differs")
    assert (spoilt.fields["sound"], spoilt.fields["equal"]) == (True, False)
    assert spoilt.fields["comparison"]["counts"] == {"other_values": 5, "missing_in_live": 2}
    assert spoilt.fields["comparison"]["columns"] == {"surface": 5}
    explained = {(each["partition"], each["offset"]): (each["kind"], each["agrees"]) for each in spoilt.fields["explained"]}
    assert explained[1, 3] == ("other_values", "run")
    assert explained[2, 7] == ("missing_in_live", "")
    shown = asked(brought_in, "replay", "show", run, "--json").fields
    assert (shown["state"], shown["steps"][-1]["detail"]["differences"]) == ("differs", {"other_values": 5, "missing_in_live": 2})


def test_a_repaired_dead_letter_and_what_only_live_could_not_take_are_told_apart(brought_in: Bench) -> None:
    [(partition, offset)] = brought_in.rows("SELECT _partition, _offset FROM dead_letters WHERE reason = 'magic'")
    letter = asked(brought_in, "dlq", "show", f"{brought_in.topic()}:{partition}:{offset}", "--json").fields
    run = filled(brought_in)
    assert verified(brought_in, run)["equal"] is True

    brought_in.command_sql(
        "INSERT INTO interactions (_framed, _owned, _free, _topic_id, _partition, _offset, _kafka_time, _run)"
        " SELECT 0, 0, 0, _topic_id, _partition, _offset, _kafka_time, 'repaired' FROM dead_letters"
        " WHERE reason = 'magic'"
    )
    brought_in.command_sql(
        "INSERT INTO dead_letters (_framed, _owned, _free, _topic_id, _partition, _offset, _kafka_time, _schema_id, _run, topic)"
        " SELECT 0, 0, 0, _topic_id, _partition, _offset, _kafka_time, 1, 'live', 't' FROM interactions"
        " WHERE _partition = 0 AND _offset = 3"
    )
    altered(brought_in, "ALTER TABLE interactions DELETE WHERE _partition = 0 AND _offset = 3")
    found = verified(brought_in, run)

    assert letter["reason"] == "magic"
    assert found["comparison"]["counts"] == {"repaired": 1, "taken_now": 1}
    assert {(each["partition"], each["offset"], each["kind"]) for each in found["explained"]} == {
        (partition, offset, "repaired"),
        (0, 3, "taken_now"),
    }


def test_a_run_that_is_not_what_the_log_says_is_not_sound_and_running_it_again_brings_back_what_is_missing(
    brought_in: Bench,
) -> None:
    run = filled(brought_in)
    table = table_of(run)

    altered(brought_in, f"DELETE FROM {table} WHERE _partition = 3 AND _offset = 11")
    assert_unsound(brought_in, run, "1 are MISSING (11)")
    assert tailrace(brought_in, "replay", "run", run, "--json").fields["rows"] == 1
    altered(brought_in, "DELETE FROM replay_dead_letters WHERE reason = 'empty'")
    assert_unsound(brought_in, run, "1 are MISSING")
    assert tailrace(brought_in, "replay", "run", run, "--json").fields["dead_letters"] == 1
    assert verified(brought_in, run)["equal"] is True
    brought_in.command_sql(f"SYSTEM STOP MERGES {table}")  # copies would go
    brought_in.command_sql(
        f"INSERT INTO {table} (_framed, _owned, _free, {COORDINATES}) SELECT 0, 0, 0, {COORDINATES} FROM {table} LIMIT 3"
    )
    assert_unsound(brought_in, run, "there TWICE")


def assert_unsound(bench: Bench, run: str, words: str) -> None:
    said = asked(bench, "replay", "verify", run)
    assert (said.code, words in said.out, "is not sound" in said.out) == (1, True, True), said.out


def test_offsets_without_a_record_are_known_by_the_log(bench: Bench) -> None:
    values = interactions(bench, 90)
    options = {"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "transactional.id": bench.prefix}
    producer = Producer(options)
    producer.init_transactions(30)
    for first, ends in ((0, producer.commit_transaction), (30, producer.abort_transaction), (60, producer.commit_transaction)):
        producer.begin_transaction()
        for value in values[first : first + 30]:
            producer.produce(bench.topic(), value, partition=0)
        producer.flush(30)
        ends(30)
    run = filled(bench)

    found = verified(bench, run)

    [partition] = [each for each in found["partitions"] if each["partition"] == 0]
    assert (found["sound"], partition["present"], partition["holes"]["count"]) == (True, 60, 33)
    assert found["comparison"]["counts"] == {"missing_in_live": 60}
    assert tailrace(bench, "replay", "run", run, "--json").fields["rows"] == 0


def test_only_a_filled_run_is_verified_and_a_computed_one_is_held_against_the_log_alone(brought_in: Bench) -> None:
    early = asked(brought_in, "replay", "verify", planned(brought_in))
    run = filled(brought_in, "--select", "'x' AS surface")

    found = verified(brought_in, run)

    assert (early.code, "is not filled yet" in early.err) == (1, True)
    assert (found["state"], found["equal"], found["comparison"]) == ("verified", None, None)
    altered(brought_in, f"ALTER TABLE {table_of(run)} UPDATE item_id = 'y' WHERE 1")
    assert len(verified(brought_in, run)["sample"]["misread"]) == found["sample"]["looked_at"] - found["sample"]["dead_letters"]
    assert asked(brought_in, "replay", "verify", "r0000-none").code == 1
    assert TABLE in brought_in.topic()
