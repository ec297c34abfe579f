"""`tailrace scorecard`: how an experiment went, read from the warehouse."""

import time

import click

from analytics import scorecard_json, scorecard_text
from analytics.config import AnalyticsConfig
from analytics.errors import UnknownExperiment, UnknownName
from analytics.metrics_catalog import choose, load_catalog
from analytics.results import Scorecard
from analytics.scorecard import Question
from analytics.scorecard import scorecard as ask
from analytics.warehouse import Warehouse
from deploy.settings import WAREHOUSE_READ_URL, WAREHOUSE_URL, environment, home_of, nothing_runs
from schemas.events import Micros, Traffic

EPILOG = """\b
Examples:
  tailrace scorecard obd-all
  tailrace scorecard simulated-ranker --traffic simulated --metric click_through_rate
  tailrace scorecard obd-men --control random --json
"""


@click.command(epilog=EPILOG)
@click.argument("experiment")
@click.option("--traffic", type=click.Choice([str(kind) for kind in Traffic]), default=str(Traffic.LIVE), show_default=True)
@click.option(
    "--control", metavar="ARM", help="The arm to compare with; the first of the definition unless one is named control."
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; may be given more than once.")
@click.option("--json", "as_json", is_flag=True, help="Print the scorecard as JSON.")
def scorecard(experiment: str, traffic: str, control: str | None, metrics: tuple[str, ...], *, as_json: bool) -> None:
    """Say how EXPERIMENT went: units, exposures, crossovers, metric means by arm, and how the arms differ from the control.

    Metrics are the reviewed definitions that ship with Tailrace, and those in TAILRACE_METRICS_DIRECTORY. Exits with 1 where the
    warehouse knows no such experiment.
    """
    try:
        card = _answer(experiment, Traffic(traffic), control, metrics)
    except UnknownExperiment as error:
        raise click.ClickException(str(error)) from error
    except UnknownName as error:
        raise click.UsageError(str(error)) from error
    click.echo(scorecard_json.render(card) if as_json else scorecard_text.render(card))


def _answer(experiment: str, traffic: Traffic, control: str | None, metrics: tuple[str, ...]) -> Scorecard:
    variables = environment()
    if not any(variables.get(name) for name in (WAREHOUSE_READ_URL, WAREHOUSE_URL)):
        raise nothing_runs(home_of(variables))
    config = AnalyticsConfig.from_environment(variables)
    question = Question(experiment, choose(load_catalog(config.metrics_directories), metrics), traffic, control)
    with Warehouse(config) as warehouse:
        return ask(warehouse, question, Micros(time.time_ns() // 1000))
