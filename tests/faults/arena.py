"""One installation under attack: its topics, tables, sinks, proxy, producers and ledger, and what has been done to it so far."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from confluent_kafka.admin import AdminClient

from deploy.provision import provision
from deploy.settings import KAFKA_BOOTSTRAP, TOPIC_PREFIX, WAREHOUSE_READ_URL, WAREHOUSE_URL, Installation
from schemas.topics import TOPICS, topic_name
from tests.faults.fleet import LAUNCH, PROTOCOLS, Fleet
from tests.faults.inspection import Warehouse
from tests.faults.ledger import Ledger
from tests.faults.plan import Effect, Fault
from tests.faults.proxy import LATEST, FaultProxy, Passed
from tests.faults.records import Mix
from tests.faults.second_opinion import Opinion, ask
from tests.faults.stack import LocalStack
from tests.faults.statements import Step
from tests.faults.strikes import Strikes
from tests.faults.traffic import Traffic
from tests.faults.verdict import Found, Verdict, judge
from tests.waiting import eventually

ANSWER_TIMEOUT_S = 30
STRIKE_LIMIT_S = 15.0
"""A fault that has not met its request after so long is given up, and counted as missed."""
HELD_LIMIT_S = 180.0
FEED_RECORDS = 150
FEED_INTERVAL_S = 0.2
BATCH_ROWS = 60


@dataclass(frozen=True, slots=True)
class Setting:
    """How an arena is furnished.

    `launch` is what `python -m` runs as a sink. `sql` is carried out in the database at the start, `healing_sql` before the last
    sink runs.
    """

    name: str
    seed: int
    mix: Mix = field(default_factory=Mix)
    protocol: str = "classic"
    batch_rows: int = BATCH_ROWS
    batch_age_ms: int = 100
    launch: tuple[str, ...] = LAUNCH
    sql: tuple[str, ...] = ()
    healing_sql: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """How it stood when all was in, as far as it came in."""

    verdict: Verdict
    found: Found
    opinion: Opinion
    drained: bool
    drain_said: str


@dataclass
class Arena:
    """`struck` and `missed` count faults by their label."""

    stack: LocalStack
    setting: Setting
    variables: dict[str, str]
    proxy: FaultProxy
    strikes: Strikes
    fleet: Fleet
    traffic: Traffic
    ledger: Ledger
    warehouse: Warehouse
    random: Random
    admin: AdminClient
    struck: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def group(self) -> str:
        return f"{self.variables[TOPIC_PREFIX]}warehouse"

    def meet(self, fault: Fault, sinks: int, limit_s: float = STRIKE_LIMIT_S) -> str | None:
        """Arm a fault, have so many sinks run, and write until it has struck; the sink that it met, None where none came by.

        Sinks start after the arming, so that the faults of taking over meet somebody who does.
        """
        armed = self.strikes.arm(fault)
        self.fleet.ensure(sinks)
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            self.traffic.send(FEED_RECORDS)
            if armed.struck.wait(FEED_INTERVAL_S):
                self.struck[fault.label] += 1
                return armed.by
        self.strikes.disarm()
        self.missed[fault.label] += 1
        return None

    def goes_on(self, sinks: int, limit_s: float) -> bool:
        """Whether so many sinks, started whenever there are fewer, insert something from now on."""
        began_s = time.monotonic()

        def has_inserted() -> bool:
            self.fleet.ensure(sinks)
            return any(passed.at_s > began_s and is_insert(passed) for passed in self.proxy.passed[-LATEST:])

        return eventually(has_inserted, limit_s)

    def act(self, fault: Fault, sink: str) -> None:
        """What a fault does to processes."""
        if fault.effect in {Effect.KILL_SINK, Effect.KILL_BOTH}:
            self.fleet.kill(sink)
        if fault.effect is Effect.STOP_SINK:
            self.fleet.stop(sink)
        if fault.effect in {Effect.KILL_WAREHOUSE, Effect.KILL_BOTH}:
            self.stack.kill("warehouse")

    def end(self) -> End:
        """Take all faults away, let a last sink bring in what is left, and judge."""
        self.strikes.disarm()
        self.fleet.kill_all()
        for part in ("kafka", "warehouse"):
            self.stack.await_ready(part)
        for statement in self.setting.healing_sql:
            self.warehouse.command(statement)
        done = self.fleet.drain()
        assert eventually(lambda: self.proxy.held == 0, HELD_LIMIT_S), "the last late request has arrived"
        found = self.warehouse.found()
        return End(judge(self.ledger, found), found, ask(self.variables), done.returncode == 0, done.stderr[-2000:])

    def longest_pause_s(self, since_s: float, until_s: float) -> float:
        """The longest time without an insert that went well."""
        times = [passed.at_s for passed in self.proxy.passed if is_insert(passed)]
        marks = [since_s, *(at_s for at_s in times if since_s < at_s < until_s), until_s]
        return max(later - earlier for earlier, later in pairwise(marks))


def is_insert(passed: Passed) -> bool:
    return passed.step in {Step.INSERT, Step.INSERT_LETTERS}


@contextmanager
def arena(stack: LocalStack, setting: Setting, log: Path) -> Iterator[Arena]:
    """A provisioned installation with a proxy and no sinks yet; everything of it is ended and removed afterwards."""
    variables = _variables(stack, setting)
    provision(Installation.from_environment(variables))
    warehouse, ledger, random = Warehouse(variables), Ledger(), Random(setting.seed)
    warehouse.prepare()
    for statement in setting.sql:
        warehouse.command(statement)
    url = urlsplit(variables[WAREHOUSE_URL])
    strikes = Strikes()
    proxy = FaultProxy(url.hostname or "", url.port or 0, strikes)
    fleet = Fleet(variables, proxy, log, setting.launch)
    traffic = Traffic(variables, ledger, random, setting.mix)
    admin = AdminClient({"bootstrap.servers": variables[KAFKA_BOOTSTRAP], "log_level": 0})
    made = Arena(stack, setting, variables, proxy, strikes, fleet, traffic, ledger, warehouse, random, admin)
    proxy.act = made.act
    try:
        yield made
    finally:
        fleet.kill_all()
        proxy.close()
        _remove(variables, warehouse, admin)


def _variables(stack: LocalStack, setting: Setting) -> dict[str, str]:
    urls = (WAREHOUSE_URL, WAREHOUSE_READ_URL)
    named = {name: _in_database(stack.variables[name], setting.name) for name in urls}
    return {
        **stack.variables,
        **named,
        TOPIC_PREFIX: f"{setting.name}.",
        "TAILRACE_SINK_BATCH_ROWS_MAX": str(setting.batch_rows),
        "TAILRACE_SINK_BATCH_AGE_MS_MAX": str(setting.batch_age_ms),
        "TAILRACE_KAFKA_OPTIONS": PROTOCOLS[setting.protocol],
    }


def _in_database(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _remove(variables: dict[str, str], warehouse: Warehouse, admin: AdminClient) -> None:
    """Many scenarios' topics and tables would slow the later ones down."""
    for future in admin.delete_topics([topic_name(variables[TOPIC_PREFIX], topic) for topic in TOPICS]).values():
        future.result(ANSWER_TIMEOUT_S)
    warehouse.command(f"DROP DATABASE {urlsplit(variables[WAREHOUSE_URL]).path.strip('/')} SYNC")
