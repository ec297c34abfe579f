"""The metrics of all worker processes behind one address.

Each process tells its own figures on a socket in the fleet's directory; whichever is asked for /metrics asks them all. Every
sample says by `worker`, the process's id, whose it is, as if each process had been scraped: `sum without (worker)` is the
reader's business, a gauge is of one process, and the counters of a process that was replaced begin anew under another `worker`,
as `rate` wants it. A process that has died is gone; until its successor tells, one is silent.

It is done on the loop that answers requests, so nothing is parsed, and no turn of the loop renders more than a few samples.
"""

import asyncio
import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

ANSWER_LIMIT_S = 1.0
SAMPLES_A_TURN = 50
"""About half a millisecond's."""

SOCKET_PATH_BYTES_MAX = 107
"""The system's limit, on Linux."""

_PREFIX, _SOCKET = "tailrace-serve-", ".sock"
_FAMILY = b"\n# HELP "
"""What a family begins with, and nothing else: texts have no line ends of their own."""
_END = b"# EOF\n"
"""A process that dies while it tells has not told all."""


class Fleet:
    """`directory` None stands for a process that is alone. `processes` are how many there should be."""

    def __init__(self, registry: CollectorRegistry, directory: Path | None, processes: int = 1) -> None:
        self._registry, self._directory, self._processes = registry, directory, processes

    async def exposition(self) -> bytes:
        """The figures of all, in Prometheus's text format. This process's own are there whatever became of the directory."""
        if self._directory is None:
            return await told(self._registry, {})
        others = sorted({*self._directory.glob(f"*{_SOCKET}")} - {_socket_in(self._directory)})
        answers = await asyncio.gather(self._own(), *(_ask(path) for path in others))
        whole = [answer.removesuffix(_END) for answer in answers if answer]
        return merged([*whole, _silent(max(answers.count(b""), self._processes - len(whole)))])

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Within it this process's figures can be asked for. Where that cannot be, it says so, answers, and counts as silent."""
        if self._directory is None:
            yield
            return
        path = _socket_in(self._directory)
        server = await self._server(path)
        try:
            yield
        finally:
            if server is not None:
                server.close()
                path.unlink(missing_ok=True)

    async def _server(self, path: Path) -> asyncio.Server | None:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)  # what sweeps old files away may have taken it
            # it has its name when it can be connected to: one that refuses is of a process that has died
            server = await asyncio.start_unix_server(self._tell, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        except OSError:
            logger.exception("the other processes' /metrics will lack this one's figures")
            return None
        return server

    async def _tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await self._own())
        await writer.drain()
        writer.close()

    async def _own(self) -> bytes:
        return await told(self._registry, {"worker": str(os.getpid())}) + _END


@contextmanager
def place_for_sockets() -> Iterator[Path]:
    """A directory for one fleet, with a path that leaves room for a socket's name, where TMPDIR is long."""
    usual = tempfile.gettempdir()
    room = SOCKET_PATH_BYTES_MAX - len(os.fsencode(f"/{_PREFIX}12345678/4194304{_SOCKET}"))
    place = usual if len(os.fsencode(usual)) <= room else "/tmp"  # noqa: S108 - mkdtemp makes a name that is free
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place) as directory:
        yield Path(directory)


async def told(registry: CollectorRegistry, labels: Mapping[str, str]) -> bytes:
    """A process's figures, each with `labels` besides its own; a family is told as it was at one moment."""
    texts = []
    for family in registry.collect():
        for part in _parts(family, labels):
            texts.append(generate_latest(part))
            await asyncio.sleep(0)
    return merged(texts)


def merged(texts: Iterable[bytes]) -> bytes:
    """One exposition of several whose samples differ in their labels: each family has one head, and everybody's samples."""
    families: defaultdict[tuple[bytes, bytes], list[bytes]] = defaultdict(list)
    for text in texts:
        for family in (b"\n" + text).split(_FAMILY)[1:]:
            explained, typed, *samples = family.rstrip(b"\n").split(b"\n", 2)
            families[explained, typed] += samples
    return b"".join(
        b"\n".join((b"# HELP " + explained, typed, *samples, b"")) for (explained, typed), samples in families.items()
    )


class _Part(Collector):
    """Some samples of a family, as something that can be rendered."""

    def __init__(self, part: Metric) -> None:
        self._part = part

    def collect(self) -> Iterator[Metric]:
        yield self._part


def _parts(family: Metric, labels: Mapping[str, str]) -> Iterator[_Part]:
    """At least one: a family without samples has a head."""
    for first in range(0, max(1, len(family.samples)), SAMPLES_A_TURN):
        part = Metric(family.name, family.documentation, family.type)
        samples = family.samples[first : first + SAMPLES_A_TURN]
        part.samples = [sample._replace(labels={**sample.labels, **labels}) for sample in samples]
        yield _Part(part)


def _socket_in(directory: Path) -> Path:
    return directory / f"{os.getpid()}{_SOCKET}"


def _silent(processes: int) -> bytes:
    silent = Metric("tailrace_serving_worker_silent_processes", "Processes that did not tell their figures.", "gauge")
    silent.add_sample(silent.name, {}, processes)
    return generate_latest(_Part(silent))


async def _ask(path: Path) -> bytes | None:
    """All to the end mark; empty where the process does not tell it, None where it is gone: then its socket goes, too."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            text = await _read(path)
    except (ConnectionRefusedError, FileNotFoundError):
        _forget(path)
        return None
    except OSError:  # TimeoutError is one
        return b""
    return text if text.endswith(_END) else b""


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _read(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        return await reader.read(-1)
    finally:
        writer.close()
