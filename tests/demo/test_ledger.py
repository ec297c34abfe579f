"""The ledger finds every row that is missing, there twice, or never emitted."""

from deploy.demo.ledger import UNKNOWN, Comparison, Stored, compare, compare_by_source
from schemas.events import EventId

A, B, C = EventId("a"), EventId("b"), EventId("c")


def row(event: EventId, offset: int, partition: int = 0) -> Stored:
    return Stored(event, ("topic", partition, offset))


def test_all_that_was_sent_and_nothing_else_is_clean() -> None:
    found = compare({A: 1, B: 1}, [row(B, 0, partition=1), row(A, 0)])

    assert found == Comparison(events=2, sent=2, rows=2, missing=0, duplicated=0, unknown=0)
    assert found.clean


def test_an_event_without_a_row_is_missing() -> None:
    found = compare({A: 1, B: 1}, [row(A, 0)])

    assert (found.missing, found.duplicated, found.unknown, found.clean) == (1, 0, 0, False)


def test_the_same_coordinates_twice_are_a_duplicate() -> None:
    found = compare({A: 1, B: 1}, [row(A, 0), row(B, 1), row(A, 0)])

    assert (found.missing, found.duplicated, found.unknown, found.clean) == (0, 1, 0, False)


def test_an_event_emitted_once_and_stored_from_two_records_is_a_duplicate() -> None:
    found = compare({A: 1}, [row(A, 0), row(A, 1)])

    assert (found.missing, found.duplicated, found.unknown, found.clean) == (0, 1, 0, False)


def test_an_event_that_its_client_sent_twice_has_two_rows() -> None:
    found = compare({A: 2, B: 1}, [row(A, 0), row(B, 1), row(A, 2)])

    assert found == Comparison(events=2, sent=3, rows=3, missing=0, duplicated=0, unknown=0)


def test_a_lost_record_of_an_event_sent_twice_is_missing() -> None:
    assert compare({A: 2}, [row(A, 0)]).missing == 1


def test_an_event_that_was_never_emitted_is_unknown() -> None:
    found = compare({A: 1}, [row(A, 0), row(C, 1)])

    assert (found.missing, found.duplicated, found.unknown, found.clean) == (0, 0, 1, False)


def test_sources_that_share_a_table_are_compared_each_by_its_own_ledger() -> None:
    found = compare_by_source({"log": {A: 1}, "users": {B: 2}}, [row(A, 0), row(B, 1), row(B, 2)])

    assert found == {
        "log": Comparison(events=1, sent=1, rows=1, missing=0, duplicated=0, unknown=0),
        "users": Comparison(events=1, sent=2, rows=2, missing=0, duplicated=0, unknown=0),
    }


def test_a_loss_in_one_source_is_not_balanced_by_a_surplus_in_another() -> None:
    found = compare_by_source({"log": {A: 1}, "users": {B: 1}}, [row(B, 0), row(B, 1)])

    assert (found["log"].missing, found["users"].duplicated) == (1, 1)


def test_rows_of_no_source_stand_apart() -> None:
    found = compare_by_source({"log": {A: 1}}, [row(A, 0), row(C, 1)])

    assert found["log"].clean
    assert found[UNKNOWN].unknown == 1
