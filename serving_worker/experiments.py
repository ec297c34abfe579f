"""The experiments that serving knows: a snapshot of a file, replaced whole when the file changes, kept when it turns bad."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.errors import ContractError
from schemas.events import ExperimentDefinition, ExperimentId, ExperimentKind, Micros
from schemas.experiment_files import parse_experiments
from schemas.experiment_rules import PLACED_KINDS
from serving_worker.layers import BEGINNING, Holdback, Layer, holdback_of, layer_of

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


class ExperimentFile:
    """`path` None stands for an installation without experiments. Not thread-safe: one task reloads."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._snapshot = Snapshot() if path is None else None
        self._text: bytes | None = None
        self.problem: str | None = None
        """Why the file could not be taken when it was last read; None where it could."""

    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def reload(self) -> bool:
        """Read the file again. True where its text has changed, to the good or to the bad; `problem` says which."""
        if self._path is None:
            return False
        try:
            text = self._path.read_bytes()
        except OSError as error:
            return self._refuse(None, f"{self._path}: {error.strerror}")
        if text == self._text:
            return False
        try:
            self._snapshot = snapshot_of(parse_experiments(text, str(self._path)))
        except ContractError as error:
            return self._refuse(text, str(error))
        self._text, self.problem = text, None
        return True

    def _refuse(self, text: bytes | None, problem: str) -> bool:
        self._text, changed, self.problem = text, problem != self.problem, problem
        return changed
