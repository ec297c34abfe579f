"""The oracle itself: whatever is wrong in the warehouse, it finds."""

from dataclasses import replace

import pytest

from tests.faults.ledger import Coordinates, Entry, Fate, Ledger, Sound
from tests.faults.verdict import Found, Gap, Verdict, judge

TOPIC = "00000000-0000-0000-0000-000000000007"
LETTER = Coordinates(TOPIC, 1, 0)
SOUND = Sound("interactions", 6, b"sound")
ABORTED = Coordinates(TOPIC, 0, 9)


def at(offset: int) -> Coordinates:
    return Coordinates(TOPIC, 0, offset)


def ledger() -> Ledger:
    """Rows 0 to 4 of interactions, of which the last is a duplicate of the first; a dead letter; an aborted record."""
    made = Ledger()
    for offset, number in enumerate((1, 2, 3, 4, 1)):
        made.note(at(offset), Entry("interactions", "good", Fate.ROW, number))
    made.note(LETTER, Entry("dead_letters", "empty", Fate.LETTER, 77, SOUND))
    made.note(ABORTED, Entry("interactions", "good", Fate.NOTHING, 9))
    return made


ROWS = [(at(offset), number) for offset, number in enumerate((1, 2, 3, 4, 1))]
RIGHT = Found(
    rows={"interactions": ROWS},
    final={"interactions": 5, "dead_letters": 1},
    once={"interactions": [1, 2, 3, 4]},
    letters=[(LETTER, 77)],
)


def test_what_is_right_is_flawless() -> None:
    assert judge(ledger(), RIGHT).flawless
    assert judge(ledger(), RIGHT) == Verdict()


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (replace(RIGHT, rows={"interactions": ROWS[1:]}), {"lost": 1}),
        (replace(RIGHT, rows={"interactions": [*ROWS, ROWS[2]]}), {"duplicated": 1}),
        (replace(RIGHT, rows={"interactions": [*ROWS, ROWS[2]]}, final={"interactions": 6, "dead_letters": 1}), {"unhealed": 1}),
        (replace(RIGHT, rows={"interactions": [*ROWS, (ABORTED, 9)]}), {"strange": 1}),
        (replace(RIGHT, rows={"interactions": [*ROWS, (at(100), 5)]}), {"strange": 1}),
        (replace(RIGHT, rows={"interactions": [*ROWS[:3], (at(3), 5), ROWS[4]]}), {"strange": 1}),
        (replace(RIGHT, rows={"recommendations": ROWS}), {"strange": 5}),
        (replace(RIGHT, rows={"interactions": [*ROWS, (LETTER, 77)]}), {"strange": 1}),
        (replace(RIGHT, letters=[]), {"letters_lost": 1}),
        (replace(RIGHT, letters=[(LETTER, 77)] * 2), {"letters_duplicated": 1}),
        (replace(RIGHT, letters=[(LETTER, 78)]), {"strange": 1}),
        (replace(RIGHT, letters=[(LETTER, 77), (at(0), 1)]), {"strange": 1}),
        (replace(RIGHT, once={"interactions": [1, 2, 3]}), {"view_lost": 1}),
        (replace(RIGHT, once={"interactions": [1, 1, 2, 3, 4]}), {"view_duplicated": 1}),
        (replace(RIGHT, once={"interactions": [1, 2, 3, 4, 5]}), {"view_strange": 1}),
    ],
)
def test_every_kind_of_wrong_is_found(found: Found, wrong: dict[str, int]) -> None:
    verdict = judge(ledger(), found)

    assert {name: getattr(verdict, name) for name in wrong} == wrong
    assert not verdict.flawless


def test_a_repaired_dead_letter_is_a_row_besides() -> None:
    repaired = ledger()
    repaired.repair({LETTER: SOUND})
    once = {"interactions": [1, 2, 3, 4, 6]}
    mended = replace(RIGHT, rows={"interactions": [*ROWS, (LETTER, 6)]}, final={"interactions": 6, "dead_letters": 1}, once=once)

    assert judge(repaired, mended).flawless
    assert judge(repaired, RIGHT).lost == 1
    assert judge(repaired, replace(mended, letters=[])).letters_lost == 1
    assert judge(repaired, replace(mended, rows={"interactions": [*ROWS, (LETTER, 7)]})).strange == 1
    assert judge(repaired, replace(mended, rows={"interactions": [*ROWS, (LETTER, 6), (LETTER, 6)]})).duplicated == 1


def test_what_kafka_let_go_of_is_in_or_in_a_recorded_gap() -> None:
    expired = ledger()
    assert expired.let_go(TOPIC, 0, 2) == 2
    without = replace(RIGHT, rows={"interactions": ROWS[1:]}, final={"interactions": 4, "dead_letters": 1})

    assert judge(expired, RIGHT).flawless
    assert judge(expired, without).unrecorded == 1
    assert judge(expired, replace(without, gaps=[Gap(TOPIC, 0, "expired", 0, 1)])).flawless
    assert judge(expired, replace(RIGHT, gaps=[Gap(TOPIC, 0, "recreated", 5, None)])).flawless
    assert judge(expired, replace(without, gaps=[Gap(TOPIC, 0, "recreated", 0, None)])).unrecorded == 0
    assert judge(expired, replace(without, gaps=[Gap(TOPIC, 0, "expired", 1, 2)])).unrecorded == 1
    assert judge(expired, replace(without, gaps=[Gap(TOPIC, 1, "expired", 0, 1)])).unrecorded == 1


def test_a_gap_that_says_too_much_is_found() -> None:
    assert judge(ledger(), replace(RIGHT, gaps=[Gap(TOPIC, 0, "expired", 0, 2)])).overstated == 2


def test_a_gap_excuses_nothing_that_kafka_still_had() -> None:
    without = replace(RIGHT, rows={"interactions": ROWS[1:]}, gaps=[Gap(TOPIC, 0, "expired", 0, None)])

    assert judge(ledger(), without).lost == 1
