"""Other `tailrace` commands, run as a user would: as processes of their own, told where the demo's stack is by variables."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.errors import DemoFailed
from schemas.errors import PartUnreachable

STOP_TIMEOUT_S = 30.0
_SAID_LINES_MAX = 20
_PART_UNREACHABLE = 3


@dataclass(frozen=True, slots=True)
class Running:
    """A command that was started. What it writes stands in `log`."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        """The end of what it wrote."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SAID_LINES_MAX:])

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def refuse_end(self) -> None:
        """Raises DemoFailed where it has ended."""
        if self.has_ended():
            raise DemoFailed(f"{self.name} ended with {self.process.returncode} before it was told to:\n{self.said()}")

    def wait(self, timeout_s: float) -> None:
        """Raises PartUnreachable where it says so or does not end within `timeout_s`, DemoFailed where it fails otherwise."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise PartUnreachable(self.name, str(self.log), f"it did not end within {timeout_s:.0f} s:\n{self.said()}") from error
        said = f":\n{self.said()}" if self.said() else ", as it says above"
        if code == _PART_UNREACHABLE:
            raise PartUnreachable(self.name, str(self.log), f"a part is missing{said}")
        if code:
            raise DemoFailed(f"{self.name} ended with {code}{said}")


@dataclass(frozen=True, slots=True)
class Commands:
    """`variables` are the whole environment of a command; what it writes goes to a log of its own below `logs`."""

    variables: Mapping[str, str]
    logs: Path

    @contextmanager
    def start(self, *arguments: str, show_progress: bool = False) -> Iterator[Running]:
        """`tailrace <arguments>`, running; it is stopped at the end where it has not ended by itself.

        With `show_progress`, what it writes to standard error is shown instead of logged.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log_file = self.logs / f"demo-{arguments[0]}.log"
        command = [sys.executable, "-m", "deploy.cli", *arguments]
        with log_file.open("ab") as log:
            error = None if show_progress else log
            process = subprocess.Popen(command, env=dict(self.variables), stdin=subprocess.DEVNULL, stdout=log, stderr=error)
        try:
            yield Running(f"`tailrace {' '.join(arguments)}`", process, log_file)
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL where that is not heard within STOP_TIMEOUT_S."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
