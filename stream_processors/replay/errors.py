"""Every error of a replay, and what it asks for.

A plan or a run that cannot be is a ReplayRefused: nothing was changed, and the words say what to do. What stops a partition in
mid-run needs somebody, as with the sink; the others go on, and the run can be started again where it was.
"""

from stream_processors.warehouse.errors import Retryable


class ReplayRefused(Exception):  # noqa: N818 - says what is the case
    """What was asked cannot be done with this run as things are: the answer is no."""


class WrongQuestion(ReplayRefused):
    """What was asked makes no sense wherever it is asked: wrong usage."""


class Gone(Retryable):
    """Kafka no longer has what the run is to read: it has expired, or another topic goes by the name."""

    outcome = "gone"
    needs_somebody = True
