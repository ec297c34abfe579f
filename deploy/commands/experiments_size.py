"""`tailrace experiments size`: how many units an experiment needs, and how long."""

import dataclasses
import json

import click

from analytics.power import Design, Population, Size, days
from analytics.power import size as size_of

EPILOG = """\b
Examples:
  tailrace experiments size --rate 0.05 --mde 0.02                               a rate of 5 %, and 2 % more of it
  tailrace experiments size --rate 0.05 --mde-absolute 0.002 --arms 1:1:2
  tailrace experiments size --mean 3.2 --variance 9 --mde 0.01 --power 0.9
  tailrace experiments size --rate 0.05 --mde 0.02 --units-a-day 20000 --share 0.1
"""
OPEN_UNIT = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(epilog=EPILOG)
@click.option("--rate", type=OPEN_UNIT, help="The control's share of units that do it.")
@click.option("--mean", type=float, help="The control's mean by unit, with --variance.")
@click.option("--variance", type=click.FloatRange(0, min_open=True), help="Of units, in every arm.")
@click.option("--mde", type=float, help="The smallest effect worth seeing, as a share of the control's mean.")
@click.option("--mde-absolute", type=float, help="The same, in the metric's own units.")
@click.option("--alpha", type=OPEN_UNIT, default=0.05, show_default=True, help="Of the experiment; treatments share it.")
@click.option("--power", type=OPEN_UNIT, default=0.8, show_default=True, help="Of each treatment against the control.")
@click.option("--arms", default="1:1", show_default=True, metavar="W:W[:W…]", help="Weights, the control's first.")
@click.option("--units-a-day", type=click.FloatRange(0, min_open=True), help="New units a day, to say how long it takes.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True, help="Of them that enter.")
@click.option("--json", "as_json", is_flag=True, help="Print the size as JSON.")
def size(  # noqa: PLR0913 - one argument an option
    *,
    rate: float | None,
    mean: float | None,
    variance: float | None,
    mde: float | None,
    mde_absolute: float | None,
    alpha: float,
    power: float,
    arms: str,
    units_a_day: float | None,
    share: float,
    as_json: bool,
) -> None:
    """Say how many units each arm needs for an effect to be seen, by Welch's t as the scorecard uses it.

    Exits with 1 where no number of units would do. Units are counted once: those that come back are not new ones.
    """
    control = _control(rate, mean, variance)
    treatment = _treatment(control, _effect(control, mde, mde_absolute), is_rate=rate is not None)
    found = size_of(control, treatment, Design(_weights(arms), alpha, power))
    if found is None:
        raise click.ClickException("the effect is too small for any experiment")
    duration = None if units_a_day is None else days(found.total, units_a_day, share)
    click.echo(_as_json(control, treatment, found, duration) if as_json else _text(control, treatment, found, duration))


def _control(rate: float | None, mean: float | None, variance: float | None) -> Population:
    if rate is not None and mean is None and variance is None:
        return Population.of_rate(rate)
    if rate is None and mean is not None and variance is not None:
        return Population(mean, variance)
    raise click.UsageError("name either --rate, or --mean and --variance")


def _effect(control: Population, mde: float | None, mde_absolute: float | None) -> float:
    if (mde is None) == (mde_absolute is None):
        raise click.UsageError("name either --mde or --mde-absolute")
    effect = control.mean * (mde or 0.0) if mde_absolute is None else mde_absolute
    if effect == 0:
        raise click.UsageError("an effect of 0 cannot be seen")
    return effect


def _treatment(control: Population, effect: float, *, is_rate: bool) -> Population:
    if not is_rate:
        return Population(control.mean + effect, control.variance)
    if not 0 < control.mean + effect < 1:
        raise click.UsageError(f"with that effect the rate would be {control.mean + effect:g}")
    return Population.of_rate(control.mean + effect)


def _weights(arms: str) -> tuple[int, ...]:
    try:
        weights = tuple(int(weight) for weight in arms.split(":"))
    except ValueError as error:
        raise click.UsageError(f"--arms {arms}: weights are whole numbers, as in 1:1") from error
    if len(weights) < 2 or min(weights) < 1:
        raise click.UsageError(f"--arms {arms}: two weights or more, each above 0")
    return weights


def _text(control: Population, treatment: Population, found: Size, duration: int | None) -> str:
    lines = [
        f"to see {control.mean:g} become {treatment.mean:g}: {found.total} units",
        *(f"  arm {place}: {units}" for place, units in enumerate(found.units)),
    ]
    return "\n".join(lines if duration is None else [*lines, f"{duration} days"])


def _as_json(control: Population, treatment: Population, found: Size, duration: int | None) -> str:
    moments = {"control": dataclasses.asdict(control), "treatment": dataclasses.asdict(treatment)}
    return json.dumps({**moments, "units": found.units, "total": found.total, "days": duration})
