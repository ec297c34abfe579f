"""The proof that the harness can fail: every mutant is run with one seed after the other until it is found."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.faults.mutant import MUTANTS, STUCK
from tests.faults.running import command, run
from tests.faults.scenarios import SCENARIOS
from tests.faults.stack import LocalStack

SEEDS_MAX = 4
PROTOCOL = "classic"


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a mutant was found, with the seed and the command that find it again, and by what it was found.

    A run that came to no end finds nothing, as what it lost may be late; but for a mutant of which that is expected.
    """

    mutant: str
    without: str
    scenario: str
    found: bool
    seeds: int
    again: str
    by: dict[str, Any]

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} {name}" for name, count in self.by.items())
        return (
            f"{'found' if self.found else 'NOT FOUND'} without {self.without}, with seed no. {self.seeds}: {wrong or 'nothing'}"
        )


def prove(stack: LocalStack, first_seed: int, names: list[str]) -> Iterator[Proof]:
    for name in names:
        yield _prove(stack, name, first_seed)


def _prove(stack: LocalStack, name: str, first_seed: int) -> Proof:
    for seeds in range(1, SEEDS_MAX):
        proof = _try(stack, name, first_seed, seeds)
        if proof.found:
            return proof
    return _try(stack, name, first_seed, SEEDS_MAX)


def _try(stack: LocalStack, name: str, first_seed: int, seeds: int) -> Proof:
    """With the `seeds`-th seed."""
    mutant, seed = MUTANTS[name], first_seed + seeds - 1
    scenario = SCENARIOS[mutant.scenario]
    outcome = run(stack, scenario, seed, PROTOCOL, mutant.share, name)
    counts = {**asdict(outcome.verdict), STUCK: int(not outcome.finished)}
    wrong = {field: count for field, count in counts.items() if count and field in mutant.by}
    found = bool(wrong) and (outcome.finished or STUCK in mutant.by)
    again = command(scenario, seed, PROTOCOL, mutant.share, name)
    return Proof(name, mutant.without, scenario.name, found, seeds, again, wrong)
