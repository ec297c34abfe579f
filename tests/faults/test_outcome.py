"""What counts as shown, and that a report hides nothing."""

from dataclasses import replace

import pytest

from tests.faults.outcome import Outcome, report
from tests.faults.second_opinion import Opinion, summed
from tests.faults.verdict import Verdict

SOUND = Opinion(pending=0, missing=0, unaccounted=0, copies=0, conflicts=0, beyond_end=0, former_topics_unexplained=0)
SHOWN = Outcome(
    scenario="kill",
    shows="kill -9",
    seed=7,
    protocol="classic",
    again="python -m tests.faults",
    struck={"mid-POST": 3},
    missed={},
    records=10,
    rows=9,
    dead_letters=1,
    gaps=0,
    verdict=Verdict(),
    opinion=SOUND,
    second_line=False,
    finished=True,
    trouble="",
    longest_pause_s=3.0,
    pause_limit_s=30.0,
    seconds=9.0,
)
COPIES = replace(SHOWN, verdict=Verdict(duplicated=2), opinion=replace(SOUND, copies=2))


def test_all_zero_in_time_and_agreed_on_is_what_counts_as_shown() -> None:
    assert SHOWN.passed


@pytest.mark.parametrize(
    "outcome",
    [
        replace(SHOWN, verdict=Verdict(lost=1), opinion=replace(SOUND, missing=1)),
        replace(SHOWN, verdict=Verdict(lost=1)),
        replace(SHOWN, opinion=replace(SOUND, missing=1)),
        replace(SHOWN, opinion=replace(SOUND, copies=1)),
        replace(SHOWN, finished=False),
        replace(SHOWN, longest_pause_s=31.0),
        COPIES,
        replace(COPIES, second_line=True, verdict=Verdict(duplicated=2, unhealed=1)),
    ],
)
def test_anything_else_is_not_and_the_report_says_so(outcome: Outcome) -> None:
    assert not outcome.passed
    assert str(outcome).startswith("FAIL")
    assert "**no**" in report([outcome.as_json()], [], "a machine")


def test_copies_that_were_provoked_and_healed_are_allowed_and_counted() -> None:
    healed = replace(COPIES, second_line=True)

    assert healed.passed
    assert "| 2 | 0 | 0 | yes |" in report([healed.as_json()], [], "a machine")


def test_the_auditors_partitions_are_summed() -> None:
    nothing, some = {"count": 0, "listed": []}, {"count": 4, "listed": [[0, 4]]}
    partition = {"pending": nothing, "missing": some, "unaccounted": nothing, "copies": 1, "conflicts": 0, "beyond_end": 0}

    opinion = summed([{**partition, "tail_unknown": True}, {**partition, "tail_unknown": False}])

    assert opinion == replace(SOUND, missing=8, copies=2, former_topics_unexplained=1)
