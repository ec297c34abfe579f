"""What goes wrong in the worker.

ApiError becomes an answer: the client's mistakes a 4xx, what the worker cannot take now a 503. RankerError ends in a fallback,
which the answer's event tells. A catalogue that is wrong at the start is fatal: a ConfigurationError.
"""


class ApiError(Exception):
    """A request that cannot be answered. `field` names the part of the request that is wrong, where there is one."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field


class Shed(Exception):  # noqa: N818 - says what becomes of the request
    """The worker has more to do than it can. The client may come again after `retry_after_s`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"more requests than the worker can answer; come again after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class RankerError(Exception):
    """A ranker cannot rank. `reason` is the word that stands in `degraded`: `bad_parameter`, or it becomes `refused`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
