"""A lock's file, and processes that are forked while somebody opens one, has it or lets go of it."""

import os
from pathlib import Path

from producers.file_lock import LockFile
from tests.producers.programs import told_by

FORKED_AS_ONE_IS_OPENED = """
import os, sys, threading
from producers.file_lock import unshared

opened, inside, forking = [], threading.Event(), threading.Event()

def open_slowly():
    with unshared() as note:
        inside.set()
        assert forking.wait(30)
        opened.append(open(sys.argv[1], "wb", buffering=0))
        note(opened[0])

opener = threading.Thread(target=open_slowly)
opener.start()
assert inside.wait(30)
os.register_at_fork(before=forking.set)
child = os.fork()
if child == 0:
    os._exit(0 if [file.closed for file in opened] == [True] else 1)
opener.join()
print(os.waitpid(child, 0)[1], opened[0].closed)
opened[0].close()
"""

FORKED_AS_A_DISK_HANGS = """
import os, sys, threading
from pathlib import Path
from producers import file_lock

file_lock.FORK_WAIT_S_MAX = 0.01
hanging, well = threading.Event(), threading.Event()

def hang():
    with file_lock.unshared():
        hanging.set()
        assert well.wait(30)

opener = threading.Thread(target=hang)
opener.start()
assert hanging.wait(30)
child = os.fork()
if child == 0:
    file_lock.LockFile(Path(sys.argv[1])).close()
    os._exit(0)
print(os.waitpid(child, 0)[1], opener.is_alive())
well.set()
opener.join()
file_lock.LockFile(Path(sys.argv[1])).close()
"""

TWO_FORK_AT_ONCE = """
import os, sys, threading
from pathlib import Path

first, forking, forked = threading.Lock(), threading.Event(), threading.Event()

def hold_up_the_first():
    if first.acquire(blocking=False):
        forking.set()
        assert forked.wait(30)

os.register_at_fork(before=hold_up_the_first)  # registered first, so it comes last
from producers import file_lock

file_lock.FORK_WAIT_S_MAX = 0.01

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

slow = threading.Thread(target=fork)
slow.start()
assert forking.wait(30)
fork()
forked.set()
slow.join()
file_lock.LockFile(Path(sys.argv[1])).close()
print("opened")
"""


def test_a_forked_process_has_closed_what_was_just_being_opened(tmp_path: Path) -> None:
    assert told_by(FORKED_AS_ONE_IS_OPENED, str(tmp_path / "lock")) == "0 False"


def test_a_disk_that_hangs_holds_up_no_fork_for_good(tmp_path: Path) -> None:
    assert told_by(FORKED_AS_A_DISK_HANGS, str(tmp_path / "lock")) == "0 True"


def test_a_fork_that_has_waited_in_vain_takes_nothing_from_another_one(tmp_path: Path) -> None:
    assert told_by(TWO_FORK_AT_ONCE, str(tmp_path / "lock")) == "opened"


def test_a_lock_that_was_let_go_of_is_free_whoever_has_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = LockFile(path)
    assert lock.try_lock()
    copy = os.dup(lock.fileno())
    with LockFile(path) as other:
        assert not other.try_lock()
        lock.let_go()
        assert other.try_lock()
    os.close(copy)
