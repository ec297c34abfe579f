"""Whether a filled run is what its manifest says, and how live differs from it. Reads only, but for its own step.

A run is sound where every record of its ranges is in once, and the sampled rows are what the log's bytes say. It is equal
where, with nothing computed on the way, its rows are those of the live table at the same coordinates. Sound and equal, or with
nothing to compare: verified. Otherwise it differs, and the differences are explained: a swap of a run that is sound puts them
right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stream_processors.archive.reading import ArchiveReader
from stream_processors.audit.kafka_log import KafkaLog
from stream_processors.replay.comparison import Comparer, Comparison, Difference, Kind
from stream_processors.replay.completeness import Completeness, PartitionFinding
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.errors import ReplayRefused
from stream_processors.replay.log_reader import NOBODYS_GROUP, LogReader
from stream_processors.replay.manifest import Manifest
from stream_processors.replay.runs import Run, RunStore, State
from stream_processors.replay.sample import SampleFinding, Sampler
from stream_processors.replay.tables import computed_columns, definition_of
from stream_processors.replay.transform import transformation
from stream_processors.warehouse.clickhouse_writer import ClickHouseWriter
from stream_processors.warehouse.writer_schemas import WriterSchemas

_VERIFIABLE = frozenset({State.FILLED, State.VERIFIED, State.DIFFERS})


@dataclass(frozen=True, slots=True)
class Explained:
    """One difference; `agrees` is whose row is what the log says: run, live, both, neither, or nothing."""

    difference: Difference
    agrees: str


@dataclass(frozen=True, slots=True)
class Verification:
    run: str
    partitions: tuple[PartitionFinding, ...]
    sample: SampleFinding
    comparison: Comparison | None
    explained: tuple[Explained, ...]

    @property
    def sound(self) -> bool:
        return all(each.sound for each in self.partitions) and not self.sample.misread

    @property
    def equal(self) -> bool | None:
        """None where there is nothing to compare."""
        return None if self.comparison is None else self.comparison.equal

    @property
    def state(self) -> State:
        return State.VERIFIED if self.sound and self.equal is not False else State.DIFFERS

    def detail(self) -> Mapping[str, Any]:
        """What is written down."""
        differences = {} if self.comparison is None else {kind.value: count for kind, count in self.comparison.counts.items()}
        return {"sound": self.sound, "equal": self.equal, "differences": differences, "sampled": self.sample.looked_at}


class Verifier:
    """Raises ReplayRefused for a run that is not filled; PartUnreachable, Retryable where a part does not answer."""

    def __init__(
        self, config: ReplayConfig, writer: ClickHouseWriter, schemas: WriterSchemas, archive: ArchiveReader | None
    ) -> None:
        self._config, self._writer, self._schemas, self._archive = config, writer, schemas, archive

    def verify(self, run: Run) -> Verification:
        """What was found, which is also the run's next step."""
        if run.state not in _VERIFIABLE:
            words = "is not filled yet" if run.state in {State.PLANNED, State.RUNNING} else f"is {run.state.replace('_', ' ')}"
            raise ReplayRefused(f"{run.manifest.run} {words}: only a filled run that was not swapped is verified")
        found = self._look(run.manifest)
        RunStore(self._writer).append(run.manifest.run, found.state, found.detail())
        return found

    def _look(self, manifest: Manifest) -> Verification:
        kafka = KafkaLog(self._config.kafka_bootstrap, NOBODYS_GROUP, self._config.kafka_options)
        reader = LogReader(self._config.kafka_bootstrap, manifest.topic, self._config.kafka_options)
        try:
            self._refuse_another_topic(manifest, reader)
            partitions = tuple(Completeness(self._writer, kafka, self._archive).of(manifest))
            sampler = self._sampler(manifest, reader)
            sample = sampler.look()
            if not manifest.plain:
                return Verification(manifest.run, partitions, sample, None, ())
            comparison = Comparer(self._writer, manifest, definition_of(self._writer, manifest.table)).compare()
            return Verification(manifest.run, partitions, sample, comparison, explained(comparison, sampler, manifest))
        finally:
            reader.close()
            kafka.close()

    def _refuse_another_topic(self, manifest: Manifest, reader: LogReader) -> None:
        """Another topic's records must not be taken for this one's. One that is read from the archive alone may be gone."""
        if reader.topic_id() != manifest.topic_id and manifest.archive is None:
            raise ReplayRefused(f"{manifest.topic} was deleted, or made anew, since {manifest.run} was planned: plan another run")

    def _sampler(self, manifest: Manifest, reader: LogReader) -> Sampler:
        computed = frozenset[str]()
        if manifest.select is not None:
            computed = frozenset(computed_columns(self._writer, definition_of(self._writer, manifest.table), manifest.select))
        made_by = transformation(manifest, self._schemas)
        return Sampler(self._writer, self._schemas, reader, self._archive, manifest, computed, made_by)


def explained(comparison: Comparison, sampler: Sampler, manifest: Manifest) -> tuple[Explained, ...]:
    """The differences that are shown; where both sides have a row, whose it is that the log bears out."""
    both = [(each.partition, each.offset) for each in comparison.shown if each.kind is Kind.OTHER_VALUES]
    ours, theirs = sampler.agrees(manifest.run_table, both), sampler.agrees(f"`{manifest.table}`", both)
    words = {(True, True): "both", (True, False): "run", (False, True): "live", (False, False): "neither"}
    said = {place: words[ours[place], theirs[place]] for place in both if place in ours and place in theirs}
    return tuple([Explained(each, said.get((each.partition, each.offset), "")) for each in comparison.shown])
