"""What is with the spool's thread, and what it has answered. The courier's alone; nothing here waits for a disk."""

from typing import NamedTuple

from producers.parcel import Parcel
from producers.spool.log import Lost
from producers.spool.spool import Refused, Spool, Stored


class Heard(NamedTuple):
    """`back` are in memory only: they were refused, recalled, or hang on their way to disk. `told` is of how much news."""

    stored: list[Stored]
    back: list[Parcel]
    lost: list[Lost]
    told: int


class Writing:
    """Without a spool nothing is taken, and nothing heard."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool
        self._held: dict[Parcel, bool] = {}
        """Of what has no answer: whether the spool is to keep it for the courier to send."""
        self._overdue: set[Parcel] = set()
        """Sent without a disk that hung: they leave it as soon as it answers."""

    def __len__(self) -> int:
        return len(self._held)

    def submit(self, parcel: Parcel, *, held: bool) -> bool:
        if self._spool is None or not self._spool.submit(parcel, held=held):
            return False
        self._held[parcel] = held
        return True

    def hear(self) -> Heard:
        heard = Heard([], [], [], 0)
        if self._spool is None:
            return heard
        news = self._spool.news()
        for item in news:
            match item:
                case Stored():
                    self._stored(item, heard)
                case Refused():
                    self._back(item.parcel, heard)
                case Lost():
                    heard.lost.append(item)
        if self._held and not self._spool.available():
            self._do_without(self._spool, heard)
        return heard._replace(told=len(news))

    def give_up(self) -> list[Parcel]:
        """Expect no answer any more."""
        given_up = list(self._held)
        self._held.clear()
        return given_up

    def _stored(self, stored: Stored, heard: Heard) -> None:
        if self._held.pop(stored.parcel, None) is not None:
            heard.stored.append(stored)
        elif stored.parcel in self._overdue and self._spool is not None:
            self._overdue.remove(stored.parcel)
            self._spool.settle({stored.place: 1})

    def _back(self, parcel: Parcel, heard: Heard) -> None:
        if self._held.pop(parcel, None) is not None:
            heard.back.append(parcel)
        else:
            self._overdue.discard(parcel)

    def _do_without(self, spool: Spool, heard: Heard) -> None:
        """What hangs on its way to disk is older than what has not begun it. Only what is held: the rest would be read back."""
        recalled = dict.fromkeys(spool.recall())
        for parcel in [parcel for parcel, held in self._held.items() if held and parcel not in recalled]:
            self._back(parcel, heard)
            self._overdue.add(parcel)
        for parcel in recalled:
            self._back(parcel, heard)
