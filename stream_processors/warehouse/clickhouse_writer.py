"""The warehouse's HTTP edge: the one file that speaks to ClickHouse.

Guarantees: no request is ever sent twice by this client (urllib3 with retries off; a closed connection is an error, not a reason
to resend), and an answer is either clean or an exception. Insert deduplication is off: coordinates are the evidence, not tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlencode, urlsplit

import urllib3

from schemas.errors import PartUnreachable
from stream_processors.warehouse.errors import NoAnswer, Refused

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
_ERROR_TEXT_CHARS_MAX = 2000

_INSERT_SETTINGS = {
    "async_insert": "0",
    "insert_deduplicate": "0",
    "max_insert_threads": "1",
    "input_format_null_as_default": "0",
    "min_insert_block_size_bytes": "0",
    "optimize_on_insert": "0",
    "wait_end_of_query": "1",
}
"""With one block an insert, a refused one leaves nothing behind. optimize_on_insert would merge copies before they are seen."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the warehouse is, taken from one URL: http://user:password@host:port/database."""

    host: str
    port: int
    secure: bool
    user: str
    password: str
    database: str

    @classmethod
    def from_url(cls, url: str) -> "Address":
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        return cls(
            host=parts.hostname or "",
            port=parts.port or (8443 if secure else 8123),
            secure=secure,
            user=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            database=unquote(parts.path.strip("/")) or "default",
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class ClickHouseWriter:
    """Inserts and queries. Threads may share it; each request has a connection to itself."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, str],
        rows_max: int,
        connections: int = 1,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._address = Address.from_url(url)
        self._options = dict(options)
        self._pool = pool(self._address, connections, answer_timeout_s)
        block_rows = str(max(rows_max, 1_048_576))
        wanted = {**_INSERT_SETTINGS, "max_insert_block_size": block_rows, "min_insert_block_size_rows": block_rows}
        self.insert_settings = self._known(wanted)

    def insert(self, table: str, columns: tuple[str, ...], container: bytes, comment: str) -> None:
        """Insert an Avro container. Returns only after a clean answer.

        Raises Refused with ClickHouse's words, NoAnswer where nothing is known of the outcome.
        """
        statement = f"INSERT INTO {table} ({', '.join(columns)}) FORMAT Avro"
        self._post(statement, container, {**self.insert_settings, "log_comment": comment})

    def objection(self, types: Mapping[str, str], columns: tuple[str, ...], container: bytes) -> str | None:
        """What the engine says against a container's data: parsed into the columns' types, kept nowhere. None where nothing.

        Raises as `insert` does, but for what blames the data.
        """
        structure = ", ".join(f"{name} {types[name]}" for name in columns)
        return self.refusal("FUNCTION null('" + structure.replace("'", "\\'") + "')", columns, container)

    def refusal(self, target: str, columns: tuple[str, ...], container: bytes) -> str | None:
        """What the engine says against a container's data when it is inserted into `target`, which keeps nothing."""
        try:
            self.insert(target, columns, container, "tailrace search")
        except Refused as refusal:
            if not refusal.blames_the_data:
                raise
            return refusal.text
        return None

    def command(self, statement: str, comment: str, body: bytes = b"") -> None:
        """A small write (the fence, a gap) or KILL."""
        self._post(statement, body, {"async_insert": "0", "wait_end_of_query": "1", "log_comment": comment})

    def query(self, statement: str, parameters: Mapping[str, str] | None = None) -> bytes:
        """The answer to a SELECT, in the FORMAT that the statement names."""
        named = {f"param_{name}": value for name, value in (parameters or {}).items()}
        return self._post(statement, b"", {"wait_end_of_query": "1", **named})

    def columns(self, table: str) -> dict[str, str]:
        """Types by column name, empty where there is no such table."""
        statement = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {table:String}"
        answer = self.query(statement + " FORMAT TabSeparatedRaw", {"table": table})
        return dict(line.split("\t", 1) for line in answer.decode().splitlines())

    def close(self) -> None:
        self._pool.close()

    def _known(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Those that this server has: older ones lack some. Also the first word with the server, so it says what is missing."""
        statement = "SELECT name FROM system.settings FORMAT TabSeparated"
        try:
            names = set(self.query(statement).decode().split())
        except (NoAnswer, Refused) as error:
            remedy = f"`tailrace up` starts one, TAILRACE_WAREHOUSE_URL names another ({error})"
            raise PartUnreachable("the warehouse", str(self._address), remedy) from error
        return {name: value for name, value in settings.items() if name in names or name == "wait_end_of_query"}

    def _post(self, statement: str, body: bytes, settings: Mapping[str, str]) -> bytes:
        arguments = {"database": self._address.database, "query": statement, **self._options, **settings}
        try:
            response = self._pool.request("POST", "/?" + urlencode(arguments), body=body, retries=False, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoAnswer(f"the warehouse at {self._address} gave no answer: {error}") from error
        code = response.headers.get("X-ClickHouse-Exception-Code")
        if response.status == 200 and code is None:
            return response.data
        text = response.data.decode(errors="replace")[:_ERROR_TEXT_CHARS_MAX].strip()
        raise Refused(int(code or 0), text or f"HTTP status {response.status}")


def pool(address: Address, connections: int, answer_timeout_s: float) -> urllib3.HTTPConnectionPool:
    """Connections to the warehouse on which nothing is sent twice."""
    pool_type = urllib3.HTTPSConnectionPool if address.secure else urllib3.HTTPConnectionPool
    return pool_type(
        address.host,
        address.port,
        maxsize=connections,
        block=True,
        retries=False,
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=answer_timeout_s),
        headers=urllib3.make_headers(basic_auth=f"{address.user}:{address.password}", keep_alive=True),
    )
