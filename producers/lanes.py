"""Records that wait, by topic: each topic in order, and none of them behind another's. Pure."""

from collections import deque
from collections.abc import Callable, Iterator

from producers.parcel import Parcel


class Lanes:
    """The courier's alone. Whoever appends minds the bounds: `events` and `data_bytes` say what is there."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Parcel]] = {}
        self.data_bytes = 0

    @property
    def events(self) -> int:
        return sum(map(len, self._lanes.values()))

    def behind(self, wanted: Callable[[Parcel], bool]) -> int:
        """How many wait in the lanes whose first is `wanted`."""
        return sum(len(lane) for lane in self._lanes.values() if lane and wanted(lane[0]))

    def append(self, parcel: Parcel) -> None:
        self._lanes.setdefault(parcel.record.topic, deque()).append(parcel)
        self.data_bytes += len(parcel.record.datum)

    def place(self, place: Callable[[Parcel], bool], events_max: int) -> int:
        """Take out the first of each lane for as long as `place` finds a place for it; how many there were."""
        placed = 0
        for lane in self._lanes.values():
            while lane and placed < events_max and place(lane[0]):
                self.data_bytes -= len(lane.popleft().record.datum)
                placed += 1
        return placed

    def clear(self) -> Iterator[Parcel]:
        """Take out all of them."""
        for lane in self._lanes.values():
            yield from lane
            lane.clear()
        self.data_bytes = 0
