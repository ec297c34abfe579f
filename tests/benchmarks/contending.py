"""Lets one contender run, in a process of its own, on tables that are empty and in a group that nobody knows."""

import json
import os
import subprocess
import sys
from itertools import count

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.figures import Run
from tests.benchmarks.ground import Place
from tests.benchmarks.workloads import PEER_TABLE, Workload, peer_table_sql

LIMIT_S = 600
_GROUPS = count(1)


def contend(place: Place, name: str, workload: Workload, rows: int, skip: int = 0) -> Run:
    """`rows` are those of the topic, of which a contender may be given a part. The clock starts with the first `skip` in."""
    _empty(place, workload)
    given = round(rows * CONTENDERS[name].rows_share)
    group = f"benchmark-{next(_GROUPS)}-{name}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.contenders", name, workload.name, str(given), str(skip)],
        env={**os.environ, **place.variables, "TAILRACE_SINK_GROUP": group},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return Run(**json.loads(done.stdout))


def _empty(place: Place, workload: Workload) -> None:
    place.command(
        f"TRUNCATE TABLE {workload.table}",
        "TRUNCATE TABLE dead_letters",
        f"DROP TABLE IF EXISTS {PEER_TABLE} SYNC",
        peer_table_sql(workload),
    )
