"""One contract, kept by every transport."""

import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from producers.errors import RecordRefused, TopicRefused
from producers.kafka_transport import RENEWAL_PAUSE_S, KafkaTransport
from producers.memory_transport import MemoryTransport
from producers.transport import INTERRUPTED, OutboundRecord, Outcomes, Transport
from schemas.errors import ConfigurationError
from tests.producers.fatal_errors import break_down
from tests.waiting import eventually

NOWHERE = "127.0.0.1:1"


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """A transport to a broker that is there."""
    made: Transport
    if request.param == "memory":
        made = MemoryTransport()
    else:
        installation: Mapping[str, str] = request.getfixturevalue("installation")
        made = KafkaTransport(installation["TAILRACE_KAFKA_BOOTSTRAP"], {})
    yield made
    made.close()


@pytest.fixture
def topic(request: pytest.FixtureRequest, transport: Transport) -> str:
    if isinstance(transport, MemoryTransport):
        return "alerts"
    installation: Mapping[str, str] = request.getfixturevalue("installation")
    return installation.get("TAILRACE_TOPIC_PREFIX", "tailrace.") + "alerts"


@pytest.fixture(params=["memory", "kafka"])
def cut_off(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """A transport with room for three records, to a broker that is away."""
    made: Transport
    if request.param == "memory":
        made = MemoryTransport(records_max=3, reachable=False)
    else:
        made = KafkaTransport(NOWHERE, {"queue.buffering.max.messages": "3"})
    yield made
    made.close()


def settle(transport: Transport, timeout_s: float = 10.0) -> Outcomes:
    """All outcomes until then."""
    found: list[Outcomes] = []
    deadline = time.monotonic() + timeout_s
    while transport.in_flight() and time.monotonic() < deadline:
        found.append(transport.poll(0.05))
    delivered = [record for outcomes in found for record in outcomes.delivered]
    together = sum((Counter(outcomes.together) for outcomes in found), Counter[Hashable]())
    return Outcomes(delivered, [failure for outcomes in found for failure in outcomes.failed], together)


def test_every_record_taken_has_one_outcome(transport: Transport, topic: str) -> None:
    records = [OutboundRecord(topic, b"key", b"value %d" % number, (("spooled", b"1"),), number) for number in range(5)]
    assert all(transport.offer(record) for record in records)
    assert settle(transport) == Outcomes(records, [])
    assert transport.in_flight() == 0


def test_what_is_offered_together_is_told_by_its_ticket(transport: Transport, topic: str) -> None:
    headers = (("spooled", b"1"),)
    for ticket, count in (("first", 5), ("second", 3)):
        records = [(topic, b"key", b"value %d" % number) for number in range(count)]
        assert transport.offer_together(records, headers, ticket) == count
    alone = OutboundRecord(topic, b"key", b"alone")
    assert transport.offer(alone)
    assert settle(transport) == Outcomes([alone], [], {"first": 5, "second": 3})
    assert transport.in_flight() == 0


def test_of_what_is_offered_together_the_first_that_can_never_go_stops_the_rest(transport: Transport, topic: str) -> None:
    fits, large = (topic, b"key", b"value"), (topic, b"key", bytes(2_000_000))
    assert transport.offer_together([fits, large, fits], (), "mine") == 1
    with pytest.raises(RecordRefused):
        transport.offer_together([large, fits], (), "mine")
    assert settle(transport) == Outcomes([], [], {"mine": 1})


def test_a_record_that_is_too_large_is_refused_by_name(transport: Transport, topic: str) -> None:
    with pytest.raises(RecordRefused) as refusal:
        transport.offer(OutboundRecord(topic, b"key", bytes(2_000_000)))
    assert refusal.value.reason == "msg_size_too_large"
    assert transport.in_flight() == 0


def test_a_full_transport_says_so_and_does_not_wait(cut_off: Transport) -> None:
    began = time.monotonic()
    assert [cut_off.offer(OutboundRecord("alerts", b"key", b"value")) for _ in range(5)] == [True] * 3 + [False] * 2
    assert time.monotonic() - began < 1.0
    assert cut_off.in_flight() == 3


def test_abandoned_records_fail_with_a_reason(cut_off: Transport) -> None:
    record = OutboundRecord("alerts", b"key", b"value", ticket="mine")
    cut_off.offer(record)
    cut_off.abandon()
    assert settle(cut_off) == Outcomes([], [(record, "purge_queue")])


def test_what_fails_of_what_was_offered_together_is_told_one_by_one(cut_off: Transport) -> None:
    records = [("alerts", b"key %d" % number, b"value %d" % number) for number in range(5)]
    assert cut_off.offer_together(records, (("spooled", b"1"),), "mine") == 3
    cut_off.abandon()
    assert settle(cut_off) == Outcomes([], [(OutboundRecord(*record, (), "mine"), "purge_queue") for record in records[:3]])


def test_kafka_fails_what_it_cannot_deliver_in_time() -> None:
    transport = KafkaTransport(NOWHERE, {"message.timeout.ms": "50", "linger.ms": "0"})
    record = OutboundRecord("alerts", b"key", b"value")
    transport.offer(record)
    assert settle(transport) == Outcomes([], [(record, "msg_timed_out")])
    transport.close()


def test_a_client_with_a_fatal_error_has_no_room_and_gives_back_what_it_holds() -> None:
    transport = KafkaTransport(NOWHERE, {})
    alone = OutboundRecord("alerts", b"key", b"alone", ticket="mine")
    together = [("alerts", b"key", b"value %d" % number) for number in range(3)]
    assert transport.offer(alone)
    assert transport.offer_together(together, (), "ours") == 3
    break_down(transport)
    assert not transport.offer(alone)
    assert transport.offer_together(together, (), "ours") == 0
    assert transport.troubled()
    records = [alone, *(OutboundRecord(*record, (), "ours") for record in together)]
    assert settle(transport) == Outcomes([], [(record, INTERRUPTED) for record in records])
    transport.close()


def test_a_client_that_has_broken_down_is_made_anew_and_no_more_often_than_once_a_while() -> None:
    now, record = 100.0, OutboundRecord("alerts", b"key", b"value")
    transport = KafkaTransport(NOWHERE, {}, lambda: now)
    assert transport.offer(record)
    break_down(transport)
    settle(transport)
    assert (transport.renewals(), transport.offer(record)) == (1, True)
    break_down(transport)
    settle(transport)
    assert (transport.renewals(), transport.offer(record)) == (1, False)
    now += RENEWAL_PAUSE_S
    transport.poll(0.0)
    assert (transport.renewals(), transport.offer(record)) == (2, True)
    transport.close()


@pytest.mark.integration
def test_after_a_fatal_error_sending_goes_on(installation: Mapping[str, str]) -> None:
    transport = KafkaTransport(installation["TAILRACE_KAFKA_BOOTSTRAP"], {})
    record = OutboundRecord(installation.get("TAILRACE_TOPIC_PREFIX", "tailrace.") + "alerts", b"key", b"value")
    break_down(transport)
    assert eventually(lambda: (transport.poll(0.0), transport.offer(record))[1], 10.0)
    assert settle(transport) == Outcomes([record], [])
    transport.close()


@pytest.mark.integration
def test_a_topic_that_is_not_there_is_no_fault_of_its_records_nor_of_the_client(installation: Mapping[str, str]) -> None:
    """And it is found when it comes."""
    bootstrap, name = installation["TAILRACE_KAFKA_BOOTSTRAP"], f"late-{time.time_ns()}"
    prompt = {"topic.metadata.propagation.max.ms": "100", "topic.metadata.refresh.interval.ms": "500"}
    transport = KafkaTransport(bootstrap, prompt)
    record = OutboundRecord(name, b"key", b"value")

    def offered() -> str:
        transport.poll(0.0)
        try:
            return "taken" if transport.offer(record) else "full"
        except TopicRefused as refusal:
            return refusal.reason

    assert eventually(lambda: offered() == "unknown_topic", 30.0)
    assert {failure for _, failure in settle(transport).failed} <= {"unknown_topic", "unknown_topic_or_part"}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30.0)
    try:
        assert eventually(lambda: offered() == "taken", 30.0)
        assert settle(transport).delivered == [record]
        assert transport.renewals() == 0
    finally:
        admin.delete_topics([name])[name].result(30.0)
        transport.close()


def test_an_option_that_the_client_does_not_know_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"TAILRACE_KAFKA_OPTIONS.*no\.such\.option"):
        KafkaTransport(NOWHERE, {"no.such.option": "1"})
