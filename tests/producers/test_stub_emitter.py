"""What users' own tests can lean on."""

import pytest

from producers.emitter import Emitter
from producers.testing import StubEmitter
from tests.producers.event_samples import CLICK, SERVED


def answer_with(emitter: Emitter) -> bool:
    return emitter.emit(SERVED)


def test_a_stub_remembers_what_was_emitted() -> None:
    stub = StubEmitter()
    assert answer_with(stub)
    assert stub.emit(CLICK)
    assert stub.events == [SERVED, CLICK]
    assert [(topic.topic, topic.emitted, topic.acknowledged) for topic in stub.status().topics if topic.emitted] == [
        ("recommendations", 1, 1),
        ("interactions", 1, 1),
    ]


@pytest.mark.parametrize(("closed", "reason"), [(False, "queue_full"), (True, "closed")])
def test_a_stub_can_lose_events_as_an_emitter_does(*, closed: bool, reason: str) -> None:
    stub = StubEmitter(takes=False)
    if closed:
        stub.close(1.0)
    assert not stub.emit(SERVED)
    assert (stub.events, stub.status().topics[0].dropped, stub.status().alive) == ([], {reason: 1}, not closed)
