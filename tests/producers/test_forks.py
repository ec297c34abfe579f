"""A forked process emits under a name of its own, and its parent goes on as if nothing had happened."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from producers.spool.directory import SpoolRoot
from tests.producers.programs import started, told_by

FORK_AND_TELL = """
import json, os, sys
from tests.producers.event_samples import SERVED

def fork_and_tell(emitter, close_s):
    for _ in range(100):
        emitter.emit(SERVED)
    child = os.fork()
    for _ in range(50):
        emitter.emit(SERVED)
    emitter.close(close_s)
    tell(emitter, "parent" if child else "child")
    if child:
        assert os.waitpid(child, 0)[1] == 0

def tell(emitter, name):
    topic = emitter.status().topics[0]
    with open(sys.argv[1] + "/" + name, "w") as file:
        json.dump([emitter.producer_id, topic.emitted, topic.acknowledged, topic.queued, topic.spooled, topic.dropped], file)
"""

IN_MEMORY = """
from producers.config import Durability
from producers.emitter import Emitter, Sources
from producers.main import new_id, now_us
from producers.memory_transport import MemoryTransport
from tests.producers.event_samples import KnownSchemaIds, served_of

class Telling(MemoryTransport):
    def close(self):
        with open(sys.argv[1] + "/records-" + str(os.getpid()), "w") as file:
            json.dump([[event.producer_id, event.producer_seq, event.event_id] for event in served_of(self.records)], file)

emitter = Emitter(
    Telling(), KnownSchemaIds(), now_us=now_us, new_id=new_id, renew=Sources(Telling, KnownSchemaIds) if RENEW else None
)
fork_and_tell(emitter, 10.0)
"""

TO_A_BROKER_THAT_IS_AWAY = """
from producers.main import emitter_from_environment

emitter = emitter_from_environment({
    "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1",
    "TAILRACE_SPOOL_DIR": sys.argv[1] + "/spool",
    "TAILRACE_EMITTER_DURABILITY": "write_ahead",
})
fork_and_tell(emitter, 2.0)
"""

FORKED_AND_SILENT = """
import os
from producers.main import emitter_from_environment
from tests.producers.event_samples import SERVED

emitter = emitter_from_environment({"TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1"})
emitter.emit(SERVED)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("ended")
    emitter.close(0.0)
"""


OUTLIVING_ITS_PARENT = """
import os, sys
from pathlib import Path
from producers.main import emitter_from_environment
from producers.spool.directory import SpoolRoot
from tests.producers.event_samples import SERVED
from tests.waiting import eventually

spool = sys.argv[1] + "/spool"
emitter = emitter_from_environment({
    "TAILRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "TAILRACE_REGISTRY_URL": "http://127.0.0.1:1",
    "TAILRACE_SPOOL_DIR": spool,
    "TAILRACE_EMITTER_DURABILITY": "write_ahead",
})
emitter.emit(SERVED)
assert eventually(lambda: emitter.status().spooled == 1, 10.0)
told, ended = os.pipe(), os.pipe()
if os.fork() == 0:
    os.write(told[1], b"!")
    os.close(ended[1])
    os.read(ended[0], 1)  # until the parent has ended
    os._exit(0)
os.read(told[0], 1)
emitter.close(1.0)
print(len(SpoolRoot(Path(spool)).claim_orphans()))
"""

FORKED_WITHIN = r"""
import os, signal, sys
from pathlib import Path
from producers.file_lock import LockFile
from producers.spool import directory
from tests.producers.spools import open_log
from tests.producers.test_spool_log import records

root, step, call = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
place = LockFile if step == "try_lock" else directory
work, calls, told = getattr(place, step), [], os.pipe()

def work_and_fork(argument):
    calls.append(argument)
    if len(calls) == call and os.fork() == 0:
        os.write(1, b"%d\n" % os.getpid())
        os.write(told[1], b"!")
        signal.pause()
    return work(argument)

setattr(place, step, work_and_fork)
log = open_log(root / "spool")
log.append(records(0, 10), held=True)
os.read(told[0], 1)
os.kill(os.getpid(), signal.SIGKILL)
"""

LETTING_GO = """
import gc, os, sys
from confluent_kafka import Producer
from producers.kafka_transport import KafkaTransport

transport = KafkaTransport("127.0.0.1:1", {})
child = os.fork()
if child == 0:
    del transport
    gc.collect()
    sys.exit(0 if any(isinstance(found, Producer) for found in gc.get_objects()) else 1)
print(os.waitpid(child, 0)[1])
"""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_forked_process_sends_its_own_under_its_own_name(tmp_path: Path) -> None:
    told_by(FORK_AND_TELL + "RENEW = True\n" + IN_MEMORY, str(tmp_path))
    parent, child = read(tmp_path / "parent"), read(tmp_path / "child")
    assert (parent[1:], child[1:]) == ([150, 150, 0, 0, {}], [50, 50, 0, 0, {}])
    assert parent[0] != child[0]
    records = [record for path in tmp_path.glob("records-*") for record in read(path)]
    numbers = {name: [seq for producer, seq, _ in records if producer == name] for name in (parent[0], child[0])}
    assert numbers == {parent[0]: list(range(150)), child[0]: list(range(50))}
    assert len({event_id for _, _, event_id in records}) == 200


def test_what_a_forked_process_cannot_send_is_counted(tmp_path: Path) -> None:
    told_by(FORK_AND_TELL + "RENEW = False\n" + IN_MEMORY, str(tmp_path))
    assert read(tmp_path / "parent")[1:] == [150, 150, 0, 0, {}]
    assert read(tmp_path / "child")[1:] == [50, 0, 0, 0, {"forked": 50}]


def test_a_fork_beside_a_spool_and_a_kafka_client_loses_nothing_and_ends(tmp_path: Path) -> None:
    told_by(FORK_AND_TELL + TO_A_BROKER_THAT_IS_AWAY, str(tmp_path))
    parent, child = read(tmp_path / "parent"), read(tmp_path / "child")
    assert (parent[1:], child[1:]) == ([150, 0, 0, 150, {}], [50, 0, 0, 50, {}])
    assert {path.name for path in (tmp_path / "spool").iterdir() if path.is_dir()} == {
        f"tailrace.{parent[0]}",
        f"tailrace.{child[0]}",
    }


@pytest.mark.parametrize("_turn", range(3))
def test_a_forked_process_that_emits_nothing_ends_by_itself(tmp_path: Path, _turn: int) -> None:
    assert told_by(FORKED_AND_SILENT, str(tmp_path)) == "ended"


def test_a_forked_process_never_lets_go_of_its_parents_client() -> None:
    assert told_by(LETTING_GO) == "0"


def test_what_a_parent_leaves_can_be_adopted_while_its_child_lives_on(tmp_path: Path) -> None:
    assert told_by(OUTLIVING_ITS_PARENT, str(tmp_path)) == "1"


@pytest.mark.parametrize(("step", "call"), [("try_lock", 1), ("try_lock", 2), ("sync_names", 2)])
def test_a_process_that_is_forked_as_a_directory_is_made_holds_no_lock_of_its_host(tmp_path: Path, step: str, call: int) -> None:
    """The root's lock is being taken, the directory's, or the former is held. The parent is killed, and the child lives on."""
    with started(FORKED_WITHIN, str(tmp_path), step, str(call)) as process:
        assert process.wait(30) == -signal.SIGKILL
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert len(SpoolRoot(tmp_path / "spool").claim_orphans()) == 1
        finally:
            os.kill(child, signal.SIGKILL)
