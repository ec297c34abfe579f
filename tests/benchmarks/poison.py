"""How fast the sink is when some records cannot go into any table."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from random import Random
from statistics import median
from types import MappingProxyType
from typing import Any

from tests.benchmarks.contenders import SINK
from tests.benchmarks.contending import contend
from tests.benchmarks.figures import Run, Spread, ratios
from tests.benchmarks.filling import Filling, Record, schema_id_of
from tests.benchmarks.ground import Ground, Place
from tests.benchmarks.part import Asked
from tests.benchmarks.presentation import Section, Table, at_least
from tests.benchmarks.workloads import WORKLOADS, records
from tests.faults.poison import POISON, Spoil

SEED = 4
CLEAN = "0"
WANTED = MappingProxyType({"1e-06": 0.95, "0.001": 0.4, "0.01": 0.4})
_WORKLOAD = WORKLOADS["flat"]
_HOW = """The same flat events, some of them spoiled, places and bytes drawn from a seed: a wrong first byte, cut short, a
byte too many, no uuid in `event_id`, an id that the registry does not know, in turn. The clock stops when every record is in
its table or in `dead_letters`; a round goes through all shares, and a ratio is the median of the ratios to the clean topic
within each round. The limit on the share of dead letters is the default."""


def _bad_uuid(value: bytes, _stranger: int, _random: Random) -> bytes:
    return value.replace(b"018f0000-", b"this is n", 1)


KINDS: Mapping[str, Spoil] = MappingProxyType(
    {**{name: POISON[name] for name in ("bad magic", "truncated", "one byte more", "unknown id")}, "bad uuid": _bad_uuid}
)


@dataclass(frozen=True, slots=True)
class Extent:
    rows: Mapping[str, int]
    """By share."""
    rounds: int


FULL = Extent({CLEAN: 1_000_000, "1e-06": 1_000_000, "0.001": 400_000, "0.01": 400_000}, 3)
QUICK = Extent({CLEAN: 10_000, "1e-06": 10_000, "0.001": 10_000, "0.01": 10_000}, 1)


def measure(ground: Ground, asked: Asked) -> dict[str, Any]:
    extent = QUICK if asked.quick else FULL
    runs: dict[str, list[dict[str, Any]]] = {share: [] for share in extent.rows}
    with ExitStack() as places:
        by_share = {share: places.enter_context(ground.place(f"poison_{number}")) for number, share in enumerate(extent.rows)}
        for share, rows in extent.rows.items():
            ground.say(f"poison {share}: writing {rows:,} records")
            _fill(by_share[share], rows, float(share))
        for turn in range(extent.rounds):
            for share, rows in extent.rows.items():
                run = contend(by_share[share], SINK, _WORKLOAD, rows)
                runs[share].append(run.as_json())
                ground.say(f"poison {share} {turn + 1}/{extent.rounds}: {run.rows_per_s:,.0f} records/s")
    return {"runs": runs}


def spoiled(made: Iterator[Record], rows: int, share: float, random: Random) -> Iterator[Record]:
    """`made`, with a share of it spoiled, at least one where there is a share at all."""
    count = max(1, round(rows * share)) if share else 0
    places, spoils = set(random.sample(range(rows), count)), cycle(KINDS.values())
    for number, (key, value) in enumerate(made):
        spoiled_value = next(spoils)(value, 0, random) if number in places else value
        assert spoiled_value is not None, "no kind of poison here is without bytes"
        yield key, spoiled_value


def _fill(place: Place, rows: int, share: float) -> None:
    filling = Filling(place.variables, _WORKLOAD.topic)
    made = records(_WORKLOAD, schema_id_of(place.variables, _WORKLOAD), rows)
    filling.send(spoiled(made, rows, share, Random(SEED)))
    filling.end()


def present(measured: Mapping[str, Any]) -> Section:
    rates = {share: [Run(**run).rows_per_s for run in runs] for share, runs in measured["runs"].items()}
    rows = {share: runs[0]["rows"] for share, runs in measured["runs"].items()}
    times = {share: median(ratios(found, rates[CLEAN])) for share, found in rates.items()}
    lines = [_line(share, rows[share], found, times[share]) for share, found in rates.items()]
    targets = [at_least(f"share of the clean rate at {share}", wanted, times[share]) for share, wanted in WANTED.items()]
    header = ("share of poison", "records", "records/s", "least–most", "of the clean rate")
    return Section("Poison", _HOW, [Table(header, lines)], targets)


def _line(share: str, rows: int, rates: list[float], times: float) -> tuple[str, ...]:
    rate = Spread.of(rates)
    return share, f"{rows:,}", f"{rate.median:,.0f}", f"{rate.least:,.0f}–{rate.most:,.0f}", f"{times:.2f}"
