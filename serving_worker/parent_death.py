"""A process that ends with the one that started it, however that ends."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int, by: signal.Signals) -> None:
    """Have the kernel send `by` when the thread that started this process has ended (Linux). Exits where that is past."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent_pid:
        sys.exit(0)  # it ended before we asked the kernel to tell us
