"""Every error of the sink, and what happens to the partition that it met.

Retryable: the partition is given up, owned again after a growing pause (fence, drain, reconcile), and goes on from what is
proven.
Poison: never an exception that leaves the partition. A refusal that blames the data has the batch owned again and searched; a
record that cannot be taken is a `Rejection`, goes to the dead letters, and the rest flows.
Fatal to a partition: it heals only when somebody mends something (`needs_somebody`). The partition stops with an alarm and looks
again at long intervals; the others go on.
Fatal to the process: ConfigurationError and PartUnreachable at the start (schemas/errors.py), which end it with a message.

ClickHouse's codes are not enough: 252 is "too many parts", which passes, and "too many partitions in one insert", which does not;
395 is whichever of our own guards spoke. So a rule has a code and, where it matters, a piece of the text.
"""

from typing import NamedTuple


class Meaning(NamedTuple):
    """What a refusal means: the word that metrics use, and what it asks for. At most one of the two is true."""

    outcome: str
    blames_the_data: bool = False
    needs_somebody: bool = False


_POISON = Meaning("poison", blames_the_data=True)
_BY_TEXT = (
    (395, "tailrace: misframed", _POISON),
    (395, "tailrace: not the owner", Meaning("not_owner")),
    (395, "tailrace: held", Meaning("held")),
    (252, "partitions for single INSERT", Meaning("too_many_partitions", needs_somebody=True)),
    (252, "", Meaning("too_many_parts")),
)
_BY_CODE = {
    6: _POISON,    # CANNOT_PARSE_TEXT
    26: _POISON,   # CANNOT_PARSE_QUOTED_STRING
    27: _POISON,   # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    32: _POISON,   # ATTEMPT_TO_READ_AFTER_EOF
    33: _POISON,   # CANNOT_READ_ALL_DATA
    38: _POISON,   # CANNOT_PARSE_DATE
    41: _POISON,   # CANNOT_PARSE_DATETIME
    53: _POISON,   # TYPE_MISMATCH
    70: _POISON,   # CANNOT_CONVERT_TYPE
    72: _POISON,   # CANNOT_PARSE_NUMBER
    117: _POISON,  # INCORRECT_DATA
    131: _POISON,  # TOO_LARGE_STRING_SIZE
    321: _POISON,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349: _POISON,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    376: _POISON,  # CANNOT_PARSE_UUID
    1001: _POISON, # STD_EXCEPTION: the Avro library's own, "Invalid data file. Sync marker does not match", for one
    159: Meaning("timeout"),     # TIMEOUT_EXCEEDED
    202: Meaning("overloaded"),  # TOO_MANY_SIMULTANEOUS_QUERIES
    241: Meaning("memory"),      # MEMORY_LIMIT_EXCEEDED
    242: Meaning("read_only"),   # TABLE_IS_READ_ONLY
    243: Meaning("disk_full"),   # NOT_ENOUGH_SPACE
    394: Meaning("cancelled"),   # QUERY_WAS_CANCELLED
    8: Meaning("missing", needs_somebody=True),     # THERE_IS_NO_COLUMN
    16: Meaning("missing", needs_somebody=True),    # NO_SUCH_COLUMN_IN_TABLE
    60: Meaning("missing", needs_somebody=True),    # UNKNOWN_TABLE
    81: Meaning("missing", needs_somebody=True),    # UNKNOWN_DATABASE
    115: Meaning("setting", needs_somebody=True),   # UNKNOWN_SETTING
    452: Meaning("setting", needs_somebody=True),   # SETTING_CONSTRAINT_VIOLATION
    164: Meaning("forbidden", needs_somebody=True), # READONLY
    192: Meaning("forbidden", needs_somebody=True), # UNKNOWN_USER
    193: Meaning("forbidden", needs_somebody=True), # WRONG_PASSWORD
    497: Meaning("forbidden", needs_somebody=True), # ACCESS_DENIED
    516: Meaning("forbidden", needs_somebody=True), # AUTHENTICATION_FAILED
}  # fmt: skip


class Retryable(Exception):  # noqa: N818 - says what may be done
    """The world stood in the way. Nothing is known of what the last request did; own the partition again."""

    outcome = "retryable"
    needs_somebody = False
    blames_the_data = False


class NoAnswer(Retryable):
    """The warehouse did not answer, or not wholly: the request may or may not have taken effect."""

    outcome = "no_answer"


class Refused(Retryable):
    """The warehouse answered with an error. `code` and `text` are ClickHouse's; code 0 where the answer named none."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text
        self.outcome, self.blames_the_data, self.needs_somebody = meaning(code, text)


def meaning(code: int, text: str) -> Meaning:
    """What ClickHouse means by an error. An unknown one is retried: nothing is skipped for it."""
    for known, words, found in _BY_TEXT:
        if code == known and words in text:
            return found
    return _BY_CODE.get(code, Meaning("refused"))


class RegistryTrouble(Retryable):
    """The registry did not say which schema an id stands for."""

    outcome = "registry"


class BrokerTrouble(Retryable):
    """The broker did not answer, or did not take a dead letter."""

    outcome = "broker"


class NotOurs(Retryable):
    """The group does not count us among its members any more, or the topic is another one than the one that was owned."""

    outcome = "not_ours"


class WarehouseBehind(Retryable):
    """Records of a newer schema version wait for the migration that adds its columns. Nothing is skipped."""

    outcome = "behind"
    needs_somebody = True


class TooManyDeadLetters(Retryable):
    """So large a share of the partition cannot be taken that the fault is hardly in the records. Nothing of it is buried."""

    outcome = "dead_letter_limit"
    needs_somebody = True
