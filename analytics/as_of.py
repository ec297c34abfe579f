"""As of when a scorecard counts: the ends of the partitions below which it reads. Values, JSON, and the conditions on tables.

A record is counted if its offset lies below the end of its partition; what is not named is not counted. A dead letter that was
repaired later came in below ends that were fixed before, so a repair counts by when it was made. With both given, a scorecard is
a function of them and of the tables' rows below, whatever comes in after.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.events import Micros
from schemas.tables import TABLE_OF_RECORD

RAW_TABLES = tuple(TABLE_OF_RECORD.values())
LIVE_RUN, REPAIRED_RUN = "live", "repaired"
"""What `_run` says of a row that the sink has brought in, and of one that was a dead letter."""


@dataclass(frozen=True, slots=True)
class TopicEnds:
    """`ends` by partition: the first offset that is not counted. A topic that was made anew under its name has another id."""

    topic: str
    topic_id: str
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class AsOf:
    """`repairs_until` is when the newest repair that counts was made; None where none counts."""

    topics: tuple[TopicEnds, ...]
    repairs_until: Micros | None

    @classmethod
    def from_document(cls, document: Any) -> "AsOf":
        """Takes what a scorecard's JSON has under `as_of`, or the whole scorecard. Raises ValueError where it is neither."""
        if isinstance(document, Mapping) and "as_of" in document:
            document = document["as_of"]
        try:
            topics = tuple(
                TopicEnds(
                    str(each["topic"]),
                    str(UUID(each["topic_id"])),
                    {int(partition): _offset(end) for partition, end in each["ends"].items()},
                )
                for each in document["topics"]
            )
            until = document["repairs_until"]
            return cls(topics, None if until is None else Micros(_offset(until)))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not the `as_of` of a scorecard's JSON: {error!r}") from error


def parse(text: str) -> AsOf:
    """Raises ValueError."""
    return AsOf.from_document(json.loads(text))


def table_filters(as_of: AsOf, database: str) -> str:
    """The value of the setting `additional_table_filters`: it reaches the tables inside views and subqueries too."""
    condition = f"({_below(as_of.topics)}) AND ({_repairs(as_of.repairs_until)})".replace("'", "\\'")
    return "{" + ", ".join(f"'{database}.{table}': '{condition}'" for table in RAW_TABLES) + "}"


def _below(topics: Sequence[TopicEnds]) -> str:
    return " OR ".join(_below_ends(topic) for topic in topics if topic.ends) or "false"


def _below_ends(topic: TopicEnds) -> str:
    partitions, ends = list(topic.ends), list(topic.ends.values())
    return f"_topic_id = toUUID('{topic.topic_id}') AND _offset < transform(_partition, {partitions}, {ends}, 0)"


def _repairs(until: Micros | None) -> str:
    made = "false" if until is None else f"toUnixTimestamp64Milli(_ingested_at) <= {until // 1000}"
    return f"_run != '{REPAIRED_RUN}' OR {made}"


def _offset(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is no offset")
    return value
