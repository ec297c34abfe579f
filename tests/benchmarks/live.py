"""A steady stream of records: `python -m tests.benchmarks.live WORKLOAD RECORDS_PER_S` goes on until it is ended.

What is due is sent every few milliseconds, as many services together would. Records are made beforehand and sent in turn.
"""

import os
import sys
import threading
import time
from itertools import cycle, islice

from tests.benchmarks.filling import Filling, schema_id_of
from tests.benchmarks.workloads import WORKLOADS, records

MADE_RECORDS = 50_000
TICK_S = 0.005


def main() -> None:
    workload, records_per_s = WORKLOADS[sys.argv[1]], float(sys.argv[2])
    made = cycle(list(records(workload, schema_id_of(os.environ, workload), MADE_RECORDS)))
    filling = Filling(os.environ, workload.topic)
    sent, started = 0, time.perf_counter()
    while True:
        due = int((time.perf_counter() - started) * records_per_s)
        sent += filling.send(islice(made, due - sent))
        filling.serve()
        threading.Event().wait(TICK_S)


if __name__ == "__main__":
    main()
