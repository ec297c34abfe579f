"""Starting, stopping and looking at the local stack that has its state in one home.

One `tailrace up` at a time works on a home; a stack whose supervisor was killed is cleared away by the next one. Only processes
whose id and start time are those that were noted are ever ended.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import kafka, registry, warehouse
from deploy.local.artifacts import Report
from deploy.local.locking import held
from deploy.local.part import Part
from deploy.local.parts import NAMES, prepare_parts, stack_parts
from deploy.local.ports import choose_port, free_port
from deploy.local.state import PartRun, ProcessIdentity, StackPlan, StackRun, forget_run, read_plan, read_run, write_plan
from deploy.settings import StackSettings
from schemas.errors import PartUnreachable

UP_LOCK_TIMEOUT_S = 900
"""The other `up` may be fetching programs."""
READY_TIMEOUT_S = 120
END_TIMEOUT_S = 30
KILL_TIMEOUT_S = 5
PASSWORD_BYTES = 18
LAST_WORDS_BYTES = 2000
_POLL_S = 0.03


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part at this moment. `state`: healthy, not answering, restarting, gave up, stopped."""

    name: str
    state: str
    port: int | None
    pid: int | None = None
    uptime_s: float | None = None
    memory_bytes: int | None = None
    restarts: int = 0
    log: str | None = None


def start_stack(settings: StackSettings, names: Collection[str], report: Report) -> list[Part]:
    """Have the parts `names` run under a supervisor; does not wait until they answer. Raises PartUnreachable."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with held(settings.home / "up.lock", UP_LOCK_TIMEOUT_S):
            plan = _running_plan(settings.home, names) or _start(settings, names, report)
    except OSError as error:
        remedy = f"{error.strerror or error}; make it writable, make room, or name another directory in TAILRACE_HOME"
        raise PartUnreachable("the local stack's home", str(settings.home), remedy) from error
    return stack_parts(settings.home, settings.cache, plan, names)


def await_ready(home: Path, part: Part) -> None:
    """Return once the part runs and answers. Raises PartUnreachable, with the end of its log, where it does not."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _is_ready(read_run(home), part):
        run = read_run(home)
        if run is None or run.supervisor.process() is None:
            raise PartUnreachable(
                f"the supervisor of {part.name}", str(home), f"it has ended: {last_words(_supervisor_log(home))}"
            )
        if _part_run(run, part.name).gave_up:
            raise PartUnreachable(
                part.name,
                str(part.log(home)),
                f"it ends at every start: {last_words(part.log(home))}; mend it, then `tailrace down` and `tailrace up`",
            )
        if time.monotonic() > deadline:
            remedy = f"it does not answer within {READY_TIMEOUT_S} s: {last_words(part.log(home))}"
            raise PartUnreachable(part.name, f"127.0.0.1:{part.port}", remedy)
        time.sleep(_POLL_S)


def stop_stack(home: Path) -> list[str]:
    """End everything that runs in `home`; what was ended, an empty list where nothing ran. Data stay."""
    if not home.is_dir():
        return []
    with held(home / "up.lock", UP_LOCK_TIMEOUT_S):
        run = read_run(home)
        return [] if run is None else _end_run(home, run)


def stack_status(settings: StackSettings, now_s: float) -> list[PartStatus]:
    """How the parts are. `now_s` is seconds since 1970."""
    run, plan = read_run(settings.home), read_plan(settings.home)
    if run is None or plan is None or run.supervisor.process() is None:
        return [PartStatus(name, "stopped", None) for name in NAMES]
    names = [part.name for part in run.parts]
    parts = stack_parts(settings.home, settings.cache, plan, names)
    return [_status(part, _part_run(run, part.name), settings.home, now_s) for part in parts]


def last_words(log: Path) -> str:
    """The end of a log in one line, for an error that cannot be understood without."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read ({error})"
    return " | ".join(line.strip() for line in lines[-3:]) or "its log is empty"


def _running_plan(home: Path, names: Collection[str]) -> StackPlan | None:
    """The plan of a stack that runs with all parts that are wanted; what it had given up is tried again."""
    run = read_run(home)
    supervisor = None if run is None else run.supervisor.process()
    if run is None or supervisor is None or not set(names) <= {part.name for part in run.parts}:
        return None
    supervisor.send_signal(signal.SIGHUP)
    return read_plan(home)


def _start(settings: StackSettings, names: Collection[str], report: Report) -> StackPlan:
    if (left := read_run(settings.home)) is not None:
        _end_run(settings.home, left)
    plan = _plan(settings, names, read_plan(settings.home))
    write_plan(settings.home, plan)
    prepare_parts(settings.home, settings.cache, plan, names, report)
    _spawn_supervisor(settings, names)
    return plan


def _plan(settings: StackSettings, names: Collection[str], last: StackPlan | None) -> StackPlan:
    """The last start's plan with the ports of this one; a new one, with new passwords, at the first start."""

    def port(name: str, configured: int | None, remembered: int | None, usual: int | None) -> int:
        return choose_port(name, configured, remembered, usual) if name in names else remembered or usual or free_port()

    return StackPlan(
        kafka_port=port(kafka.NAME, settings.kafka_port, last.kafka_port if last else None, kafka.USUAL_PORT),
        kafka_controller_port=port(kafka.NAME, None, last.kafka_controller_port if last else None, usual=None),
        registry_port=port(registry.NAME, settings.registry_port, last.registry_port if last else None, registry.USUAL_PORT),
        warehouse_port=port(warehouse.NAME, settings.warehouse_port, last.warehouse_port if last else None, warehouse.USUAL_PORT),
        kafka_cluster_id=last.kafka_cluster_id if last else kafka.new_cluster_id(),
        writer_password=last.writer_password if last else secrets.token_urlsafe(PASSWORD_BYTES),
        reader_password=last.reader_password if last else secrets.token_urlsafe(PASSWORD_BYTES),
    )


def _spawn_supervisor(settings: StackSettings, names: Collection[str]) -> None:
    """Start it, and wait until it has noted itself. It makes a session of its own, so that a terminal's end is not its end."""
    command = [sys.executable, "-m", "deploy.local.supervisor", str(settings.home), str(settings.cache), *names]
    log = _supervisor_log(settings.home)
    log.parent.mkdir(exist_ok=True)
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), log_flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=files)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while read_run(settings.home) is None:
        if _has_ended(pid) or time.monotonic() > deadline:
            raise PartUnreachable("the supervisor", str(settings.home), f"it did not start: {last_words(log)}")
        time.sleep(_POLL_S)


def _has_ended(pid: int) -> bool:
    """Whether the child `pid` has ended; where it has, nothing is left of it."""
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def _end_run(home: Path, run: StackRun) -> list[str]:
    """The supervisor ends its parts; parts that a killed supervisor has left are ended here."""
    left = [("supervisor", run.supervisor), *((part.name, part.process) for part in run.parts)]
    ended = [name for name, identity in left if identity is not None and _end(identity)]
    forget_run(home)
    return ended


def _end(identity: ProcessIdentity) -> bool:
    """Whether the process still ran; it does no more."""
    process = identity.process()
    if process is None:
        return False
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(KILL_TIMEOUT_S)
    return True


def _is_ready(run: StackRun | None, part: Part) -> bool:
    noted = None if run is None else _part_run(run, part.name).process
    process = None if noted is None else noted.process()
    return process is not None and _is_well(process, part)


def _is_well(process: psutil.Process, part: Part) -> bool:
    """Whether the part answers, and it is this process that answers there: another stack may have taken the port."""
    try:
        listening = {socket.laddr.port for socket in process.net_connections("tcp") if socket.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:
        return False
    return part.port in listening and part.answers()


def _part_run(run: StackRun, name: str) -> PartRun:
    return next(part for part in run.parts if part.name == name)


def _status(part: Part, run: PartRun, home: Path, now_s: float) -> PartStatus:
    process = None if run.process is None else run.process.process()
    log = str(part.log(home))
    if process is None:
        state = "gave up" if run.gave_up else "restarting"
        return PartStatus(part.name, state, part.port, restarts=run.restarts, log=log)
    return PartStatus(
        name=part.name,
        state="healthy" if _is_well(process, part) else "not answering",
        port=part.port,
        pid=process.pid,
        uptime_s=round(now_s - process.create_time(), 1),
        memory_bytes=process.memory_info().rss,
        restarts=run.restarts,
        log=log,
    )


def _supervisor_log(home: Path) -> Path:
    return home / "logs" / "supervisor.log"
