"""`python -m serving_worker.isolation.give_way NICE PROCESSORS MODULE …`: the module as main, so nice, on those processors.

A new process has the worker's processors and priority, and what it imports takes a tenth of a second: time that the worker would
lack just where a policy is started over and over. So giving way is the first that it does, and this imports next to nothing.
"""

import os
import runpy
import sys

ALL = "all"
"""For PROCESSORS, which are numbers with commas otherwise."""


def main() -> None:
    niceness, processors, module, *arguments = sys.argv[1:]
    os.nice(int(niceness))
    if processors != ALL and sys.platform == "linux":
        os.sched_setaffinity(0, map(int, processors.split(",")))
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
