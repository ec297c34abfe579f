"""What a question to the warehouse can run into, beyond a part that does not answer (schemas.errors.PartUnreachable)."""

from collections.abc import Sequence


class UnknownExperiment(Exception):  # noqa: N818 - says what is the case, as users read it
    """The warehouse knows no experiment of this name. The answer is no; `known` are the names that it does know."""

    def __init__(self, experiment_id: str, known: Sequence[str]) -> None:
        names = ", ".join(known) if known else "none at all"
        super().__init__(f"no experiment {experiment_id!r} in the warehouse; it knows {names}")
        self.experiment_id, self.known = experiment_id, tuple(known)


class UnknownName(ValueError):  # noqa: N818 - as above
    """A metric or an arm was asked for that does not exist: wrong usage."""

    def __init__(self, what: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no {what} {name!r}; there are {', '.join(known) or 'none'}")
