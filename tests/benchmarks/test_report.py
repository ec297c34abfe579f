from pathlib import Path
from typing import Any

from tests.benchmarks.parts import PARTS
from tests.benchmarks.presentation import Section, Table, as_markdown, as_text, at_least, at_most
from tests.benchmarks.report import content, readme, write

MACHINE = {
    "cores": 2,
    "system": "Linux",
    "architecture": "x86_64",
    "python": "3.11",
    "kafka": "4.3",
    "chdb": "4.4",
    "load_average": 0.1,
}


def run(seconds: float, rows: int = 1_000_000) -> dict[str, Any]:
    cpu_s = {"contender": seconds / 2, "kafka": seconds / 4, "warehouse": seconds}
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "others_cpu_s": 0.0,
        "spent_s": {"insert": seconds / 2, "fence": 0.1},
    }


def test_a_target_is_met_at_its_bound_and_not_beyond() -> None:
    assert [at_least("a", 5, found).met for found in (5.0, 4.99)] == [True, False]
    assert [at_most("b", 2, found, "%").met for found in (2.0, 2.01)] == [True, False]


def test_text_and_markdown_show_the_same_cells() -> None:
    section = Section("Title", "How.", [Table(("words", "figure"), [("one", "1.0")])], [at_least("speed", 5, 4.0)])
    assert "| one | 1.0 |" in as_markdown(section)
    assert "| speed | ≥ 5 × | 4.00 × | NO |" in as_markdown(section)
    assert "speed    ≥ 5 ×  4.00 ×   NO" in as_text(section)


def test_the_sink_is_compared_with_the_better_kafka_table_and_with_its_limit() -> None:
    seconds = {"sink": 4.0, "fastavro": 24.0, "deserializer": 32.0, "kafka-table-1": 40.0, "kafka-table-2": 16.0, "consume": 2.0}
    measured = {"flat": {"rows": 1_000_000, "runs": {name: [run(took)] * 3 for name, took in seconds.items()}}}
    found = {target.what: (target.found, target.met) for target in PARTS["throughput"].present(measured).targets}
    assert found == {
        "flat: × fastavro": ("6.00 ×", True),
        "flat: × deserializer": ("8.00 ×", False),
        "flat: × the better Kafka table": ("4.00 ×", False),
        "flat: share of the limit of 2 cores": ("0.88", True),
    }


def test_what_guards_add_is_taken_within_rounds_and_stands_beside_its_noise() -> None:
    runs = {"guarded": [run(10.0), run(20.0)], "unguarded": [run(10.0), run(20.0)], "guarded again": [run(10.3), run(20.6)]}
    section = PARTS["overhead"].present({"rows": 1, "runs": runs})
    assert section.tables[0].rows[0][:2] == ("time", "+1.50")
    assert section.tables[0].rows[1][:2] == ("time, noise", "+3.00")
    assert [target.met for target in section.targets] == [True, True]


def test_memory_counts_from_when_the_bound_may_be_reached_until_the_warehouse_is_back() -> None:
    mib = 1 << 20
    samples = [(0.0, 90 * mib), (10.0, 200 * mib), (20.0, 100 * mib), (30.0, 109 * mib), (40.0, 300 * mib)]
    measured = {
        "minutes": 1,
        "live_rows_per_s": 100,
        "began_s": 5.0,
        "filled_s": 15.0,
        "ended_s": 35.0,
        "settle_s": 5.0,
        "catch_up_s": 10.0,
        "catch_up_rows": 1900,
        "rss_bytes": samples,
    }
    flat, catching_up = PARTS["outage"].present(measured).targets
    assert (flat.found, flat.met) == ("4.31 %", True)
    assert (catching_up.found, catching_up.met) == ("1.90 ×", False)


def test_the_readme_is_made_of_every_part_that_has_figures(tmp_path: Path) -> None:
    write(tmp_path, "latency", content(_latency(), "make bench", MACHINE))
    write(tmp_path, "encoding", content({"flat": {"codec": 8.0, "other": 12.0}}, "make bench", MACHINE))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.index("[latency.json]") < text.index("[encoding.json]")
    assert "| other | 12.0 (1.50 ×) |" in text
    assert "throughput" not in readme({})


def _latency() -> dict[str, Any]:
    return {
        "maximum_rows_per_s": 100.0,
        "wanted_rows_per_s": 50.0,
        "seconds": 2.0,
        "written": 99,
        "latencies_s": [0.1, 0.2, 0.3],
    }
