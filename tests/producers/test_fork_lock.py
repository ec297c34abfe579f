"""A fork waits for what must not be half done, and for no more than a second."""

import pytest

from tests.producers.programs import told_by

HOLDING = """
import os, threading
from producers.fork_lock import ForkLock

lock, held, forking, let_go, done = ForkLock(), threading.Event(), threading.Event(), threading.Event(), []
os.register_at_fork(before=forking.set)  # what asks last is told first

def hold(until):
    with lock.held():
        held.set()
        until.wait()
        done.append("all of it")

def told_by_child():
    child = os.fork()
    if child == 0:
        with lock.held():
            os._exit(len(done))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

SHORTLY = """
holder = threading.Thread(target=hold, args=[forking])
holder.start()
held.wait()
print(told_by_child())
"""

FOR_EVER = """
holder = threading.Thread(target=hold, args=[let_go])
holder.start()
held.wait()
print(told_by_child())
let_go.set()
holder.join()
print(told_by_child())
"""

DELAYING_THE_FIRST = """
import os, threading

first_forks, second_has_forked = threading.Event(), threading.Event()

def delay():
    if threading.current_thread().name == "first":
        first_forks.set()
        second_has_forked.wait()

os.register_at_fork(before=delay)  # before the lock is made: told when the first has it
"""

AT_ONCE = """
first = threading.Thread(target=told_by_child, name="first")
first.start()
first_forks.wait()
print(told_by_child())
holder = threading.Thread(target=hold, args=[first_forks])
holder.start()
print(held.wait(0.2))
second_has_forked.set()
first.join()
holder.join()
print(told_by_child())
"""


@pytest.mark.parametrize(
    ("program", "told"),
    [
        pytest.param(HOLDING + SHORTLY, ["1"], id="a fork waits until it is done"),
        pytest.param(HOLDING + FOR_EVER, ["0", "1"], id="and not for ever; child and parent can use it all the same"),
        pytest.param(DELAYING_THE_FIRST + HOLDING + AT_ONCE, ["0", "False", "1"], id="one fork leaves alone what another holds"),
    ],
)
def test_a_fork_lock(program: str, told: list[str]) -> None:
    assert told_by(program).split() == told
