"""`make bench`: the sink and the codec beside their peers, in one run, as ratios.

Every contender reads the same records from a local stack of its own, ROUNDS times, one after the other within a round, so that a
machine that drifts drifts for all. Prints medians and ratios and writes the raw figures to docs/benchmarks/sink.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import clickhouse_connect
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from deploy.installing import bring_up
from deploy.local.stack import stop_stack
from deploy.provision import provision
from deploy.settings import Installation, StackSettings
from schemas.contracts import contract
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.encoding import encoding_us
from tests.benchmarks.workloads import PEER_TABLE, WORKLOADS, Workload, encoded, peer_table_sql

ROUNDS = 3
REPORT = Path("docs/benchmarks/sink.json")
CONTENDER_LIMIT_S = 600
_SINK = "splice"

Figures = dict[str, dict[str, list[dict[str, float]]]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each contender runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=REPORT, help="where the raw figures go (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as home:
        variables = {**os.environ, "TAILRACE_HOME": home}
        try:
            installed = bring_up(variables, _say)
            figures = _measure({**variables, **installed.variables}, arguments.rounds)
        finally:
            stop_stack(StackSettings.from_environment(variables).home)
    encoding = {name: encoding_us(workload) for name, workload in WORKLOADS.items()}
    report = {
        "machine": _machine(),
        "command": "make bench",
        "rounds": arguments.rounds,
        "figures": figures,
        "summary": _summary(figures),
        "encoding_us": encoding,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report["summary"])
    _print_encoding(encoding)


def _measure(variables: Mapping[str, str], rounds: int) -> Figures:
    figures: Figures = {}
    for workload in WORKLOADS.values():
        _say(f"{workload.name}: filling the topic with {workload.rows} records")
        own = _installation(variables, workload)
        _fill(own, workload)
        figures[workload.name] = {name: [] for name in CONTENDERS}
        for turn in range(rounds):
            for name in CONTENDERS:
                _reset(own, workload)
                figure = _contend(own, name, workload, f"bench-{workload.name}-{turn}-{name.replace(' ', '')}")
                figures[workload.name][name].append(figure)
                _say(f"{workload.name} {turn + 1}/{rounds} {name}: {figure['rows'] / figure['seconds']:,.0f} rows/s")
    return figures


def _installation(variables: Mapping[str, str], workload: Workload) -> dict[str, str]:
    """Topics and a database of the workload's own: the sink reads all topics of its prefix."""
    url = variables["TAILRACE_WAREHOUSE_URL"].rsplit("/", 1)[0]
    own = {"TAILRACE_TOPIC_PREFIX": f"{workload.name}.", "TAILRACE_WAREHOUSE_URL": f"{url}/{workload.name}"}
    provision(Installation.from_environment({**variables, **own}))
    return {**variables, **own}


def _fill(variables: Mapping[str, str], workload: Workload) -> None:
    topic = variables["TAILRACE_TOPIC_PREFIX"] + workload.topic
    with SchemaRegistryClient({"url": variables["TAILRACE_REGISTRY_URL"]}) as registry:
        schema_id = registry.lookup_schema(f"{topic}-value", Schema(contract(workload.record).newest.text, "AVRO")).schema_id
    assert schema_id is not None, "the stack has registered every contract"
    producer = Producer({"bootstrap.servers": variables["TAILRACE_KAFKA_BOOTSTRAP"], "compression.type": "lz4", "linger.ms": 20})
    for key, value in encoded(workload, schema_id):
        while True:
            try:
                producer.produce(topic, value, key=key)
                break
            except BufferError:
                producer.poll(1)
    assert producer.flush(60) == 0, "the broker takes all"


def _reset(variables: Mapping[str, str], workload: Workload) -> None:
    client = clickhouse_connect.get_client(dsn=variables["TAILRACE_WAREHOUSE_URL"])
    try:
        client.command(f"TRUNCATE TABLE {workload.table}")
        client.command(f"DROP TABLE IF EXISTS {PEER_TABLE[workload.record]}")
        client.command(peer_table_sql(workload))
    finally:
        client.close()


def _contend(variables: Mapping[str, str], name: str, workload: Workload, group: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.contenders", name, workload.name],
        env={**variables, "TAILRACE_SINK_GROUP": group},
        capture_output=True,
        text=True,
        timeout=CONTENDER_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    figure: dict[str, float] = json.loads(done.stdout)
    assert figure["rows"] == workload.rows, f"{name} brought {figure['rows']} of {workload.rows} rows"
    return figure


def _summary(figures: Figures) -> dict[str, dict[str, dict[str, float]]]:
    """Medians, and how many times as fast the sink is: the median of the ratios within each round."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for workload, by_name in figures.items():
        sink = by_name[_SINK]
        summary[workload] = {
            name: {
                "rows_per_s": statistics.median(figure["rows"] / figure["seconds"] for figure in runs),
                "cpu_us_per_row": statistics.median(figure["cpu_seconds"] / figure["rows"] * 1e6 for figure in runs),
                "sink_is_times_as_fast": statistics.median(
                    other["seconds"] / ours["seconds"] for other, ours in zip(runs, sink, strict=True)
                ),
            }
            for name, runs in by_name.items()
        }
    return summary


def _print(summary: Any) -> None:
    for workload, by_name in summary.items():
        print(f"\n{workload}: {WORKLOADS[workload].rows:,} records")
        print(f"{'':40} {'rows/s':>10} {'CPU µs/row':>11} {'sink is … times as fast':>24}")
        for name, figure in by_name.items():
            rate, cpu_us, ratio = figure["rows_per_s"], figure["cpu_us_per_row"], figure["sink_is_times_as_fast"]
            print(f"{name:40} {rate:10,.0f} {cpu_us:11.1f} {ratio:24.2f}")


def _print_encoding(encoding: Mapping[str, Mapping[str, float]]) -> None:
    for workload, by_name in encoding.items():
        print(f"\nencoding, {workload}")
        print(f"{'':40} {'µs/event':>10} {'codec is … times as fast':>36}")
        ours = next(iter(by_name.values()))
        for name, figure_us in by_name.items():
            print(f"{name:40} {figure_us:10.1f} {figure_us / ours:36.2f}")


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
