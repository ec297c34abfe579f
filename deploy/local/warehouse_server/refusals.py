"""What this server refuses by name, why, and what to use instead.

Pure. The text is read as tokens, so that a name in a string or a comment is no name, and one in quotes or behind a comment is.
Two kinds of reason stand behind the entries: engines whose tables keep the directory from opening again, and whatever reaches
out of the directory (files, network, programs), which a user of the warehouse has no business with. What else the embedded engine
lacks it refuses itself.
"""

import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from deploy.local.warehouse_server.config import READER
from deploy.local.warehouse_server.errors import (
    ACCESS_DENIED,
    NOT_IMPLEMENTED,
    SETTING_CONSTRAINT_VIOLATION,
    ServerError,
    refusal,
)
from deploy.local.warehouse_server.query import LIMITING
from deploy.local.warehouse_server.tokens import Kind, Token, tokens

_QUEUE = (
    "a table that consumes makes the embedded warehouse's directory unopenable after a restart; load topics with `tailrace sink`"
)
_FILES = "it reads or writes files outside the warehouse's directory; send the rows in the body of an INSERT"
_NETWORK = "it reaches other services; load their rows with an INSERT, or use a ClickHouse server"
_PROGRAM = "it runs programs; compute outside and load the result with an INSERT"
_REPLICA = "replicas need a ClickHouse cluster and its Keeper; use the same engine without Replicated"
_HIDDEN = "it runs SQL out of a string, which cannot be checked; send that SQL itself"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALLOWED_ENGINES = _names(
    """
    aggregatingmergetree alias atomic buffer coalescingmergetree collapsingmergetree dictionary embeddedrocksdb
    fuzzjson generaterandom graphitemergetree join log loop materializedview memory merge mergetree null ordinary
    replacingmergetree set stripelog summingmergetree timeseries tinylog versionedcollapsingmergetree view
    """
)


def _reasons(groups: Mapping[str, str]) -> dict[str, str]:
    return {name: reason for reason, names in groups.items() for name in names.split()}


REFUSED_ENGINES = _reasons(
    {
        _QUEUE: """
        azurequeue filelog kafka materializedmysql materializedpostgresql nats rabbitmq s3queue
        """,
        _FILES: """
        backup deltalakelocal file filesystem iceberglocal paimonlocal sqlite
        """,
        _NETWORK: """
        arrowflight arrowstream azureblobstorage bigquery cosn datalakecatalog deltalake deltalakeazure deltalakes3
        distributed externaldistributed gcs hdfs hive hudi iceberg icebergazure iceberghdfs icebergs3 jdbc meilisearch
        mongodb mysql odbc oss paimon paimonazure paimonhdfs paimons3 postgresql redis remote remotesecure s3 url
        ytsaurus
        """,
        _PROGRAM: """
        executable executablepool
        """,
        _HIDDEN: """
        fuzzquery queryrunner
        """,
        _REPLICA: """
        keepermap replicated zookeeper
        """,
    }
)
_REPLICATED_PREFIXES = ("replicated", "shared")

REFUSED_FUNCTIONS = _reasons(
    {
        _QUEUE: """
        kafka nats rabbitmq
        """,
        _FILES: """
        deltalakelocal disk file filecluster filesystem iceberglocal iceberglocalcluster paimonlocal sqlite
        """,
        _NETWORK: """
        aiclassify aiembed aiextract aifilter aigenerate airedact aisimilarity aitranslate arrowflight arrowstream
        azureblobstorage azureblobstoragecluster bigquery cluster clusterallreplicas cosn deltalake deltalakeazure
        deltalakeazurecluster deltalakecluster deltalakes3 deltalakes3cluster gcs hdfs hdfscluster hive hudi
        hudicluster iceberg icebergazure icebergazurecluster icebergcluster iceberghdfs iceberghdfscluster icebergs3
        icebergs3cluster jdbc mongodb mysql odbc oss paimon paimonazure paimonazurecluster paimoncluster paimonhdfs
        paimonhdfscluster paimons3 paimons3cluster postgresql redis remote remotesecure s3 s3cluster showcertificate
        url urlcluster ytsaurus
        """,
        _PROGRAM: """
        executable python
        """,
        _HIDDEN: """
        eval fuzzquery viewexplain
        """,
    }
)
_SUSPECT = re.compile("|".join(sorted(REFUSED_FUNCTIONS)).encode(), re.IGNORECASE)
_INPUT = (
    "an INSERT … SELECT … FROM input() loses its rows in the embedded engine; insert into a staging table and select from there"
)

_ACCESS = "its two users, tailrace and reader, are set where the server is started"
_BACKUP = "copy the directory while the server is down, or use a ClickHouse server"
REFUSED_STATEMENTS: Mapping[tuple[str, ...], str] = {
    ("GRANT",): _ACCESS,
    ("REVOKE",): _ACCESS,
    ("EXECUTE", "AS"): _ACCESS,
    ("SET", "ROLE"): _ACCESS,
    ("SET", "DEFAULT", "ROLE"): _ACCESS,
    **{
        (verb, *noun.split()): _ACCESS
        for verb in ("CREATE", "ALTER", "DROP", "MOVE", "ATTACH")
        for noun in ("USER", "ROLE", "QUOTA", "ROW POLICY", "POLICY", "MASKING POLICY", "SETTINGS PROFILE", "PROFILE", "TOKEN")
    },
    ("CREATE", "HANDLER"): "its HTTP paths are fixed",
    ("CREATE", "NAMED", "COLLECTION"): _NETWORK,
    ("BACKUP",): _BACKUP,
    ("RESTORE",): _BACKUP,
    ("SNAPSHOT",): _BACKUP,
    ("COPY",): _FILES,
}
_SYSTEM_ALLOWED = _names("RELOAD STOP START FLUSH DROP CLEAR REFRESH CANCEL WAIT UNLOAD LOAD")
_SYSTEM_REFUSED = _names("REPLICA REPLICAS LISTEN REPLICATED REPLICATION FETCHES SENDS DISTRIBUTED THREADPOOL DATABASE")
_CLAUSES: Mapping[tuple[str, ...], str] = {
    ("INTO", "OUTFILE"): f"{_FILES}; a query's result is the body of its answer",
    ("FROM", "INFILE"): _FILES,
    ("ON", "CLUSTER"): "this is one server without a cluster; leave ON CLUSTER out",
}
_SOURCES_ALLOWED = frozenset({"clickhouse", "null"})
_SETTINGS_OWN = {"dialect": "statements are checked as ClickHouse's own SQL"}
_TABLE_NAMED_AFTER = frozenset({"INTO", "TABLE", "EXISTS", "VIEW", "DICTIONARY", "RENAME", "TO"})
_NAMING = _names("CREATE INSERT ATTACH REPLACE ALTER DROP RENAME TRUNCATE EXCHANGE")


def refuse(text: bytes, user: str) -> None:
    """Raises ServerError for the first thing in the statement that this server does not do for `user`."""
    found = list(tokens(text))
    for error in _refused(found, user):
        raise error


def refuse_values(data: bytes | mmap.mmap) -> None:
    """The same for an insert's VALUES, whose expressions may call and select. Tokens are made only where a name occurs."""
    if _SUSPECT.search(data) is None:
        return
    for token, following in pairwise(tokens(data)):
        if following.text == "(" and token.name in REFUSED_FUNCTIONS:
            raise _no(f"{token.text}()", REFUSED_FUNCTIONS[token.name])


def _refused(found: Sequence[Token], user: str) -> Iterator[ServerError]:
    yield from _statements(found)
    in_settings = False
    for index, token in enumerate(found):
        following = found[index + 1 :]
        in_settings = in_settings or token.word in {"SETTINGS", "SET"}
        yield from _engines(token, following)
        yield from _functions(found, index)
        yield from _sources(token, following)
        yield from _clauses(token, following)
        if in_settings:
            yield from _settings(token, following, user)


def _statements(found: Sequence[Token]) -> Iterator[ServerError]:
    words = tuple(
        token.word for token in found[:6] if token.word not in {"OR", "REPLACE", "TEMPORARY"} or token.start == found[0].start
    )
    for start, reason in REFUSED_STATEMENTS.items():
        if words[: len(start)] == start:
            yield _no(" ".join(start), reason)
    if words[:1] == ("SYSTEM",) and (
        words[1:2] == () or words[1] not in _SYSTEM_ALLOWED or not _SYSTEM_REFUSED.isdisjoint(words)
    ):
        yield _no(" ".join(words[:3]), "it acts on the server itself; its owner stops and starts the process")
    if words[:1] == ("INSERT",) and any(token.name == "input" and after.text == "(" for token, after in pairwise(found)):
        yield _no("INSERT with input()", _INPUT)


def _engines(token: Token, following: Sequence[Token]) -> Iterator[ServerError]:
    if token.word != "ENGINE" or not following:
        return
    named = following[1] if following[0].text == "=" and len(following) > 1 else following[0]
    if named.text == "{":
        yield _no("an engine named by a parameter", "what it names cannot be checked; write the engine's name")
    if reason := _engine_reason(named.name):
        yield _no(f"ENGINE = {named.text}", reason)


def _engine_reason(name: str) -> str | None:
    if name in ALLOWED_ENGINES:
        return None
    return _REPLICA if name.startswith(_REPLICATED_PREFIXES) else REFUSED_ENGINES.get(name)


def _functions(found: Sequence[Token], index: int) -> Iterator[ServerError]:
    token = found[index]
    if index + 1 == len(found) or found[index + 1].text != "(" or token.name not in REFUSED_FUNCTIONS:
        return
    before = found[index - 1] if index else None
    names_a_table = before is not None and (
        before.text == "." or (before.word in _TABLE_NAMED_AFTER and found[0].word in _NAMING)
    )
    if not names_a_table:
        yield _no(f"{token.text}()", REFUSED_FUNCTIONS[token.name])


def _sources(token: Token, following: Sequence[Token]) -> Iterator[ServerError]:
    """A dictionary's SOURCE(…): other tables of this server, or none."""
    if token.word != "SOURCE" or len(following) < 2 or following[0].text != "(":
        return
    if following[1].name not in _SOURCES_ALLOWED:
        yield _no(f"SOURCE({following[1].text})", _NETWORK)
    elif any(part.word in {"HOST", "REPLICA"} for part in following):
        yield _no("SOURCE(CLICKHOUSE(HOST …))", f"{_NETWORK}; leave HOST out for a table of this server")


def _clauses(token: Token, following: Sequence[Token]) -> Iterator[ServerError]:
    for (first, second), reason in _CLAUSES.items():
        if token.word == first and following and following[0].word == second:
            yield _no(f"{first} {second}", reason)
    if token.word == "ATTACH" and any(one.word == "FROM" and two.kind is Kind.STRING for one, two in pairwise(following)):
        yield _no("ATTACH … FROM", _FILES)


def _settings(token: Token, following: Sequence[Token], user: str) -> Iterator[ServerError]:
    if not following or following[0].text != "=":
        return
    if token.name in _SETTINGS_OWN:
        yield _no(f"the setting {token.name}", _SETTINGS_OWN[token.name])
    if user == READER and token.name in LIMITING:
        yield refusal(
            SETTING_CONSTRAINT_VIOLATION,
            f"Setting {token.name} is a limit of this server: {READER} may lower it as a URL argument, not in the statement",
        )


def _no(what: str, reason: str) -> ServerError:
    code = ACCESS_DENIED if reason == _ACCESS else NOT_IMPLEMENTED
    return refusal(code, f"The embedded warehouse does not do {what}: {reason}.")
