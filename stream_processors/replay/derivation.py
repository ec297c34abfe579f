"""What defines a derived table: a file of SQL with a head of comments. Pure.

    -- table: clicks_by_item
    -- source: interactions
    -- order by: item_id
    SELECT item_id, count() AS clicks, uniqExact(unit_id) AS units
    FROM {source}
    WHERE kind = 'click'
    GROUP BY item_id

`{source}` stands for the rows of one day (Kafka's clock, UTC) of the raw table, an event once however often it was sent that day.
"""

import hashlib
import re
from dataclasses import dataclass

from schemas.tables import TABLE_OF_RECORD
from stream_processors.replay.errors import WrongQuestion

SOURCE = "{source}"
DAY_COLUMN = "_day"
_HEAD = re.compile(r"^--\s*(table|source|order by):\s*(.*?)\s*$", re.MULTILINE)
_NAME = re.compile(r"[a-z]\w{0,99}")
_ORDER = re.compile(r"\w+(\s*,\s*\w+)*")
_COMMENT_LINE = re.compile(r"^\s*--.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Derivation:
    """`order_by` are columns of the derived table, as in SQL; empty for none."""

    table: str
    source: str
    order_by: str
    select: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def over(self, rows: str) -> str:
        """The SELECT over other rows in the place of {source}."""
        return self.select.replace(SOURCE, f"({rows})")


def parse(text: str) -> Derivation:
    """Raises WrongQuestion that says what a definition lacks."""
    head = dict(_HEAD.findall(text))
    select = _COMMENT_LINE.sub("", text).strip().rstrip(";").strip()
    raw = sorted(set(TABLE_OF_RECORD.values()) - {"dead_letters"})
    if not _NAME.fullmatch(head.get("table", "")):
        raise WrongQuestion("a definition says `-- table: NAME` in its head: small letters, digits, _")
    if head.get("source") not in raw:
        raise WrongQuestion(f"a definition says `-- source: TABLE` in its head, one of {', '.join(raw)}")
    if (order := head.get("order by", "")) and not _ORDER.fullmatch(order):
        raise WrongQuestion(f"`-- order by: {order}` is no list of columns")
    if SOURCE not in select or not re.match(r"(?i)(SELECT|WITH)\b", select):
        raise WrongQuestion(f"a definition is one SELECT, and reads from {SOURCE}")
    return Derivation(head["table"], head["source"], order, select, text)
