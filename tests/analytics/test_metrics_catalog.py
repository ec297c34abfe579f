"""Metrics are files that people review: what ships is sound, and a wrong file says all that is wrong with it."""

from pathlib import Path

import pytest

from analytics.config import SHIPPED_METRICS_DIRECTORY, AnalyticsConfig
from analytics.errors import UnknownName
from analytics.metrics_catalog import Aggregate, Direction, Measure, Metric, MetricKind, Source, choose, load_catalog
from schemas.errors import ConfigurationError

WEEKLY_REVENUE = """
title = "Revenue in the first week"
description = "What a unit bought at the checkout within a week of its first exposure."
unit_of_measure = "euros per unit"
kind = "mean"
better = "higher"
window_hours = 168
surface = "checkout"

[value]
source = "interactions"
interaction = "purchase"
aggregate = "sum"
"""

WRONG = """
title = ""
kind = "median"
better = "up"
window_hours = 0.5
sql = "DROP TABLE recommendations"

[value]
source = "slots"
aggregate = "count"
interaction = "click"
weight = 2
"""


def write(directory: Path, name: str, text: str) -> Path:
    (directory / f"{name}.toml").write_text(text, encoding="utf-8")
    return directory


def problems_of(*directories: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_catalog(directories)
    return [problem.rpartition(".toml: ")[2] for problem in refused.value.problems]


def test_the_shipped_metrics_are_sound() -> None:
    catalog = load_catalog([SHIPPED_METRICS_DIRECTORY])
    assert {"clicks_per_unit", "click_through_rate", "clicked_share", "degraded_share"} <= catalog.keys()
    rate = catalog["click_through_rate"]
    assert rate.numerator == Measure(Source.INTERACTIONS, Aggregate.COUNT, "click")
    assert rate.denominator == Measure(Source.REQUESTS, Aggregate.COUNT)


def test_a_team_adds_metrics_in_a_directory_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "weekly_revenue", WEEKLY_REVENUE)
    variables = {"TAILRACE_WAREHOUSE_URL": "http://localhost:8123/tailrace", "TAILRACE_METRICS_DIRECTORY": str(tmp_path)}
    catalog = load_catalog(AnalyticsConfig.from_environment(variables).metrics_directories)
    assert "clicks_per_unit" in catalog
    assert catalog["weekly_revenue"] == Metric(
        name="weekly_revenue",
        title="Revenue in the first week",
        description="What a unit bought at the checkout within a week of its first exposure.",
        unit_of_measure="euros per unit",
        kind=MetricKind.MEAN,
        better=Direction.HIGHER,
        numerator=Measure(Source.INTERACTIONS, Aggregate.SUM, "purchase"),
        window_hours=168,
        surface="checkout",
    )


def test_one_message_names_all_that_is_wrong_in_all_files(tmp_path: Path) -> None:
    write(tmp_path, "broken", "title = ")
    write(tmp_path, "wrong", WRONG)
    write(tmp_path, "ratio_of_nothing", WEEKLY_REVENUE.replace('"mean"', '"ratio"'))
    found = problems_of(tmp_path)
    assert "does not read as TOML: Invalid value (at end of document)" in found
    assert "kind = 'median' is not one of mean, share, ratio" in found
    assert "better = 'up' is not one of higher, lower" in found
    assert "title is missing or not a text" in found
    assert "description is missing or not a text" in found
    assert "window_hours = 0.5 is not a whole number of hours from 1 to 8784" in found
    assert "'sql' means nothing here" in found
    assert "'weight' in [value] means nothing here" in found
    assert "[value]: slots have no count" in found
    assert "[value]: only interactions have a kind of interaction" in found
    assert "has no table [numerator]" in found
    assert "has no table [denominator]" in found


@pytest.mark.parametrize("hours", ["0", "-1", "8785", "true", '"168"'])
def test_a_window_is_a_whole_number_of_hours(tmp_path: Path, hours: str) -> None:
    write(tmp_path, "weekly_revenue", WEEKLY_REVENUE.replace("168", hours))
    assert len(problems_of(tmp_path)) == 1


def test_a_name_is_defined_once(tmp_path: Path) -> None:
    write(tmp_path, "clicks_per_unit", WEEKLY_REVENUE)
    assert problems_of(SHIPPED_METRICS_DIRECTORY, tmp_path) == ["there is a metric 'clicks_per_unit' already"]


def test_metrics_are_chosen_by_name_and_all_where_none_is_named() -> None:
    catalog = load_catalog([SHIPPED_METRICS_DIRECTORY])
    assert choose(catalog, []) == tuple(catalog.values())
    assert choose(catalog, ["clicked_share", "clicked_share"]) == (catalog["clicked_share"],)
    with pytest.raises(UnknownName, match="no metric 'clicks'; there are click_through_rate, "):
        choose(catalog, ["clicks"])


def test_settings_say_at_once_all_that_is_wrong() -> None:
    variables = {"TAILRACE_METRICS_DIRECTORY": "/nowhere/at/all", "TAILRACE_QUERY_TIMEOUT_S": "soon"}
    with pytest.raises(ConfigurationError) as refused:
        AnalyticsConfig.from_environment(variables)
    assert refused.value.problems == (
        "TAILRACE_WAREHOUSE_READ_URL is not set",
        "TAILRACE_QUERY_TIMEOUT_S='soon' is not a whole number",
        "TAILRACE_METRICS_DIRECTORY='/nowhere/at/all' is not a directory",
    )


def test_the_readers_warehouse_is_the_writers_unless_named() -> None:
    writer = {"TAILRACE_WAREHOUSE_URL": "http://writer@localhost/tailrace"}
    reader = {"TAILRACE_WAREHOUSE_READ_URL": "http://reader@localhost/tailrace"}
    assert AnalyticsConfig.from_environment(writer).warehouse_url == writer["TAILRACE_WAREHOUSE_URL"]
    assert AnalyticsConfig.from_environment(writer | reader).warehouse_url == reader["TAILRACE_WAREHOUSE_READ_URL"]
