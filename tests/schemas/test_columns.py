import pytest

from schemas.columns import plain_type, same_column


@pytest.mark.parametrize(
    ("declared", "wanted"),
    [
        ("LowCardinality(String)", "String"),
        ("LowCardinality(Nullable(String))", "Nullable(String)"),
        ("Map(LowCardinality(String), Array(LowCardinality(String)))", "Map(String,Array(String))"),
        ("DateTime64(6, 'UTC')", "DateTime64(6,'UTC')"),
    ],
)
def test_storage_choices_make_no_difference(declared: str, wanted: str) -> None:
    assert same_column(declared, wanted)


def test_types_do() -> None:
    assert not same_column("Nullable(String)", "String")
    assert not same_column("Int64", "Int32")


def test_a_type_without_low_cardinality_stays() -> None:
    assert plain_type("Array(Tuple(a String, b Nullable(Float64)))") == "Array(Tuple(a String,b Nullable(Float64)))"
