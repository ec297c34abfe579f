"""A worker with one policy at rest and one that burns: tells their process ids, then waits to be killed."""

import asyncio
import json
import sys
import time
from pathlib import Path

from serving_worker.catalogue import by_item_id, load_catalogue
from serving_worker.isolation.limits import HostLimits, PoolLimits
from serving_worker.isolation.pool import Pool
from serving_worker.isolation.process import Program, host_environment
from serving_worker.rankers.ranking import Query
from tests.serving_worker.hostile_rankers import HOSTILE


async def main(catalogue: Path) -> None:
    program = Program(HOSTILE, catalogue, HostLimits(), host_environment({}))
    items = by_item_id(load_catalogue(catalogue))
    pools = [Pool("hostile", program, items, PoolLimits(processes=1), time.monotonic_ns) for _ in range(2)]
    for pool in pools:
        pool.open()
        await pool.is_up.wait()
    burning = pools[0].rank(Query(surface="home", k=1, parameters={"act": "burn_in_c"}), "seed", 3_600)
    pids = [pid for pool in pools for pid in pool.status().pids]
    await asyncio.gather(burning, asyncio.to_thread(print, json.dumps(pids), flush=True))


asyncio.run(main(Path(sys.argv[1])))
