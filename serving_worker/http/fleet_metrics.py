"""The metrics of all worker processes behind one address.

Each process tells its own figures on a socket in the fleet's directory; whichever is asked for /metrics asks them all. Every
sample says by `worker`, the process's id, whose it is: sums are the reader's business, and a process that has died is gone.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

ANSWER_LIMIT_S = 1.0


class Fleet:
    """`directory` None stands for a process that is alone."""

    def __init__(self, registry: CollectorRegistry, directory: Path | None) -> None:
        self._registry, self._directory = registry, directory

    async def exposition(self) -> bytes:
        """The figures of all, in Prometheus's text format."""
        if self._directory is None:
            return generate_latest(self._registry)
        paths = sorted(self._directory.glob("*.sock"))
        texts = await asyncio.gather(*(_ask(path) for path in paths))
        told = {path.stem: text for path, text in zip(paths, texts, strict=True) if text is not None}
        return merged(told, silent=len(paths) - len(told))

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Within it this process's figures can be asked for."""
        if self._directory is None:
            yield
            return
        path = self._directory / f"{os.getpid()}.sock"
        server = await asyncio.start_unix_server(self._tell, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def _tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(generate_latest(self._registry))
        await writer.drain()
        writer.close()


def merged(texts: Mapping[str, str], silent: int) -> bytes:
    """One exposition of several, each sample labelled with its worker; `silent` processes gave no answer."""
    families: dict[str, Metric] = {}
    for worker, text in texts.items():
        for family in text_string_to_metric_families(text):
            kept = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                kept.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    gone = Metric("tailrace_serving_worker_silent_processes", "Processes that did not tell their figures.", "gauge")
    gone.add_sample(gone.name, {}, silent)
    return generate_latest(_registry_of([*families.values(), gone]))


class _Told(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _registry_of(families: list[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(families))
    return registry


async def _ask(path: Path) -> str | None:
    """None where the process is gone or does not answer."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            text = await reader.read(-1)
            writer.close()
    except OSError:  # TimeoutError is one
        return None
    return text.decode()
