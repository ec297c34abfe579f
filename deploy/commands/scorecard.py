"""`tailrace scorecard`: how an experiment went, read from the warehouse."""

import time
from pathlib import Path
from typing import Any

import click

from analytics import scorecard_json, scorecard_text
from analytics.as_of import AsOf, parse
from analytics.config import AnalyticsConfig
from analytics.errors import UnknownExperiment, UnknownName
from analytics.metrics_catalog import choose, load_catalog
from analytics.results import Scorecard
from analytics.scorecard import Question
from analytics.scorecard import scorecard as ask
from analytics.warehouse import Warehouse
from deploy.parameters import moment_ms
from deploy.settings import WAREHOUSE_READ_URL, WAREHOUSE_URL, environment, home_of, nothing_runs
from schemas.events import Micros, Traffic

EPILOG = """\b
Examples:
  tailrace scorecard obd-all
  tailrace scorecard simulated-ranker --traffic simulated --metric click_through_rate
  tailrace scorecard obd-men --control random --json > card.json
  tailrace scorecard obd-men --control random --json --as-of card.json   the same bytes, whatever has come in since
  tailrace scorecard obd-all --as-of 2026-01-31T12:00                    as Kafka had it then (UTC)
"""


class AsOfType(click.ParamType):
    """Ends, from JSON or a file of it; or a moment."""

    name = "offsets|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AsOf | Micros:
        if isinstance(value, AsOf | int):
            return value if isinstance(value, AsOf) else Micros(value)
        try:
            if value.lstrip().startswith("{"):
                return parse(value)
            if Path(value).is_file():
                return parse(Path(value).read_text(encoding="utf-8"))
            moment = Micros(moment_ms(value) * 1000)
        except (ValueError, OSError) as error:
            self.fail(f"{error}; or name a file with a scorecard's JSON", param, ctx)
        if moment > time.time_ns() // 1000:
            self.fail(f"{value} has not come yet, and what will have come by then is not known", param, ctx)
        return moment


@click.command(epilog=EPILOG)
@click.argument("experiment")
@click.option("--traffic", type=click.Choice([str(kind) for kind in Traffic]), default=str(Traffic.LIVE), show_default=True)
@click.option(
    "--control", metavar="ARM", help="The arm to compare with; the first of the definition unless one is named control."
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; may be given more than once.")
@click.option(
    "--as-of",
    type=AsOfType(),
    help="Count only what had arrived: below the offsets in an earlier scorecard's JSON (a file, or the JSON), or before a "
    "time by Kafka's clock (24h, 2026-01-31T12:00, UTC).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scorecard as JSON.")
def scorecard(
    experiment: str,
    traffic: str,
    control: str | None,
    metrics: tuple[str, ...],
    as_of: AsOf | Micros | None,
    *,
    as_json: bool,
) -> None:
    """Say how EXPERIMENT went: units, exposures, crossovers, metric means by arm, and how the arms differ from the control.

    Every scorecard says below which offsets of Kafka's it counts; asked --as-of them it gives the same figures for ever.
    Metrics are the reviewed definitions that ship with Tailrace, and those in TAILRACE_METRICS_DIRECTORY. Exits with 1 where the
    warehouse knows no such experiment.
    """
    try:
        card = _answer(experiment, metrics, Traffic(traffic), control, as_of)
    except UnknownExperiment as error:
        raise click.ClickException(str(error)) from error
    except UnknownName as error:
        raise click.UsageError(str(error)) from error
    click.echo(scorecard_json.render(card) if as_json else scorecard_text.render(card))


def _answer(
    experiment: str, metrics: tuple[str, ...], traffic: Traffic, control: str | None, as_of: AsOf | Micros | None
) -> Scorecard:
    variables = environment()
    if not any(variables.get(name) for name in (WAREHOUSE_READ_URL, WAREHOUSE_URL)):
        raise nothing_runs(home_of(variables))
    config = AnalyticsConfig.from_environment(variables)
    question = Question(experiment, choose(load_catalog(config.metrics_directories), metrics), traffic, control, as_of)
    with Warehouse(config) as warehouse:
        return ask(warehouse, question)
