"""Every error of the sink, and what happens to the partition that it met.

Retryable: the partition is given up, owned again after a pause (fence, drain, reconcile), and goes on from what is proven.
Poison: never an exception here. A record that cannot be taken is a `Rejection`, goes to the dead letters, and the rest flows.
Fatal: ConfigurationError and PartUnreachable at the start (schemas/errors.py), which end the process with a message.
"""

MISFRAMED = "tailrace: misframed"
_DATA_CODES = frozenset({
    6,    # CANNOT_PARSE_TEXT
    26,   # CANNOT_PARSE_QUOTED_STRING
    27,   # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    32,   # ATTEMPT_TO_READ_AFTER_EOF
    33,   # CANNOT_READ_ALL_DATA
    38,   # CANNOT_PARSE_DATE
    41,   # CANNOT_PARSE_DATETIME
    53,   # TYPE_MISMATCH
    70,   # CANNOT_CONVERT_TYPE
    72,   # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA
    131,  # TOO_LARGE_STRING_SIZE
    321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    376,  # CANNOT_PARSE_UUID
    1001, # STD_EXCEPTION: the Avro library's own, "Invalid data file. Sync marker does not match", for one
})  # fmt: skip


class Retryable(Exception):  # noqa: N818 - says what may be done
    """The world stood in the way. Nothing is known of what the last request did; own the partition again."""

    outcome = "retryable"


class NoAnswer(Retryable):
    """The warehouse did not answer, or not wholly: the request may or may not have taken effect."""

    outcome = "no_answer"


class Refused(Retryable):
    """The warehouse answered with an error. `code` and `text` are ClickHouse's."""

    outcome = "refused"

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text

    @property
    def blames_the_data(self) -> bool:
        """Whether some record of the batch may be poison: look at each before the next try."""
        return self.code in _DATA_CODES or MISFRAMED in self.text


class RegistryTrouble(Retryable):
    """The registry did not say which schema an id stands for."""

    outcome = "registry"


class BrokerTrouble(Retryable):
    """The broker did not answer, or did not take a dead letter."""

    outcome = "broker"


class WarehouseBehind(Retryable):
    """Records of a newer schema version wait for the migration that adds its columns. Nothing is skipped."""

    outcome = "behind"
