"""What the warehouse holds of the demo's events: raw rows with their coordinates, and what analysis counts of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from deploy.demo.ledger import Stored
from schemas.environment import public_address
from schemas.errors import PartUnreachable
from schemas.events import EventId

CONNECT_TIMEOUT_S = 5
QUERY_TIMEOUT_S = 60

RECOMMENDATIONS = "recommendations"
INTERACTIONS = "interactions"

_ROWS = "SELECT toString(event_id), toString(_topic_id), _partition, _offset FROM {table:Identifier}"

_COUNTED = """
SELECT assignments[1].experiment_id, assignments[1].arm, count(), sum(clicks)
FROM recommendations_once
LEFT JOIN
(
    SELECT assumeNotNull(request_id) AS request_id, count() AS clicks
    FROM interactions_once
    WHERE kind = 'click' AND request_id IS NOT NULL
    GROUP BY request_id
) AS clicked USING request_id
GROUP BY ALL
ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class ArmTotals:
    """What analysis counts under the first experiment of an answer: each event once."""

    experiment_id: str
    arm: str
    answers: int
    clicks: int


class StoredEvents:
    """Questions to the warehouse. Every method raises PartUnreachable where it does not answer."""

    def __init__(self, client: Client, where: str) -> None:
        self._client, self._where = client, where

    def rows(self, table: str) -> list[Stored]:
        """Every row that `table` holds at this moment, duplicates included."""
        found = self._ask(_ROWS, table=table)
        return [Stored(EventId(event), (topic, partition, offset)) for event, topic, partition, offset in found]

    def totals(self) -> list[ArmTotals]:
        return [ArmTotals(experiment, arm, int(answers), int(clicks)) for experiment, arm, answers, clicks in self._ask(_COUNTED)]

    def dead_letters(self) -> int:
        ((count,),) = self._ask("SELECT count() FROM dead_letters")
        return int(count)

    def _ask(self, query: str, **parameters: str) -> Sequence[Sequence[Any]]:
        try:
            return self._client.query(query, parameters=parameters).result_rows
        except ClickHouseError as error:
            raise _unreachable(self._where, error) from error


@contextmanager
def stored_events(warehouse_url: str) -> Iterator[StoredEvents]:
    """Raises PartUnreachable where no warehouse answers at `warehouse_url`, which holds user and password."""
    where = public_address(warehouse_url)
    try:
        client = clickhouse_connect.get_client(
            dsn=warehouse_url,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=QUERY_TIMEOUT_S,
            autogenerate_session_id=False,
        )
    except ClickHouseError as error:
        raise _unreachable(where, error) from error
    try:
        yield StoredEvents(client, where)
    finally:
        client.close()


def _unreachable(where: str, error: ClickHouseError) -> PartUnreachable:
    said = str(error).strip().partition("\n")[0]
    return PartUnreachable("the warehouse", where, f"it answers {said!r}; its log stands below the demo's home")
