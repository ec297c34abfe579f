"""The experiments that serving knows: a snapshot of a file, replaced whole when the file changes, kept when it turns bad."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.errors import ContractError
from schemas.events import ExperimentDefinition
from schemas.experiment_files import parse_experiments
from schemas.experiment_rules import ASSIGNED_KINDS
from serving_worker.assignment import Layer


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Layers by their ids' order. Definitions that serving does not assign (observed, interleaved) are left out."""

    layers: tuple[Layer, ...] = ()


class Experiments(Protocol):
    def snapshot(self) -> Snapshot | None:
        """The last good copy; None before there was one."""
        ...


def snapshot_of(definitions: Iterable[ExperimentDefinition]) -> Snapshot:
    layers: defaultdict[str, defaultdict[str, list[ExperimentDefinition]]] = defaultdict(lambda: defaultdict(list))
    for definition in sorted(definitions, key=lambda definition: definition.revision):
        if definition.kind in ASSIGNED_KINDS and definition.layer_id:
            layers[definition.layer_id][definition.experiment_id].append(definition)
    return Snapshot(tuple(_layer(layer_id, layers[layer_id]) for layer_id in sorted(layers)))


def _layer(layer_id: str, revisions: dict[str, list[ExperimentDefinition]]) -> Layer:
    experiments = tuple(tuple(revisions[experiment_id]) for experiment_id in sorted(revisions))
    return Layer(layer_id, experiments[0][0].layer_salt or "", experiments)


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
