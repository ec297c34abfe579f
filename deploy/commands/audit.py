"""`tailrace audit`: what Kafka holds against what the warehouse has, and producers against what has arrived."""

import signal
import sys
import threading
from types import FrameType

import click

from deploy.settings import environment
from schemas.errors import PartUnreachable
from stream_processors.audit.auditor import AUDITED
from stream_processors.audit.config import AuditConfig
from stream_processors.audit.main import audit as audit_once
from stream_processors.audit.main import watch
from stream_processors.audit.report import Report, as_json
from stream_processors.audit.report_text import notes, render, wrong

EPILOG = """\b
Examples:
  tailrace audit                                        once, all topics
  tailrace audit --topic interactions --json            one topic, whole, for machines
  TAILRACE_METRICS_PORT=9400 tailrace audit --watch 60  every minute, with metrics; prints what changes
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_machine", is_flag=True, help="Print everything as JSON, one line an audit.")
@click.option(
    "--watch", "interval_s", type=click.IntRange(1, 86_400), metavar="SECONDS", help="Audit again and again until SIGTERM."
)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    type=click.Choice([topic.name for topic in AUDITED]),
    help="Only this topic, by its name without prefix; may be given more than once.",
)
def audit(*, as_machine: bool, interval_s: int | None, topics: tuple[str, ...]) -> None:
    """Say whether all that Kafka held is in the warehouse once, and what is missing from whom.

    Exits with 1 where records are missing, stand twice, are gone without a record of it, are row and dead letter at once, or lie
    past the log's end; and where closed or live producers numbered events that never came. Exits with 0 where records
    are only pending, where offsets are holes (markers, aborted, compacted), and where losses were told: recorded gaps, dead
    letters, drops in checkpoints, producers that fell silent (unknown). With --watch: as the last audit said.
    """
    config = AuditConfig.from_environment(environment(), topics)
    if interval_s is None:
        report = _once(config, as_machine=as_machine)
    else:
        report = watch(config, _Pause(interval_s), _Teller(as_machine=as_machine), _complain)
    sys.exit(0 if report is None or report.sound else 1)


def _once(config: AuditConfig, *, as_machine: bool) -> Report | None:
    report = audit_once(config)
    click.echo(_shown(report, as_machine=as_machine))
    return report


def _shown(report: Report, *, as_machine: bool) -> str:
    return as_json(report) if as_machine else render(report)


class _Pause:
    """Waits between audits; true with SIGTERM or SIGINT."""

    def __init__(self, interval_s: int) -> None:
        self._interval_s, self._stopped = interval_s, threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self._stopped.wait(self._interval_s)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped.set()


class _Teller:
    """Prints the first report whole, then what has come and what has gone."""

    def __init__(self, *, as_machine: bool) -> None:
        self._as_machine = as_machine
        self._said: list[str] | None = None

    def __call__(self, report: Report) -> None:
        found = [*wrong(report), *notes(report)]
        if self._as_machine or self._said is None:
            click.echo(_shown(report, as_machine=self._as_machine))
        else:
            for line in (f"+ {line}" for line in found if line not in self._said):
                click.echo(line)
            for line in (f"- {line}" for line in self._said if line not in found):
                click.echo(line)
        sys.stdout.flush()
        self._said = found


def _complain(trouble: PartUnreachable) -> None:
    click.echo(str(trouble), err=True)
