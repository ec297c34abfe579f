"""Poison of every kind on the real broker, registry and warehouse: buried once, shown, mended, and in once after a replay."""

import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.schema_registry import Schema

from schemas.codec import Codec
from schemas.contracts import contract
from schemas.events import ArmCount, Micros, ProducerCheckpoint, ProducerId
from schemas.topics import INTERACTIONS, subject
from schemas.wire import HEADER_BYTES, frame
from tests.stream_processors.warehouse_fixture import FLUSH_LIMIT_S, Bench, interaction, interactions
from tests.waiting import eventually

pytestmark = pytest.mark.integration

COMMAND_LIMIT_S = 90
LAND_LIMIT_S = 60
LARGE_BYTES = 3 << 20
"""More than a partition's fetch size of 1 MiB, and than the topic of dead letters takes."""
UNKNOWN_ID = 0x0FFFFF


def poison_of(bench: Bench) -> dict[str, tuple[str, bytes | None]]:
    """Every kind by name: the reason that it is to be buried for, and its bytes."""
    good = interactions(bench, 1)[0]
    checkpoint = ProducerCheckpoint(
        producer_id=ProducerId(interaction(0).producer_id),
        topic="interactions",
        occurred_at=Micros(1),
        next_seq=1,
        emitted=1,
        acknowledged=1,
        queued=0,
        spooled=0,
        dropped={},
        counts=(ArmCount(interaction(0).item_id, "a", 1),),  # type: ignore[arg-type]
        closed=False,
    )
    return {
        "bad magic": ("magic", b"\x01" + good[1:]),
        "json": ("magic", b'{"kind": "click"}'),
        "unknown id": ("unknown_schema", frame(UNKNOWN_ID, good[HEADER_BYTES:])),
        "an id that no registry gives": ("unknown_schema", b"\x00\xff\xff\xff\xff" + good[HEADER_BYTES:]),
        "cut in the frame": ("truncated", good[:3]),
        "cut after the frame": ("datum", good[:HEADER_BYTES]),
        "cut in the datum": ("datum", good[:-3]),
        "cut by a byte": ("datum", good[:-1]),
        "one byte more": ("datum", good + b"!"),
        "large": ("datum", good + Random(1).randbytes(LARGE_BYTES)),
        "tombstone": ("empty", None),
        "zero bytes": ("empty", b""),
        "wrong type": ("wrong_type", Codec(ProducerCheckpoint).encode(checkpoint, bench.schema_id("ProducerCheckpoint"))),
        "no uuid": ("engine", good.replace(interaction(0).event_id.encode(), b"z" * 36)),
        "no symbol": ("datum", good[:HEADER_BYTES] + other_symbol(good[HEADER_BYTES:])),
    }


def other_symbol(datum: bytes) -> bytes:
    """An interaction whose traffic is none: the byte before the producer's id."""
    at = datum.index(b"H" + interaction(0).producer_id.encode())
    return datum[: at - 1] + b"\x7e" + datum[at:]


def allow_large(bench: Bench) -> None:
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    entry = ConfigEntry("max.message.bytes", str(8 << 20), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, bench.topic(), incremental_configs=[entry])
    [answer] = admin.incremental_alter_configs([resource]).values()
    answer.result(30)


def produce(bench: Bench, values: Sequence[bytes | None], first: int = 0) -> None:
    """Each with a key and a header that tell it apart; all in partition 0, so that good and bad share batches."""
    options = {"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], "message.max.bytes": 8 << 20}
    producer = Producer({**options, "batch.size": 500_000})
    for number, value in enumerate(values, first):
        headers: list[tuple[str, str | bytes | None]] = [("number", str(number).encode())]
        producer.produce(bench.topic(), value, key=str(number), headers=headers, partition=0)
    assert producer.flush(FLUSH_LIMIT_S) == 0


def tailrace(bench: Bench, *arguments: str, expect: int = 0, stdin: str = "") -> str:
    done = subprocess.run(
        bench.command(*arguments),
        env=dict(bench.environment),
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
        input=stdin,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout if expect != 2 else done.stderr


def replay(bench: Bench, *arguments: str, expect: int = 0, stdin: str = "") -> dict[str, Any]:
    report: dict[str, Any] = json.loads(tailrace(bench, "dlq", "replay", "--json", *arguments, expect=expect, stdin=stdin))
    return report


def show(bench: Bench, offset: int) -> dict[str, Any]:
    letter: dict[str, Any] = json.loads(tailrace(bench, "dlq", "show", f"{bench.topic()}:0:{offset}", "--json"))
    return letter


@contextmanager
def sink(bench: Bench, log: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as output:
        running = subprocess.Popen(bench.command("sink"), env={**bench.environment, **variables}, stdout=output, stderr=output)
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)


def buried(bench: Bench) -> list[tuple[Any, ...]]:
    """(offset, reason, value as hex or None, key, headers, topic, whether an error is told), without FINAL."""
    return bench.rows(
        "SELECT _offset, reason, if(isNull(value), NULL, hex(value)), key, headers, topic, error != '' FROM dead_letters"
        " WHERE _partition = 0 ORDER BY _offset"
    )


def test_poison_of_every_kind_is_buried_once_whole_though_the_sink_is_killed_in_the_middle(bench: Bench, tmp_path: Path) -> None:
    allow_large(bench)
    kinds = list(poison_of(bench).values())
    good = interactions(bench, 3000)
    values: list[bytes | None] = []
    reasons: dict[int, str] = {}
    for at, usual in enumerate(good):
        if at % 100 == 50:
            reason, bad = kinds[at // 100 % len(kinds)]
            reasons[len(values)] = reason
            values.append(bad)
        values.append(usual)
    produce(bench, values)
    small = {
        "TAILRACE_SINK_BATCH_ROWS_MAX": "150",
        "TAILRACE_KAFKA_OPTIONS": "group.protocol=classic,session.timeout.ms=1000,heartbeat.interval.ms=300",
    }
    for landed in (300, 1500):
        with sink(bench, tmp_path / "log", **small):
            assert eventually(lambda landed=landed: bench.counts()[0] > landed, LAND_LIMIT_S), f"{landed} rows"  # type: ignore[misc]

    bench.drain(**small)

    assert bench.counts() == (3000, 3000)
    expected = [
        (at, reason, None if (value := values[at]) is None else value.hex().upper(), str(at).encode(), bench.topic(), 1)
        for at, reason in reasons.items()
    ]
    found = [
        (at, reason, value, key if isinstance(key, bytes) else str(key).encode(), topic, told)
        for at, reason, value, key, _, topic, told in buried(bench)
    ]
    assert found == expected
    assert [header_values(row[4]) for row in buried(bench)] == [[("number", str(at))] for at in reasons]
    letters = published(bench)
    assert letters.keys() == reasons.keys()
    assert {at: left_out for at, left_out in letters.items() if left_out is not None} == {
        at: b"%d bytes of value, 1 headers" % len(value) for at, value in enumerate(values) if value and len(value) > LARGE_BYTES
    }


def header_values(headers: Any) -> list[tuple[str, str]]:
    pairs = [tuple(header.values()) if isinstance(header, dict) else header for header in headers]
    return [(name, value.decode() if isinstance(value, bytes) else value) for name, value in pairs]


def published(bench: Bench) -> dict[int, bytes | None]:
    """What the topic of dead letters has: offset → what was left out."""
    options = {"group.id": f"{bench.prefix}look", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"], **options})
    consumer.subscribe([bench.topic("dead-letters")])
    found: dict[int, bytes | None] = {}
    try:
        while (message := consumer.poll(20)) is not None and message.error() is None:
            headers = dict(message.headers() or [])
            offset, left_out = headers["tailrace.offset"], headers.get("tailrace.left_out")
            assert isinstance(offset, bytes)
            assert not isinstance(left_out, str)
            found[int(offset)] = left_out
    finally:
        consumer.close()
    return found


def test_what_is_mended_lands_once_with_its_own_coordinates_while_a_sink_runs(bench: Bench, tmp_path: Path) -> None:
    good = interactions(bench, 400)
    broken: list[bytes | None] = [value + b"!" for value in good[:60]]
    produce(bench, [*broken, *good[60:200]])
    options = {"TAILRACE_SINK_BATCH_AGE_MS_MAX": "20"}
    with sink(bench, tmp_path / "log", **options):
        assert eventually(lambda: bench.counts() == (140, 140) and bench.counts("dead_letters") == (60, 60), LAND_LIMIT_S)
        times = dict(bench.rows("SELECT _offset, _kafka_time FROM dead_letters"))
        lines = []
        for offset in (0, 1, 59):
            letter = show(bench, offset)
            assert b64decode(letter["value_base64"]) == broken[offset]
            lines.append(json.dumps({**letter, "value_base64": b64encode(good[offset]).decode()}))
        (tmp_path / "mended").write_text("\n".join(lines))
        produce(bench, good[200:300], first=200)
        report = replay(bench, "--repaired", str(tmp_path / "mended"))
        assert (report["replayed"], report["still_poison"], report["warnings"]) == (3, 0, [])
        produce(bench, good[300:], first=300)
        assert eventually(lambda: bench.counts()[0] == 343, LAND_LIMIT_S)
        again = replay(bench, "--repaired", str(tmp_path / "mended"))

    assert (again["replayed"], again["already_in"]) == (0, 3)
    assert bench.counts() == (343, 343)
    assert bench.counts("dead_letters") == (60, 60)
    repaired = bench.rows(
        "SELECT _offset, _partition, _kafka_time, producer_seq, toString(event_id) FROM interactions"
        " WHERE _run = 'repaired' ORDER BY _offset"
    )
    assert repaired == [(at, 0, times[at], at, interaction(at).event_id) for at in (0, 1, 59)]
    listed = json.loads(tailrace(bench, "dlq", "list", "--topic", bench.topic(), "--json"))["letters"]
    assert {letter["offset"] for letter in listed if letter["repaired"]} == {0, 1, 59}
    assert len(listed) == 60


def test_letters_that_waited_for_their_schema_and_its_column_are_replayed_as_they_are(bench: Bench) -> None:
    """The ids stand for nothing when the records are read. One of them is registered later, and a migration adds its column."""
    schema = json.loads(contract("Interaction").newest.text)
    schema["fields"].append({"name": "channel", "type": "string", "default": "web"})
    schema["doc"] = f"Of {bench.prefix}"  # the registry gives a text that it knows from another test the id that it has
    with bench.registry() as registry:
        other = Schema('{"type": "record", "name": "Other", "fields": [{"name": "a", "type": "string"}]}', "AVRO")
        given = registry.register_schema(f"{bench.prefix}other-value", other)
    ids = range(given + 1, given + 9)
    datum = interactions(bench, 1)[0][HEADER_BYTES:] + b"\x06tel"
    produce(bench, [frame(schema_id, datum) for schema_id in ids])
    bench.drain()
    assert [row[1] for row in buried(bench)] == ["unknown_schema"] * 8
    chosen = ("--reason", "unknown_schema", "--since", "1h")
    assert replay(bench, *chosen, expect=1)["still_poison"] == 8

    with bench.registry() as registry:
        known = registry.register_schema(subject(bench.prefix, INTERACTIONS), Schema(json.dumps(schema), "AVRO"))
    behind = replay(bench, *chosen, expect=1)
    assert sorted(each["reason"] for each in behind["poison"]) == ["behind", *["unknown_schema"] * 7]
    bench.command_sql("ALTER TABLE interactions ADD COLUMN channel String DEFAULT 'web'")
    assert replay(bench, *chosen, "--dry-run", expect=1)["would_replay"] == 1
    assert bench.counts() == (0, 0)

    report = replay(bench, *chosen, expect=1)

    assert (report["replayed"], report["still_poison"]) == (1, 7)
    assert bench.rows("SELECT channel, _schema_id, _run FROM interactions") == [("tel", known, "repaired")]


def test_fields_are_mended_as_json_and_written_under_the_newest_contract(bench: Bench) -> None:
    good = interactions(bench, 2)
    no_uuid = good[0].replace(interaction(0).event_id.encode(), b"z" * 36)
    produce(bench, [no_uuid, good[1][:-3]])
    bench.drain()
    first, second = show(bench, 0), show(bench, 1)
    assert (first["reason"], first["unread"], first["event"]["event_id"]) == ("engine", [], "z" * 36)
    assert (second["record"], second["event"]["event_id"]) == ("Interaction", interaction(1).event_id)
    assert second["unread"][-1] == "client_sent_at"

    first["event"]["event_id"] = interaction(0).event_id
    second["event"] |= {"event_id": interaction(7).event_id, "value": 2.5}
    lines = "\n".join(json.dumps(letter) for letter in (first, second))
    report = replay(bench, "--repaired", "-", stdin=lines)

    assert report["replayed"] == 2
    assert [warning.split(": ")[1] for warning in report["warnings"]] == [
        f"the repair changes event_id from {event_id} to {interaction(number).event_id}"
        for event_id, number in (("z" * 36, 0), (interaction(1).event_id, 7))
    ]
    newest = bench.schema_id("Interaction")
    assert bench.rows("SELECT _offset, toString(event_id), value, _schema_id FROM interactions ORDER BY _offset") == [
        (0, interaction(0).event_id, None, newest),
        (1, interaction(7).event_id, 2.5, newest),
    ]


def test_what_is_still_poison_stays_a_dead_letter_and_says_why(bench: Bench) -> None:
    kinds = {name: kind for name, kind in poison_of(bench).items() if name != "large"}
    produce(bench, [value for _, value in kinds.values()])
    bench.drain()

    report = replay(bench, "--all", expect=1)

    assert bench.counts() == (0, 0)
    assert (report["replayed"], report["still_poison"]) == (0, len(kinds))
    reasons = {int(each["coordinates"].rpartition(":")[2]): each["reason"] for each in report["poison"]}
    assert reasons == {at: reason for at, (reason, _) in enumerate(kinds.values())}
    assert bench.counts("dead_letters") == (len(kinds), len(kinds))


def test_a_mended_line_that_makes_no_record_is_refused_with_its_reason_and_the_others_go_in(bench: Bench) -> None:
    good = interactions(bench, 7)
    produce(bench, [value + b"!" for value in good])
    bench.drain()
    letters = [show(bench, offset) for offset in range(6)]
    letters[0]["event"]["position"] = 1.5
    del letters[1]["event"]["unit_id"]
    letters[1]["event"]["unit"] = "u1"
    letters[2]["event"]["position"] = 3
    letters[2]["value_base64"] = "AA=="
    letters[3]["value_base64"] = "?"
    letters[4]["value_base64"] = b64encode(good[4]).decode()
    letters[5]["event"]["surface"] = "search"
    nowhere = {"topic": bench.topic(), "partition": 0, "offset": 99}

    report = replay(bench, "--repaired", "-", stdin="\n".join(map(json.dumps, [*letters, nowhere])), expect=1)

    assert (report["replayed"], report["still_poison"]) == (2, 5)
    errors = {int(each["coordinates"].rpartition(":")[2]): each["error"] for each in report["poison"]}
    assert "would be changed" in errors[0] or "position" in errors[0]
    assert "unit_id" in errors[1]
    assert "both value_base64 and event" in errors[2]
    assert "not base64" in errors[3]
    assert "no dead letter is there" in errors[99]
    assert bench.rows("SELECT _offset, surface FROM interactions ORDER BY _offset") == [(4, "home"), (5, "search")]


def test_a_letter_of_a_topic_that_is_gone_is_replayed_all_the_same(bench: Bench) -> None:
    """Its coordinates are those of the topic that was; of the new one's letters it is told apart by the topic's id."""
    good = interactions(bench, 2)
    produce(bench, [good[0][:-1]])
    bench.drain()
    [(first_id,)] = bench.rows("SELECT toString(_topic_id) FROM dead_letters")
    remake(bench)
    produce(bench, [good[1][:-1]])
    bench.drain(TAILRACE_SINK_GROUP=f"{bench.prefix}other")
    assert bench.counts("dead_letters") == (2, 2)
    mended = {"partition": 0, "offset": 0, "value_base64": b64encode(good[0]).decode()}

    ambiguous = replay(bench, "--repaired", "-", stdin=json.dumps({**mended, "topic": bench.topic()}), expect=1)
    assert first_id in ambiguous["poison"][0]["error"]
    assert replay(bench, "--repaired", "-", stdin=json.dumps({**mended, "topic_id": first_id}))["replayed"] == 1

    assert bench.rows("SELECT toString(_topic_id), _offset FROM interactions") == [(first_id, 0)]


def remake(bench: Bench) -> None:
    admin = AdminClient({"bootstrap.servers": bench.environment["TAILRACE_KAFKA_BOOTSTRAP"]})
    admin.delete_topics([bench.topic()])[bench.topic()].result(30)
    assert eventually(lambda: bench.topic() not in admin.list_topics(timeout=10).topics, 30)
    tailrace(bench, "up")


def test_a_letter_is_shown_to_a_person_and_raw(bench: Bench) -> None:
    good = interactions(bench, 1)[0]
    produce(bench, [good[:-3], b"\x01\xffmagic"])
    bench.drain()

    text = tailrace(bench, "dlq", "show", f"{bench.topic()}:0:0")
    raw = subprocess.run(
        bench.command("dlq", "show", f"{bench.topic()}:0:1", "--raw"),
        env=dict(bench.environment),
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=True,
    )

    for shown in ("datum", "number: b'0'", "client_sent_at", "(does not read)", interaction(0).event_id, "00000000  00 00"):
        assert shown in text
    assert raw.stdout == b"\x01\xffmagic"
    listed = tailrace(bench, "dlq", "list", "--reason", "magic")
    assert f"{bench.topic()}:0:1" in listed
    assert f"{bench.topic()}:0:0" not in listed
    assert (
        "no dead letter is at"
        in subprocess.run(
            bench.command("dlq", "show", f"{bench.topic()}:0:77"),
            env=dict(bench.environment),
            capture_output=True,
            text=True,
            check=False,
        ).stderr
    )


@pytest.mark.parametrize("arguments", [(), ("--all", "a:0:0"), ("a:b",), ("--since", "yesterday")])
def test_a_replay_of_nobody_knows_what_is_wrong_usage(bench: Bench, arguments: tuple[str, ...]) -> None:
    assert "Usage" in tailrace(bench, "dlq", "replay", *arguments, expect=2)
