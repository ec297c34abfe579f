"""What the embedded warehouse refuses by name, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.warehouse_server.config import READER, WRITER
from deploy.local.warehouse_server.errors import ServerError
from deploy.local.warehouse_server.refusals import ALLOWED_ENGINES, REFUSED_ENGINES, REFUSED_FUNCTIONS, refuse, refuse_values


def refusal_of(sql: str, user: str = WRITER) -> ServerError | None:
    try:
        refuse(sql.encode(), user)
    except ServerError as refused:
        return refused
    return None


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE k (a Int32) ENGINE = Kafka('b', 't', 'g', 'CSV')",
        "create table k (a Int32) engine/**/=/**/kafka",
        "CREATE TABLE k (a Int32) ENGINE = `Kafka`",
        'CREATE TABLE k (a Int32) ENGINE "KAFKA"',
        r"CREATE TABLE k (a Int32) ENGINE = `K\x61fka`",
        "CREATE TABLE k (a Int32) ENGINE = “Kafka”",
        "CREATE TABLE k (a Int32) ENGINE = -- a comment\n Kafka",
        "CREATE TABLE k (a Int32) ENGINE = # a comment\n Kafka",
        "CREATE OR REPLACE TABLE k (a Int32) ENGINE = Kafka",
        "ATTACH TABLE k (a Int32) ENGINE = Kafka",
        "CREATE MATERIALIZED VIEW v ENGINE = Kafka AS SELECT 1",
        "CREATE TABLE k AS kafka('b', 't')",
        "CREATE TABLE k (a Int32) ENGINE = RabbitMQ",
        "CREATE TABLE k (a Int32) ENGINE = {engine:Identifier}",
        "CREATE TABLE k (a Int32) ENGINE = ReplicatedMergeTree ORDER BY a",
        "CREATE DATABASE d ENGINE = MaterializedPostgreSQL('h', 'd', 'u', 'p')",
        "SELECT * FROM file('/etc/passwd')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM `file` /* here */ ('/etc/passwd')",
        "DESCRIBE TABLE url('http://host/')",
        "INSERT INTO FUNCTION s3('http://host/') SELECT 1",
        "SELECT * FROM remote('host', 'db', 't')",
        "SELECT * FROM executable('run', 'CSV', 'a Int32')",
        "SELECT * FROM python('p')",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT 1 INTO OUTFILE 'x'",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "INSERT INTO t SELECT * FROM input('a Int32') FORMAT CSV",
        "CREATE DICTIONARY d (a UInt8) PRIMARY KEY a SOURCE(HTTP(URL 'x')) LAYOUT(FLAT()) LIFETIME(1)",
        "CREATE DICTIONARY d (a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(HOST 'x' TABLE 't')) LAYOUT(FLAT()) LIFETIME(1)",
        "ATTACH TABLE t FROM '/elsewhere' (a Int32) ENGINE = MergeTree ORDER BY a",
        "BACKUP DATABASE d TO Disk('a', 'b')",
        "RESTORE TABLE t FROM Disk('a', 'b')",
        "CREATE TABLE t ON CLUSTER c (a Int32) ENGINE = Memory",
        "SYSTEM SHUTDOWN",
        "SYSTEM KILL",
        "SET dialect = 'prql'",
    ],
)
def test_what_reaches_out_or_locks_the_directory_is_refused(sql: str) -> None:
    refused = refusal_of(sql)
    assert refused is not None
    assert refused.code == 48
    assert refused.text.startswith("Code: 48. DB::Exception: The embedded warehouse does not do ")


@pytest.mark.parametrize("sql", ["CREATE USER u", "create or replace user u", "/* */ GRANT SELECT ON *.* TO u", "ALTER ROLE r"])
def test_users_are_set_where_the_server_is_started(sql: str) -> None:
    refused = refusal_of(sql)
    assert refused is not None
    assert refused.code == 497


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'ENGINE = Kafka'",
        "SELECT 'it''s ENGINE = Kafka', 'a \\' ENGINE = Kafka'",
        "SELECT 1 -- ENGINE = Kafka",
        "SELECT /* ENGINE = Kafka */ 1",
        "SELECT $$ENGINE = Kafka$$, $tag$ file('x') $tag$",
        "SELECT engine, kafka FROM system.tables WHERE engine = 'Kafka'",
        "CREATE TABLE url (a Int32) ENGINE = Memory",
        "CREATE TABLE IF NOT EXISTS file (a Int32) ENGINE = Memory",
        "INSERT INTO file (a) VALUES",
        "INSERT INTO db.url (a) VALUES",
        "CREATE DICTIONARY d (a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT()) LIFETIME(1)",
        "SYSTEM RELOAD DICTIONARIES",
        "SELECT input, file FROM t",
        "CREATE TABLE f (k String) ENGINE = Join(ANY, LEFT, k) SETTINGS join_any_take_last_row = 1, persistent = 0",
    ],
)
def test_names_in_strings_comments_and_columns_are_no_names(sql: str) -> None:
    assert refusal_of(sql) is None


@given(
    blanks=st.lists(st.sampled_from([" ", "\n", "\t", "/* ENGINE */", "-- '\n", "\u00a0", "# \n"]), min_size=1, max_size=4),
    engine=st.sampled_from(sorted(REFUSED_ENGINES)),
    quote=st.sampled_from(["", "`", '"']),
)
def test_no_blank_comment_or_quote_hides_an_engine(blanks: list[str], engine: str, quote: str) -> None:
    blank = "".join(blanks)
    assert refusal_of(f"CREATE TABLE t (a Int32){blank}ENGINE{blank}={blank}{quote}{engine.upper()}{quote}") is not None


@given(st.text())
def test_any_string_is_only_a_string(text: str) -> None:
    escaped = text.encode("utf-8", "replace").decode().replace("\\", "\\\\").replace("'", "\\'")
    assert refusal_of(f"SELECT '{escaped} ENGINE = Kafka'") is None


def test_values_may_name_but_not_call() -> None:
    refuse_values(b"(1, 'file(x)'), (2, 'url')")
    with pytest.raises(ServerError, match=r"file\(\)"):
        refuse_values(b"(1, 'x'), ((SELECT length(file('/etc/passwd'))), 'y')")


def test_the_reader_does_not_lift_its_limits_in_a_statement() -> None:
    lifting = "SELECT 1 SETTINGS max_execution_time = 0"
    refused = refusal_of(lifting, READER)
    assert refused is not None
    assert refused.code == 452
    assert refusal_of(lifting, WRITER) is None
    assert refusal_of("SELECT max_execution_time = 0 FROM t", READER) is None


def test_no_engine_is_both_allowed_and_refused() -> None:
    assert ALLOWED_ENGINES.isdisjoint(REFUSED_ENGINES)
    assert all(name == name.lower() for name in (*ALLOWED_ENGINES, *REFUSED_ENGINES, *REFUSED_FUNCTIONS))
