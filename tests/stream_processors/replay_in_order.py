"""`python -m tests.stream_processors.replay_in_order RUN min|max`: fills a run from Kafka, a whole partition at a time.

Of those that are left the one with the least, or the greatest, number is next. Prints the partitions in the order they came in.
"""

import json
import sys
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from deploy.commands.replay_run import options_of
from deploy.settings import environment
from stream_processors.replay import run
from stream_processors.replay.config import ReplayConfig
from stream_processors.replay.source import ReplaySource
from stream_processors.warehouse.kafka_source import Fetched
from stream_processors.warehouse.records import Place

NEXT: dict[str, Callable[[Iterable[Place]], Place]] = {"min": min, "max": max}


def main() -> None:
    name, chosen = sys.argv[1], NEXT[sys.argv[2]]
    came: list[int] = []

    class InOrder(ReplaySource):
        def hold_back(self, places: AbstractSet[Place]) -> None:
            others = self.assigned - {chosen(self.assigned)} if self.assigned else set()
            super().hold_back({*places, *others})

        def consume(self, timeout_s: float) -> list[Fetched]:
            fetched = super().consume(timeout_s)
            came.extend(each.place.partition for each in fetched if each.records)
            return fetched

    vars(run)["ReplaySource"] = InOrder  # for this process only
    filling = run.Filling(ReplayConfig.from_environment(environment()), name, options_of(batch_rows=250, workers=2), None)
    try:
        filling.fill(lambda: False, lambda _progress: None)
    finally:
        filling.close()
    sys.stdout.write(json.dumps(list(dict.fromkeys(came))))


if __name__ == "__main__":
    main()
