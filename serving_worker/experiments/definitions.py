"""The experiments that serving knows: a snapshot of definitions, replaced whole when they change, kept when they turn bad."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
    Not thread-safe: one task reloads.
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

    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def reload(self) -> bool:
        """Read the files again. True where something has changed, to the good or to the bad; `problem` says which."""
        if self._path is None:
            return False
        problem, snapshot, known = self.problem, self._snapshot, (self._reading, self.killed)
        troubles = [self._look_at_kill_file(), self._look_at_definitions(self._path)]
        self.problem = "; ".join(filter(None, troubles)) or None
        if known != (self._reading, self.killed):
            self._renew(known[0] if known[1] == self.killed else None)
        return problem != self.problem or (snapshot and snapshot.layers) is not (self._snapshot and self._snapshot.layers)

    def _renew(self, known: Reading | None) -> None:
        """`known`: what the present snapshot is of, but for its age."""
        reading, killed = self._reading, self.killed
        if reading is None or killed is None:
            return
        if self._snapshot is not None and known is not None and known.definitions is reading.definitions:
            self._snapshot = replace(self._snapshot, validity=reading.validity)
            return
        since = BEGINNING if reading.validity is None else reading.validity.as_of
        self._snapshot = snapshot_of(reading.definitions, killed=killed, since=since, validity=reading.validity)

    def _look_at_kill_file(self) -> str | None:
        try:
            self.killed = read_killed(self._kill_file)
        except (OSError, ValueError) as error:
            return f"{self._kill_file}: {error}"
        return None

    def _look_at_definitions(self, path: Path) -> str | None:
        """What is wrong with them. Each text is read once."""
        try:
            text = path.read_bytes()
            if text != self._text:
                self._text, self._wrong = text, None
                self._reading = self._read(text)
        except OSError as error:
            self._text, self._wrong = None, f"{path}: {error.strerror}"
        except ContractError as error:
            self._wrong = f"{path}: {error}"
        return self._wrong if self._wrong or self._reading is None else self._reading.problem
