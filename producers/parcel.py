"""An encoded record on its way out."""

from producers.accounts import Account
from producers.spool.frames import SpoolRecord
from producers.spool.segments import Place


class Parcel:
    """The courier's alone; the spool's thread only reads `record`.

    `account` is None where nobody's books here have it: checkpoints, and what another emitter has left behind. `place` is where
    it stands on disk, None while it is in memory only. `drained` says that it goes out late; `failure` why it was not delivered.
    """

    __slots__ = ("account", "drained", "failure", "place", "record")

    def __init__(
        self, record: SpoolRecord, account: Account | None, place: Place | None = None, *, drained: bool = False
    ) -> None:
        self.record, self.account, self.place, self.drained = record, account, place, drained
        self.failure = ""
