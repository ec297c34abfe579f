"""Other `tailrace` commands, run as a user would: as processes of their own, told where the demo's stack is by variables."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from schemas.errors import PartUnreachable

STOP_TIMEOUT_S = 30.0
_SAID_LINES_MAX = 20
_PART_UNREACHABLE = 3


@dataclass(frozen=True, slots=True)
class Commands:
    """`variables` are the whole environment of a command; what it writes is appended to a log below `logs`."""

    variables: Mapping[str, str]
    logs: Path

    def run(self, *arguments: str, timeout_s: float) -> None:
        """Wait for `tailrace <arguments>`.

        Raises PartUnreachable where it says so or does not end within `timeout_s`, ClickException where it fails otherwise.
        """
        with self.start(*arguments) as process:
            self.wait(process, arguments, timeout_s)

    @contextmanager
    def start(self, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """`tailrace <arguments>`, running; it is stopped at the end where it has not ended by itself."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self._log(arguments).open("ab") as log:
            command = [sys.executable, "-m", "deploy.cli", *arguments]
            process = subprocess.Popen(command, env=dict(self.variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            stop(process)

    def wait(self, process: "subprocess.Popen[bytes]", arguments: Sequence[str], timeout_s: float) -> None:
        """As `run`, for a process of `start`."""
        command = f"`tailrace {' '.join(arguments)}`"
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            remedy = f"it did not end within {timeout_s:.0f} s; see {self._log(arguments)}"
            raise PartUnreachable(command, "the demo", remedy) from error
        if code == _PART_UNREACHABLE:
            raise PartUnreachable(command, "the demo", self.said(arguments))
        if code:
            raise click.ClickException(f"{command} ended with {code}:\n{self.said(arguments)}")

    def said(self, arguments: Sequence[str]) -> str:
        """The end of what the command wrote."""
        lines = self._log(arguments).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_SAID_LINES_MAX:])

    def _log(self, arguments: Sequence[str]) -> Path:
        return self.logs / f"demo-{arguments[0]}.log"


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL where that is not heard within STOP_TIMEOUT_S."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
