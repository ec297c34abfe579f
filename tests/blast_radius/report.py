"""The figures of a run as JSON and as a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.blast_radius.figures import BEHAVED, UNTOUCHED, Round, effects, failed, same_bytes
from tests.blast_radius.running import SILENT, STOLEN_SHARE_MAX, TRIES
from tests.blast_radius.witness import SLOW
from tests.blast_radius.workers import Load

EMISSION = "emission"
LIMITS = {"kafka": 1.10, "spool": 1.10}
LIMIT = 1.05
"""Of the p99's excess, for what is not named in LIMITS."""

HEAD = """# Blast radius

Made by `python -m tests.blast_radius`, which `make blast-radius` runs; the figures are in docs/blast-radius.json. A worker of
`tailrace serve` is under open-loop load: {rate:g} requests a second are due, 10 slots each, whether or not earlier ones have been
answered, and a latency counts from when its request was due. Each of the {rounds} rounds has a block of {seconds:g} s of every
condition, in a drawn order. The worker has a core of its own; load, stack, sink and all else share the other. The load runs
before the rest on its core; `late` is by how much it sent a request too late at worst, the median over the blocks. `stolen` is
the share of the worker's core that the machine's host gave to others, the median too; a block that lost more than {stolen:.0%}
was made again, up to {tries} times in all, and the one that lost least counts. `slowed` is the share of requests that came
while the machine itself was slow: a fixed piece of work beside the load took {slow:g} times as long as usual. Their latencies are
left out, whatever the condition; their answers count.

`ratio` is the median over the rounds of a block's p99 over that of the same round's undisturbed block, `bound` its one-sided 95 %
bound, `excess` that bound over the bound of A/A: what is left when chance has had its share. A/A is `untouched again`, and `all
policies behave again` where a policy misbehaves. `emission` is the worker over one that differs in its emitter only, which takes
every event and sends none. `same bytes`: every answer of every block, under injected ids and one seed, was the same to the byte
as in the undisturbed blocks. `slow` is a part that runs for 50 ms and stands for 200 ms, in turn. A hanging disk takes a write
and does not come back from it; it is there where this machine lets the superuser freeze one.

Where a policy misbehaves, half of the units are in its arm, whose answers are the fallback's; shown are the requests of the other
arm, beside a round's block in which all policies behave. Policies have the second core, which load, stack and sink use as well.
`failed` counts those of the arm, too.

Machine: {machine}.
"""


def rows(rounds: Sequence[Round], bases: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By condition; `bases` says what each is compared with."""
    names = [name for name in rounds[0] if name not in {UNTOUCHED, SILENT, BEHAVED}]
    return {EMISSION: _row(rounds, UNTOUCHED, SILENT)} | {name: _row(rounds, name, bases[name]) for name in names}


def met(name: str, row: Mapping[str, Any]) -> bool:
    """Whether nothing failed, nothing changed, and the p99 stayed within its limit."""
    within: bool = row["effects"]["p99"]["excess"] <= limit(name)
    return within and row["failed"] == 0 and row["same_bytes"]


def limit(name: str) -> float:
    return next((limit for word, limit in LIMITS.items() if name.startswith(word)), LIMIT)


def write(directory: Path, found: Mapping[str, Mapping[str, Any]], count: int, load: Load, machine: str) -> None:
    content = {"load": asdict(load), "rounds": count, "machine": machine, "conditions": found}
    (directory / "blast-radius.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = HEAD.format(
        rate=load.requests_per_s,
        seconds=load.seconds,
        rounds=count,
        machine=machine,
        stolen=STOLEN_SHARE_MAX,
        tries=TRIES,
        slow=SLOW,
    )
    (directory / "blast-radius.md").write_text("\n".join([head, *_table(found)]) + "\n", encoding="utf-8")


def _row(rounds: Sequence[Round], name: str, base: str) -> dict[str, Any]:
    found = effects(rounds, name, base)
    return {
        "effects": {figure: {key: round(value, 4) for key, value in asdict(effect).items()} for figure, effect in found.items()},
        "failed": failed(rounds, name),
        "same_bytes": same_bytes(rounds, name, base),
        "late_ms": median(blocks[name].late_ms_max for blocks in rounds),
        "stolen_share": round(median(blocks[name].stolen_share for blocks in rounds), 4),
        "slowed_share": round(median(blocks[name].slowed_share for blocks in rounds), 4),
    }


def _table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    figures = "p50 ms | p99 ms | p99.9 ms | ratio | bound | excess | limit"
    head = f"| condition | {figures} | failed | same bytes | late | stolen | slowed | met |"
    lines = [head, "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|---|"]
    for name, row in found.items():
        p99 = row["effects"]["p99"]
        milliseconds = " | ".join(f"{row['effects'][figure]['condition_ms']:.2f}" for figure in ("p50", "p99", "p99.9"))
        ratios = f"{p99['ratio']:.3f} | {p99['bound']:.3f} | {p99['excess']:.3f} | {limit(name):.2f}"
        same, within = ("yes" if holds else "NO" for holds in (row["same_bytes"], met(name, row)))
        machine = f"{row['late_ms']:.1f} ms | {row['stolen_share']:.1%} | {row['slowed_share']:.1%}"
        lines.append(f"| {name} | {milliseconds} | {ratios} | {row['failed']} | {same} | {machine} | {within} |")
    return lines
