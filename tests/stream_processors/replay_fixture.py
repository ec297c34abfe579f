"""What the tests of replays do to an installation: run the commands as a user does, and compare tables."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from deploy.cli import main
from tests.stream_processors.warehouse_fixture import Bench

COMMAND_LIMIT_S = 120
TABLE = "interactions"
NOT_COMPARED = "_run, _ingested_at"


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def fields(self) -> dict[str, Any]:
        assert self.code in {0, 1}, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found


def asked(bench: Bench, *arguments: str) -> Said:
    """A command in this process, which is quicker: for those that neither read signals nor change the process."""
    done = CliRunner(env=dict(bench.environment)).invoke(main, arguments)
    return Said(done.exit_code, done.stdout, done.stderr)


def tailrace(bench: Bench, *arguments: str, **variables: str) -> Said:
    """A command in a process of its own."""
    done = subprocess.run(
        bench.command(*arguments),
        env={**bench.environment, **variables},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def planned(bench: Bench, *options: str, first: str = "beginning", topic: str = TABLE) -> str:
    """The name of a run."""
    said = asked(bench, "replay", "plan", "--topic", topic, "--from", first, *options, "--json")
    assert said.code == 0, said.err
    return str(said.fields["run"])


def filled(bench: Bench, *options: str, first: str = "beginning") -> str:
    run = planned(bench, *options, first=first)
    said = tailrace(bench, "replay", "run", run)
    assert said.code == 0, said.err
    return run


def table_of(run: str) -> str:
    return f"replay_{run.replace('-', '_')}"


def checksum(bench: Bench, table: str) -> tuple[int, int]:
    """(rows, a sum over every row but what names the run), with FINAL. Not the product's own way of comparing."""
    question = f"SELECT count(), groupBitXor(sipHash64(toString(tuple(* EXCEPT ({NOT_COMPARED}))))) FROM {table} FINAL"
    [(rows, digest)] = bench.rows(question)
    return rows, digest


def letters(bench: Bench, run: str) -> list[tuple[Any, ...]]:
    return bench.rows(
        f"SELECT _partition, _offset, reason FROM replay_dead_letters FINAL WHERE _run = '{run}' ORDER BY _partition, _offset"
    )
