"""Records that wait, by topic: each topic in order, and none of them behind another's. Pure."""

from collections import deque
from collections.abc import Callable, Iterator

from producers.parcel import Parcel

AT_A_STAND_EVENTS_MAX, AT_A_STAND_BYTES_MAX = 10_000, 32 << 20


class Lanes:
    """The courier's alone. Whoever appends minds the bounds: `events` and `data_bytes` say what is there."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Parcel]] = {}
        self.data_bytes = 0

    @property
    def events(self) -> int:
        return sum(map(len, self._lanes.values()))

    @property
    def has_room(self) -> bool:
        """For one more that may be at a stand."""
        return self.events < AT_A_STAND_EVENTS_MAX and self.data_bytes < AT_A_STAND_BYTES_MAX

    def behind(self, wanted: Callable[[Parcel], bool]) -> int:
        """How many wait in the lanes whose first is `wanted`."""
        return sum(len(lane) for lane in self._lanes.values() if lane and wanted(lane[0]))

    def append(self, parcel: Parcel) -> None:
        self._lanes.setdefault(parcel.record.topic, deque()).append(parcel)
        self.data_bytes += len(parcel.record.datum)

    def place(self, place: Callable[[Parcel], bool], events_max: int) -> int:
        """Take out the first of each lane for as long as `place` finds a place for it; how many there were. Where no more than
        `events_max` may, the next time is another lane's turn.
        """
        placed = 0
        for topic, lane in list(self._lanes.items()):
            while lane and placed < events_max and place(lane[0]):
                self.data_bytes -= len(lane.popleft().record.datum)
                placed += 1
            if placed == events_max:
                self._lanes[topic] = self._lanes.pop(topic)
                break
        return placed

    def clear(self) -> Iterator[Parcel]:
        """Take out all of them."""
        for lane in self._lanes.values():
            yield from lane
            lane.clear()
        self.data_bytes = 0
