"""The books of a stretch of the spool on its way."""

from pathlib import Path

import pytest

from producers.haul import Haul
from producers.spool.frames import SpoolRecord
from producers.spool.log import Stretch
from tests.producers.spools import open_log

HEADER = b"12345"


@pytest.fixture
def haul(tmp_path: Path) -> Haul:
    """Of three clicks between two rankings."""
    topics = ("rankings", "clicks", "clicks", "clicks", "rankings")
    log = open_log(tmp_path)
    log.append([SpoolRecord(topic, 1, b"key", b"datum %d" % number) for number, topic in enumerate(topics)], held=False)
    [stretch] = log.read(1, 10)
    return Haul(stretch)


def test_it_has_arrived_when_each_has_its_answer(haul: Haul) -> None:
    haul.offer(5)
    haul.deliver(3)
    assert (haul.done, haul.arrived()) == (True, {})
    haul.deliver(2)
    assert haul.arrived() == {"rankings": 2, "clicks": 3}
    assert haul.arrived() == {}, "told once"


def test_what_was_offered_so_far_arrives_without_the_rest(haul: Haul) -> None:
    haul.offer(2)
    haul.deliver(2)
    assert (haul.done, haul.arrived()) == (False, {"rankings": 1, "clicks": 1})
    assert [record.datum for record in haul.rest(2)] == [b"datum 2", b"datum 3"]


def test_what_fails_or_is_refused_does_not_arrive(haul: Haul) -> None:
    assert haul.skip().datum == b"datum 0"
    haul.offer(4)
    assert haul.fail(HEADER + b"datum 2", len(HEADER)).datum == b"datum 2"
    assert haul.fail(HEADER + b"datum 4", len(HEADER)).topic == "rankings"
    haul.deliver(2)
    assert haul.arrived() == {"clicks": 2}


def test_a_stretch_of_the_same_twice_fails_twice(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([SpoolRecord("clicks", 1, b"key", b"same")] * 2, held=False)
    [stretch] = log.read(1, 10)
    haul = Haul(Stretch(*stretch))
    haul.offer(2)
    assert [haul.fail(HEADER + b"same", len(HEADER)).datum for _ in range(2)] == [b"same"] * 2
    assert haul.arrived() == {}
