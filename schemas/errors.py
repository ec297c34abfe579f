"""Every error of the contracts, and what a caller may do with it.

ContractError and ConfigurationError are fatal: somebody has to mend a file or a setting. WireError and DatumError are poison: the
same bytes fail again, so they belong to the dead letters. PartUnreachable is retryable: the part may come back.
"""


class ContractError(Exception):
    """A schema, a topic or a table definition in the repository is wrong."""


class ConfigurationError(Exception):
    """Settings are wrong; `problems` has one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PartUnreachable(Exception):  # noqa: N818 - says what is the case, as users read it
    """A part of the installation does not answer. Says what, where, and what to do."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{what} at {where}: {remedy}")
        self.what, self.where, self.remedy = what, where, remedy


class WireError(ValueError):
    """Bytes that are not Confluent's wire format. `reason` is the word that dead letters are counted by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DatumError(ValueError):
    """Framed well, but the datum does not read under its writer schema; or a value that its schema cannot hold."""
