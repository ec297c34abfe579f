import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import WireError
from schemas.wire import frame, schema_id_of


@given(st.integers(0, 2**32 - 1), st.binary())
def test_a_framed_datum_gives_its_schema_id_back(schema_id: int, datum: bytes) -> None:
    value = frame(schema_id, datum)

    assert schema_id_of(value) == schema_id
    assert value.endswith(datum)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "empty"), (b"", "empty"), (b"\x01\x00\x00\x00\x07", "magic"), (b"{}", "magic"), (b"\x00\x00\x00", "truncated")],
)
def test_other_bytes_are_refused_by_a_reason_that_can_be_counted(value: bytes | None, reason: str) -> None:
    with pytest.raises(WireError) as refused:
        schema_id_of(value)

    assert refused.value.reason == reason
