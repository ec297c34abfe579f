"""What counts of the topic of experiments: one rule for hosts' followers, and for the desk, which builds on what they take. Pure.

What was taken in stays. What breaks a rule is refused by name, and all else goes on.
"""

from collections.abc import Iterable, Mapping, Sequence

from producers.experiment_log import Refused
from schemas.events import ExperimentDefinition, ExperimentId
from schemas.experiment_history import broken_rules
from schemas.experiment_rules import name_of, named_by
from serving_worker.experiments.snapshot_file import Contents

REFUSED_MAX = 100
"""Records that are told by name, the newest; how many more there were is told too."""


class Intake:
    """What has been taken in of the topic, and what was refused."""

    def __init__(self, contents: Contents) -> None:
        self._taken = {_key(each): each for each in contents.revisions}
        self._refused: dict[str, Refused] = {}
        self._left_out = 0
        self._standing = frozenset(broken_rules(contents.revisions))
        """Faults by rules that are newer than what was taken in: no reason to give it up."""

    def contents(self) -> Contents:
        """Without the refused records that a later revision of their experiment has healed."""
        newest = dict(sorted(self._taken))
        refused = tuple(each for each in self._refused.values() if not _healed(each, newest))
        return Contents(tuple(self._taken.values()), refused, self._left_out)

    def take(self, found: Iterable[ExperimentDefinition | Refused]) -> None:
        definitions: list[ExperimentDefinition] = []
        for each in found:
            if isinstance(each, Refused):
                self._refuse(each)
            else:
                definitions.append(each)
        self._take_sound(definitions)

    def _take_sound(self, definitions: Sequence[ExperimentDefinition]) -> None:
        """All at once where that is sound, else by halves, down to the ones that are not: the rules look at all that is there."""
        fresh = [each for each in definitions if self._is_fresh(each)]
        faults = self._faults(fresh)
        if not faults:
            self._taken.update((_key(each), each) for each in fresh)
        elif len(fresh) == 1:
            self._refuse(_refused(fresh[0], *faults))
        else:
            middle = len(fresh) // 2
            self._take_sound(fresh[:middle])
            self._take_sound(fresh[middle:])

    def _is_fresh(self, definition: ExperimentDefinition) -> bool:
        known = self._taken.get(_key(definition))
        if known is not None and known != definition:
            self._refuse(_refused(definition, "differs from the same revision as it was taken in before"))
        return known is None

    def _faults(self, fresh: Sequence[ExperimentDefinition]) -> list[str]:
        if not fresh:
            return []
        return [fault for fault in broken_rules([*self._taken.values(), *fresh]) if fault not in self._standing]

    def _refuse(self, refused: Refused) -> None:
        self._refused.pop(refused.where, None)
        self._refused[refused.where] = refused
        if len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
            self._left_out += 1


def _refused(definition: ExperimentDefinition, *faults: str) -> Refused:
    name = name_of(definition)
    return Refused(name, name, "; ".join(fault.removeprefix(f"{name}: ") for fault in faults))


def _healed(refused: Refused, newest: Mapping[ExperimentId, int]) -> bool:
    named = named_by(refused.key)
    return named is not None and newest.get(named[0], 0) > named[1]


def _key(definition: ExperimentDefinition) -> tuple[ExperimentId, int]:
    return definition.experiment_id, definition.revision
