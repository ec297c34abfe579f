"""What one run of one scenario came to: figures only, as JSON and as a row of the report. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.faults.second_opinion import Opinion
from tests.faults.verdict import Verdict

Figures = Mapping[str, Any]
"""What `as_json` gave, read again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`again` is the command that repeats the run. `records` are the ledger's, `rows` the base tables'."""

    scenario: str
    shows: str
    seed: int
    protocol: str
    again: str
    struck: Mapping[str, int]
    missed: Mapping[str, int]
    records: int
    rows: int
    dead_letters: int
    gaps: int
    verdict: Verdict
    opinion: Opinion
    second_line: bool
    """Whether copies in base tables were provoked: then FINAL is what counts."""
    finished: bool
    """Whether the plan was run to its end, and a last sink brought in all that was left."""
    trouble: str
    """What the last sink, or the harness, said where it did not end well."""
    longest_pause_s: float
    pause_limit_s: float | None
    """How long there may be no progress; None where a fault alone may take longer."""
    seconds: float

    @property
    def passed(self) -> bool:
        return self.finished and self.in_time and self.auditor_agrees and self._judged.flawless

    @property
    def in_time(self) -> bool:
        return self.pause_limit_s is None or self.longest_pause_s <= self.pause_limit_s

    @property
    def auditor_agrees(self) -> bool:
        """On whether all is in, and on whether anything is in twice."""
        verdict = self.verdict
        complete = not (verdict.lost or verdict.letters_lost or verdict.unrecorded)
        single = not (verdict.duplicated or verdict.letters_duplicated)
        return (self.opinion.complete, self.opinion.single) == (complete, single)

    @property
    def _judged(self) -> Verdict:
        """Copies in base tables do not count where they were provoked."""
        return replace(self.verdict, duplicated=0, letters_duplicated=0) if self.second_line else self.verdict

    def as_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "auditor_agrees": self.auditor_agrees, **asdict(self)}

    def __str__(self) -> str:
        verdict = self.verdict
        words = (
            f"{sum(self.struck.values())} faults ({sum(self.missed.values())} missed)",
            f"{self.records} records",
            f"{self.rows} rows",
            f"{self.dead_letters} dead letters",
            f"{verdict.lost + verdict.letters_lost} lost",
            f"{verdict.duplicated + verdict.letters_duplicated} twice",
            f"{verdict.view_duplicated} twice in views",
            f"{verdict.unrecorded} unrecorded",
            f"auditor {'agrees' if self.auditor_agrees else f'DISAGREES ({self.opinion})'}",
            f"longest pause {self.longest_pause_s:.1f} s",
            f"{self.seconds:.0f} s",
        )
        end = "ok  " if self.passed else "FAIL"
        return f"{end} {self.scenario} ({self.protocol}, seed {self.seed}): {', '.join(words)}"


_HEAD = (
    "| scenario | protocol | seed | faults | records | rows | dead letters | lost | twice in base | twice in views | gaps |"
    " auditor agrees | longest pause | passed |"
)


def report(outcomes: Iterable[Figures], proofs: Iterable[Figures], machine: str) -> str:
    """docs/fault-report.md, from outcomes and proofs as JSON."""
    found = sorted(outcomes, key=lambda outcome: (outcome["scenario"], outcome["protocol"], outcome["seed"]))
    lines = [
        "# Fault report",
        "",
        "Made by `python -m tests.faults --report`, which `make faults` runs; every figure is from docs/faults/*.json. With each",
        "run stands its command, which draws the same faults for as long as the scenario is what it was then. Shown is whether",
        "every record that the broker acknowledged to the harness is in the warehouse once, as a row or as a dead letter, or in",
        "a recorded gap. Base tables are counted without FINAL, with merging off: `twice in base` is how often the second line",
        "would have been needed.",
        "",
        f"Machine: {machine}.",
        "",
        _HEAD,
        "|" + "---|" * (_HEAD.count("|") - 1),
        *(_row(outcome) for outcome in found),
        "",
        "## With one rule taken away",
        "",
        "| without | found | by scenario | seeds needed | what was wrong |",
        "|---|---|---|---|---|",
        *(_proof_row(proof) for proof in proofs),
        "",
        *(line for outcome in found for line in _details(outcome)),
    ]
    return "\n".join(lines)


def _proof_row(proof: Figures) -> str:
    wrong = ", ".join(f"{count} {name}" for name, count in proof["by"].items())
    cells = (proof["without"], "yes" if proof["found"] else "**no**", proof["scenario"], proof["seeds"], wrong)
    return "| " + " | ".join(map(str, cells)) + " |"


def _row(outcome: Figures) -> str:
    verdict = outcome["verdict"]
    cells = (
        outcome["scenario"],
        outcome["protocol"],
        outcome["seed"],
        sum(outcome["struck"].values()),
        outcome["records"],
        outcome["rows"],
        outcome["dead_letters"],
        verdict["lost"] + verdict["letters_lost"] + verdict["unrecorded"],
        verdict["duplicated"] + verdict["letters_duplicated"],
        verdict["view_duplicated"],
        outcome["gaps"],
        "yes" if outcome["auditor_agrees"] else "**no**",
        f"{outcome['longest_pause_s']:.1f} s",
        "yes" if outcome["passed"] else "**no**",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _details(outcome: Figures) -> list[str]:
    struck = "; ".join(f"{label} {count}" for label, count in sorted(outcome["struck"].items()))
    missed = "; ".join(f"{label} {count}" for label, count in sorted(outcome["missed"].items()))
    return [
        f"## {outcome['scenario']}, {outcome['protocol']}, seed {outcome['seed']}",
        "",
        f"{outcome['shows']}. {outcome['seconds']:.0f} s.",
        "",
        f"- struck: {struck or 'nothing'}",
        *([f"- drawn, but no such request came in time: {missed}"] if missed else []),
        *([f"- {example}" for example in outcome["verdict"]["examples"]]),
        *([f"- said: {' '.join(outcome['trouble'].split())[-400:]}"] if outcome["trouble"] else []),
        f"- again: `{outcome['again']}`",
        "",
    ]
