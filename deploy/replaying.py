"""What the commands about replays share: their parts, and what an error becomes."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from deploy.settings import environment
from schemas.errors import PartUnreachable
from stream_processors.archive.errors import ArchiveDamaged
from stream_processors.archive.main import known_archive
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.errors import ReplayRefused, WrongQuestion
from stream_processors.replay.office import ReplayOffice
from stream_processors.replay.runs import Run
from stream_processors.warehouse.errors import Retryable


@contextmanager
def refusals() -> Iterator[None]:
    """What cannot be done exits with 1, what makes no sense with 2, a part that does not answer with 3."""
    try:
        yield
    except WrongQuestion as wrong:
        raise click.UsageError(str(wrong)) from wrong
    except (ReplayRefused, ArchiveDamaged) as refused:
        raise click.ClickException(str(refused)) from refused
    except Retryable as trouble:
        raise PartUnreachable("the installation", "replay", f"{trouble}; `tailrace doctor` looks at each part") from trouble


@contextmanager
def office() -> Iterator[ReplayOffice]:
    """An office for one command."""
    with refusals():
        variables = environment()
        opened = ReplayOffice(ReplayConfig.from_environment(variables), known_archive(variables))
        try:
            yield opened
        finally:
            opened.close()


def known(opened: ReplayOffice, run: str) -> Run:
    """Raises ReplayRefused where no run has that name."""
    found = opened.find(run)
    if found is None:
        raise ReplayRefused(f"no run is named {run}: `tailrace replay list` names them all")
    return found
