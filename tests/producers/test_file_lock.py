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


def test_a_forked_process_has_closed_what_was_just_being_opened(tmp_path: Path) -> None:
    assert told_by(FORKED_AS_ONE_IS_OPENED, str(tmp_path / "lock")) == "0 False"


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
