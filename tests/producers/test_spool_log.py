"""What a spool keeps on disk: order, cursors, caps, locks and adoption, on a real directory."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from producers.config import SpoolLimits
from producers.spool.directory import LOCK, SpoolRoot
from producers.spool.file_system import PosixFileSystem
from producers.spool.frames import SpoolRecord
from producers.spool.log import Lost, SpoolFullError, SpoolLog
from producers.spool.segments import Place
from tests.producers.programs import started, told_by
from tests.producers.spools import Clock, open_log

HOUR_US = 3_600_000_000


def records(first: int, end: int, size: int = 10, topic: str = "interactions") -> list[SpoolRecord]:
    return [SpoolRecord(topic, 1, b"unit", b"%06d" % number + bytes(size)) for number in range(first, end)]


def numbers(read: list[SpoolRecord]) -> list[int]:
    return [int(record.datum[:6]) for record in read]


def read_some(log: SpoolLog, records_max: int) -> list[int]:
    """One by one."""
    return [number for stretch in log.read(records_max, 1) for number in numbers(stretch.records)]


def read_all(log: SpoolLog) -> tuple[list[int], list[Place]]:
    """One by one: each has a place of its own."""
    found = log.read(1_000_000, 1)
    return numbers([record for stretch in found for record in stretch.records]), [stretch.place for stretch in found]


def adopt(log: SpoolLog, clock: Clock) -> None:
    clock.now += 10_000_000
    log.tend()


def test_what_is_written_is_read_once_in_order(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(records(0, 10), held=False)
    assert read_some(log, 4) == [0, 1, 2, 3]
    log.append(records(10, 20), held=False)
    assert read_all(log)[0] == list(range(4, 20))
    assert read_all(log)[0] == []


def test_the_names_that_lead_to_a_segment_are_on_disk_before_anything_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    root = tmp_path / "var" / "spool"
    open_log(root).append(records(0, 1), held=False)
    [segment] = root.rglob("*.spool")
    assert set(synced) >= {tmp_path, root.parent, root, segment.parent}


def test_held_records_are_not_read_back_by_their_own_emitter_but_by_the_next(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    first.append(records(0, 5), held=False)
    places = first.append(records(5, 10), held=True)
    first.append(records(10, 15), held=False)
    assert read_all(first)[0] == [*range(5), *range(10, 15)]
    first.settle(Counter(places[:2]))
    first.close()
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    assert read_all(second)[0] == [*range(5), *range(7, 15)]


def test_topics_that_are_held_and_not_by_turns_need_two_files(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(0, 100, 2):
        log.append(records(number, number + 1), held=False)
        log.append(records(number + 1, number + 2, topic="recommendations"), held=True)
    assert len(list(tmp_path.rglob("*.spool"))) == 2
    assert read_all(log)[0] == list(range(0, 100, 2))


def test_a_topic_that_is_held_at_times_is_adopted_in_its_order(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    for number in range(10):
        first.append(records(number, number + 1), held=number % 3 == 0)
        first.append(records(100, 101, topic="recommendations"), held=number % 2 == 0)
    first.close()
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    assert [number for number in read_all(second)[0] if number < 100] == list(range(10))


def test_what_is_held_and_what_is_not_are_both_synced_and_both_end(tmp_path: Path) -> None:
    clock, synced = Clock(), set[Path]()

    class NotedDisk(PosixFileSystem):
        def sync(self, descriptor: int) -> None:
            synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
            super().sync(descriptor)

    log = open_log(tmp_path, now_us=clock, disk=NotedDisk())
    places = append_both(log)
    clock.now += 1_000_000
    log.tend()
    assert synced == set(tmp_path.rglob("*.spool"))
    log.settle(Counter((*read_all(log)[1], places[1])))
    clock.now += 1_000_000
    log.tend()
    log.tend()
    assert list(tmp_path.rglob("*.spool")) == []
    append_both(log)
    synced.clear()
    log.close()
    assert synced == set(tmp_path.rglob("*.spool"))
    assert len(synced) == 2


def test_what_is_settled_is_gone_and_only_the_rest_is_adopted(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    first.append(records(0, 10), held=False)
    places = read_all(first)[1]
    first.settle(Counter([places[1], places[0], places[4]]))
    first.close()
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    found, places = read_all(second)
    assert found == list(range(2, 10))  # 4 again: what is out of order counts once downstream
    second.settle(Counter(places))
    adopt(second, clock)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_stretch_is_settled_when_all_of_it_is(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    first.append(records(0, 10), held=False)
    stretches = first.read(10, 4)
    assert [numbers(stretch.records) for stretch in stretches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert first.read(10, 4) == []
    first.settle({stretches[0].place: 4, stretches[1].place: 3})
    first.close()
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    assert read_all(second)[0] == [4, 5, 6, 7, 8, 9]


def test_damage_ends_a_stretch_and_costs_what_it_has_hit(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    places = first.append(records(0, 10), held=False)
    first.close()
    [segment] = tmp_path.rglob("*.spool")
    data = bytearray(segment.read_bytes())
    for _, start in places[3:5]:
        data[start + 30] ^= 1
    segment.write_bytes(bytes(data))
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    stretches = second.read(10, 100)
    assert [numbers(stretch.records) for stretch in stretches] == [[0, 1, 2], [5, 6, 7, 8, 9]]
    assert second.counters.corrupt == 1
    second.settle({stretch.place: len(stretch.records) for stretch in stretches})
    adopt(second, clock)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_torn_cursor_means_the_start(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    first.append(records(0, 10), held=False)
    first.settle(Counter(read_all(first)[1][:5]))
    first.close()
    [cursor] = tmp_path.rglob("*.cursor")
    cursor.write_bytes(cursor.read_bytes()[:-1])
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    assert read_all(second)[0] == list(range(10))


def test_a_torn_tail_is_counted_and_what_is_before_it_is_read(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    first.append(records(0, 10), held=False)
    first.close()
    [segment] = tmp_path.rglob("*.spool")
    os.truncate(segment, segment.stat().st_size - 3)
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    found, places = read_all(second)
    assert (found, second.counters.torn, second.counters.corrupt) == (list(range(9)), 1, 0)
    second.settle(Counter(places))
    adopt(second, clock)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_damage_to_what_an_emitter_has_written_itself_is_a_loss_that_is_told(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, now_us=clock)
    log.append(records(0, 10), held=False)
    clock.now += 120_000_000
    log.tend()  # it is old by now, so nothing more is written to it
    [segment] = tmp_path.rglob("*.spool")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(bytes(data))
    found, places = read_all(log)
    assert len(found) == 9
    log.settle(Counter(places))
    log.tend()
    assert (log.counters.corrupt, log.losses) == (1, [Lost("interactions", "spool_corrupt", 1)])


def test_past_the_cap_the_oldest_go_first_and_are_told(tmp_path: Path) -> None:
    log = open_log(tmp_path, SpoolLimits(bytes_max=1 << 20))
    for first in range(0, 4_000, 10):
        log.append(records(first, first + 10, 500), held=False)
    found = read_all(log)[0]
    lost = sum(lost.events for lost in log.losses)
    assert {(lost.topic, lost.reason) for lost in log.losses} == {("interactions", "spool_full")}
    assert found == list(range(lost, 4_000))
    assert 900_000 < log.bytes_used <= (1 << 20) + 10_000


def test_what_is_in_hand_stays_on_disk_past_the_cap(tmp_path: Path) -> None:
    """Not sent in the end, it is the next emitter's; nobody has counted it as lost."""
    clock = Clock()
    log = open_log(tmp_path, SpoolLimits(bytes_max=1 << 20))
    log.append(records(0, 100, 500), held=False)
    in_hand = read_some(log, 30)
    for first in range(100, 4_000, 10):
        log.append(records(first, first + 10, 500), held=False)
    assert log.losses
    log.close()
    second = open_log(tmp_path, now_us=clock)
    adopt(second, clock)
    left = read_all(second)[0]
    assert left[: len(in_hand)] == in_hand
    assert sum(lost.events for lost in log.losses) + len(left) == 4_000


def test_the_cap_holds_for_all_producers_of_the_host(tmp_path: Path) -> None:
    clock = Clock()
    limits = SpoolLimits(bytes_max=1 << 20)
    other, log = open_log(tmp_path, limits), open_log(tmp_path, limits, now_us=clock)
    other.append(records(0, 1_900, 500), held=False)
    log.append(records(0, 1, 500), held=False)
    adopt(log, clock)
    log.append(records(1, 200, 500), held=False)
    with pytest.raises(SpoolFullError):
        fill_with_held(log)
    assert log.bytes_used < 200_000
    assert read_some(other, 10_000) == list(range(1_900))


def test_what_is_older_than_it_may_be_is_dropped_and_told(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, SpoolLimits(age_s_max=7_200), now_us=clock)
    log.append(records(0, 10), held=False)
    clock.now += HOUR_US
    log.tend()
    log.append(records(10, 15), held=False)
    clock.now += HOUR_US + 1_000_000
    log.tend()
    assert log.losses == [Lost("interactions", "spool_expired", 10)]
    assert read_all(log)[0] == list(range(10, 15))


def test_adopted_records_past_a_cap_are_counted_apart(tmp_path: Path) -> None:
    first, clock = open_log(tmp_path), Clock()
    first.append(records(0, 10), held=False)
    first.close()
    second = open_log(tmp_path, SpoolLimits(age_s_max=7_200), now_us=clock)
    adopt(second, clock)
    for path in tmp_path.rglob("*.spool"):
        os.utime(path, (1, 1))
    third = open_log(tmp_path, SpoolLimits(age_s_max=7_200), now_us=clock)
    second.close()
    adopt(third, clock)
    adopt(third, clock)
    assert (third.counters.adopted_lost, third.losses) == ({"spool_expired": 10}, [])


def test_nobody_takes_what_another_owns_in_this_process_or_another(tmp_path: Path) -> None:
    owner, clock = open_log(tmp_path), Clock()
    owner.append(records(0, 10), held=False)
    neighbour = open_log(tmp_path, now_us=clock)
    adopt(neighbour, clock)
    assert read_all(neighbour)[0] == []
    program = f"""
from pathlib import Path
from producers.spool.directory import SpoolRoot
print(len(SpoolRoot(Path({str(tmp_path)!r})).claim_orphans()))
"""
    assert told_by(program) == "0"
    owner.close()
    assert told_by(program) == "1"


def test_who_sends_to_other_topics_leaves_a_directory_alone(tmp_path: Path) -> None:
    first = open_log(tmp_path)
    first.append(records(0, 10), held=False)
    first.close()
    assert SpoolRoot(tmp_path, "staging.").claim_orphans() == []
    assert SpoolRoot(tmp_path, "").claim_orphans() == []
    assert len(SpoolRoot(tmp_path, "tailrace.").claim_orphans()) == 1


def test_what_a_killed_process_leaves_is_adopted(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.producers.programs import started, told_by
from tests.producers.spools import open_log
from tests.producers.test_spool_log import records
log = open_log(Path({str(tmp_path)!r}))
log.append(records(0, 10), held=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with started(program) as process:
        assert process.wait(30) == -signal.SIGKILL
    clock = Clock()
    log = open_log(tmp_path, now_us=clock)
    adopt(log, clock)
    found, places = read_all(log)
    assert (found, log.counters.adopted) == (list(range(10)), 10)
    log.settle(Counter(places))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_forked_process_does_not_hold_its_parents_locks(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(records(0, 10), held=False)
    held = SpoolRoot(tmp_path)
    ended, forgot = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        log.forget()
        os.write(forgot[1], b"!")
        os.read(ended[0], 1)
        os._exit(0)
    os.read(forgot[0], 1)
    log.forget()  # as when the parent ends: its descriptors close, and nothing else happens
    assert len(held.claim_orphans()) == 1
    os.write(ended[1], b"!")
    for descriptor in (*ended, *forgot):
        os.close(descriptor)
    assert os.waitpid(child, 0)[1] == 0


def append_both(log: SpoolLog) -> list[Place]:
    return [log.append(records(0, 1, topic=f"held-{held}"), held=held)[0] for held in (False, True)]


def fill_with_held(log: SpoolLog) -> None:
    for first in range(10_000):
        log.append(records(first, first + 1, 500), held=True)
