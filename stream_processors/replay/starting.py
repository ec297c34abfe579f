"""Whether a run may be filled now, by this process."""

import os
import socket
from pathlib import Path

from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.runs import Run, RunStore, State, this_process

_FILLABLE = frozenset({State.PLANNED, State.RUNNING, State.FILLED, State.VERIFIED, State.DIFFERS})


def startable(store: RunStore, run: str) -> Run:
    """The run, where it may be filled now. Raises ReplayRefused."""
    found = store.get(run)
    if found is None:
        raise ReplayRefused(f"no run is named {run}: `tailrace replay list` names them all")
    if found.state not in _FILLABLE:
        raise ReplayRefused(f"{run} is {found.state.replace('_', ' ')}: it is not filled any more; plan another one")
    if found.state is State.RUNNING and found.steps[-1].host_pid != this_process() and _alive(found.steps[-1].host_pid, run):
        raise ReplayRefused(f"{run} is being filled by the process {found.steps[-1].host_pid}: stop that one first")
    return found


def _alive(host_pid: str, run: str) -> bool:
    """Whether that process lives on this host and is a run's. Those of other hosts end when they are shut out."""
    host, _, pid = host_pid.rpartition(":")
    if host != socket.gethostname() or not Path("/proc").exists():
        return False
    try:
        os.kill(int(pid), 0)
        return run.encode() in Path(f"/proc/{int(pid)}/cmdline").read_bytes()
    except OSError:
        return False
