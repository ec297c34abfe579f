"""The processes of a worker, some of which may end while they are being looked at."""

import os

import psutil

POLICY, HTTP_WORKER = "isolation.host", "spawn_main"


def descendants(of: int, running: str) -> list[psutil.Process]:
    """Those below process `of` whose command line has `running` in it."""
    below = psutil.Process(of).children(recursive=True)
    return [process for process in below if running in _command_line(process)]


def policy_processes(of: int | None = None) -> list[psutil.Process]:
    """Of process `of`, or of this one."""
    return descendants(os.getpid() if of is None else of, POLICY)


def _command_line(process: psutil.Process) -> str:
    """Nothing for one that has ended in the meantime."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
