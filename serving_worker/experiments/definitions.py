"""The experiments that serving knows: a snapshot of definitions, replaced whole when they change, kept when they turn bad."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from schemas.errors import ContractError
from schemas.events import ExperimentDefinition, ExperimentId, ExperimentKind, Micros
from schemas.experiment_files import parse_experiments
from schemas.experiment_rules import PLACED_KINDS
from serving_worker.experiments.kill_file import read_killed
from serving_worker.experiments.layers import BEGINNING, Holdback, Layer, holdback_of, layer_of

FUTURE_US_MAX = 60_000_000
"""A snapshot from further ahead was dated by a clock that was wrong: its age is not known."""


@dataclass(frozen=True, slots=True)
class Validity:
    """A snapshot that was known to be the newest at `as_of` may be served until it is `age_us_max` old."""

    as_of: Micros
    age_us_max: int

    def holds(self, now: Micros) -> bool:
        return -FUTURE_US_MAX <= now - self.as_of < self.age_us_max


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Layers by their ids' order. Definitions that serving does not assign (observed, interleaved) are left out.

    `validity` None stands for definitions that do not age: a file that somebody keeps by hand.
    """

    layers: tuple[Layer, ...] = ()
    holdbacks: tuple[Holdback, ...] = ()
    validity: Validity | None = None

    def holds(self, now: Micros) -> bool:
        """Whether it may be served."""
        return self.validity is None or self.validity.holds(now)


class Experiments(Protocol):
    def snapshot(self) -> Snapshot | None:
        """The last good copy; None before there was one."""
        ...


def snapshot_of(
    definitions: Iterable[ExperimentDefinition],
    *,
    killed: frozenset[ExperimentId] = frozenset(),
    since: Micros = BEGINNING,
    validity: Validity | None = None,
) -> Snapshot:
    """`since`: the snapshot will not be asked about earlier times."""
    layers: defaultdict[str, defaultdict[ExperimentId, list[ExperimentDefinition]]] = defaultdict(lambda: defaultdict(list))
    holdbacks: defaultdict[ExperimentId, list[ExperimentDefinition]] = defaultdict(list)
    for definition in sorted(definitions, key=lambda definition: definition.revision):
        if definition.kind is ExperimentKind.HOLDBACK:
            holdbacks[definition.experiment_id].append(definition)
        elif definition.kind in PLACED_KINDS and definition.layer_id:
            layers[definition.layer_id][definition.experiment_id].append(definition)
    return Snapshot(
        tuple(layer_of(name, _by_id(layers[name]), killed, since) for name in sorted(layers)),
        tuple(holdback_of(revisions, killed, since) for revisions in _by_id(holdbacks)),
        validity,
    )


def _by_id(revisions: dict[ExperimentId, list[ExperimentDefinition]]) -> list[list[ExperimentDefinition]]:
    return [revisions[experiment_id] for experiment_id in sorted(revisions)]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a file's text says: definitions that are good, and in `problem` what else there was that is not."""

    definitions: tuple[ExperimentDefinition, ...]
    validity: Validity | None = None
    problem: str | None = None


class ExperimentFile:
    """The definitions of a file, less what the kill file names. `path` None stands for an installation without experiments.

    Each file's last good copy is kept for itself, so that a kill counts while the definitions are bad, and the other way round.
    Not thread-safe: one task reloads. Half a look, as a forked process may inherit it, is done again by the next: what says that
    a text has been read is set last.
    """

    def __init__(self, path: Path | None, kill_file: Path | None = None, read: Callable[[bytes], Reading] | None = None) -> None:
        self._path, self._kill_file = path, kill_file
        self._read = read or (lambda text: Reading(parse_experiments(text, str(path))))
        self._snapshot = Snapshot() if path is None else None
        self._text: bytes | None = None
        self._reading: Reading | None = None
        self._wrong: str | None = None
        """What is wrong with the text that was read last."""
        self.killed: frozenset[ExperimentId] | None = None
        """None before the kill file could be read: what it stops is not known, so nothing is served from a file."""
        self.problem: str | None = None
        """Why a file could not be taken when it was last read; None where all could."""
        self.fault: Exception | None = None
        """Behind `problem`, where nobody had foreseen it."""

    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def reload(self) -> bool:
        """Read the files again. True where something has changed, to the good or to the bad; `problem` says which."""
        if self._path is None:
            return False
        problem, snapshot, self.fault = self.problem, self._snapshot, None
        troubles = [self._tried(self._look_at_kill_file), self._tried(partial(self._look_at_definitions, self._path))]
        self.problem = "; ".join(filter(None, troubles)) or None
        return problem != self.problem or (snapshot and snapshot.layers) is not (self._snapshot and self._snapshot.layers)

    def _tried(self, look: Callable[[], str | None]) -> str | None:
        """What is wrong. Whatever a look raises is a bad copy: who reloads does so for as long as the process is up."""
        try:
            return look()
        except Exception as fault:  # noqa: BLE001 - told as a problem, with its traceback, and tried again
            self.fault = fault
            return f"{self._path}: {fault!r}"

    def _look_at_kill_file(self) -> str | None:
        try:
            killed = read_killed(self._kill_file)
        except (OSError, ValueError) as error:
            return f"{self._kill_file}: {error}"
        if killed != self.killed:
            if self._reading is not None:
                self._snapshot = _snapshot_of(self._reading, killed)
            self.killed = killed
        return None

    def _look_at_definitions(self, path: Path) -> str | None:
        """What is wrong with them. Each text is read once."""
        try:
            text = path.read_bytes()
            if text != self._text:
                self._wrong = self._trouble_with(text)
                self._text = text
        except OSError as error:
            self._text, self._wrong = None, error.strerror or str(error)
        if self._wrong is not None:
            return f"{path}: {self._wrong}"
        return None if self._reading is None else self._reading.problem

    def _trouble_with(self, text: bytes) -> str | None:
        """What is wrong with it; None where it has been taken."""
        try:
            self._take(self._read(text))
        except ContractError as error:
            return str(error)
        return None

    def _take(self, reading: Reading) -> None:
        known = self._reading
        if self._snapshot is not None and known is not None and known.definitions is reading.definitions:
            self._snapshot = replace(self._snapshot, validity=reading.validity)
        elif self.killed is not None:
            self._snapshot = _snapshot_of(reading, self.killed)
        self._reading = reading


def _snapshot_of(reading: Reading, killed: frozenset[ExperimentId]) -> Snapshot:
    since = BEGINNING if reading.validity is None else reading.validity.as_of
    return snapshot_of(reading.definitions, killed=killed, since=since, validity=reading.validity)
