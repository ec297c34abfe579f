"""`python -m tests.stream_processors.replay_to_be_killed ACTION RUN POINT`: kills itself at a point of a swap or rollback.

A point is a write to the warehouse (a step of the log, the hold, each change of a table): 2n stands before the n-th write, 2n + 1
after it has been answered. Exits with 0 where the action ends before the point is reached.
"""

import os
import signal
import sys

from deploy.settings import environment
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.swapping import swapper
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter


def kill_at(point: int) -> None:
    """Let the process be killed at that of its writes."""
    written = 0
    command = ClickHouseWriter.command

    def dying(self: ClickHouseWriter, statement: str, comment: str, body: bytes = b"") -> None:
        nonlocal written
        _die_at(2 * written, point)
        command(self, statement, comment, body)
        _die_at(2 * written + 1, point)
        written += 1

    ClickHouseWriter.command = dying  # type: ignore[method-assign] # for this process only


def _die_at(reached: int, point: int) -> None:
    if reached == point:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    action, run, point = sys.argv[1], sys.argv[2], int(sys.argv[3])
    kill_at(point)
    with swapper(ReplayConfig.from_environment(environment()), print) as parts:
        if action == "swap":
            parts.swap(run)
        else:
            parts.rollback(run)


if __name__ == "__main__":
    main()
