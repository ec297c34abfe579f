"""The auditor's HTTP edge to the warehouse. It only reads: the reader's URL is enough.

An answer is whole or an exception: the server holds it back until the query has ended well.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3

from schemas.errors import PartUnreachable
from stream_processors.warehouse.clickhouse_writer import Address, pool

ANSWER_TIMEOUT_S = 900.0
"""A question may read every coordinate of a table."""
_ERROR_CHARS_MAX = 500

Row = list[Any]
Parameters = Mapping[str, str | int]


class ClickHouseReader:
    """Questions, one at a time."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self._address = Address.from_url(url)
        self._options = dict(options)
        self._pool = pool(self._address, 1, ANSWER_TIMEOUT_S)

    def rows(self, statement: str, parameters: Parameters) -> list[Row]:
        """Raises PartUnreachable where the warehouse does not answer, or refuses the question."""
        named = {f"param_{name}": value for name, value in parameters.items()}
        settings = {"wait_end_of_query": 1, "default_format": "JSONCompactEachRow", "log_comment": "tailrace audit"}
        arguments = {"database": self._address.database, **self._options, **settings, **named}
        try:
            response = self._pool.request("POST", "/?" + urlencode(arguments), body=statement.encode(), redirect=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            remedy = f"`tailrace up` starts one, TAILRACE_WAREHOUSE_URL names another ({error})"
            raise PartUnreachable("the warehouse", str(self._address), remedy) from error
        if response.status != 200 or "X-ClickHouse-Exception-Code" in response.headers:
            said = response.data.decode(errors="replace")[:_ERROR_CHARS_MAX].strip()
            raise PartUnreachable(
                "the warehouse refused a question", str(self._address), f"its tables are made by `tailrace up` ({said})"
            )
        return [json.loads(line) for line in response.data.splitlines()]

    def close(self) -> None:
        self._pool.close()
