"""What an audit found, whole: values, and the same as JSON."""

import json
from dataclasses import asdict, dataclass

from stream_processors.audit.emitters import State, StreamReport, TopicReport
from stream_processors.audit.partitions import Gap, PartitionReport

STREAMS_LISTED_MAX = 1_000
"""So many producers are listed, those with something to say first; all are counted in their topic."""

_ORDER = {state: place for place, state in enumerate((State.MISSING, State.UNKNOWN, State.SPOOLED, State.LIVE, State.COMPLETE))}


@dataclass(frozen=True, slots=True)
class Report:
    """One audit. `asked_ms` is the warehouse's clock when it began."""

    asked_ms: int
    partitions: tuple[PartitionReport, ...]
    topics: tuple[TopicReport, ...]
    streams: tuple[StreamReport, ...]
    gaps: tuple[Gap, ...]

    @property
    def sound(self) -> bool:
        """The answer. No where a partition is not sound (missing, unaccounted, copies, conflicts, records past the log's end, a
        topic gone without a word) or more numbers of producers are missing than dead letters and recorded gaps can explain. What
        is pending or awaited, a hole, recorded, dropped and told, or of an unknown producer is listed and is no no.
        """
        return all(partition.sound for partition in self.partitions) and all(topic.sound for topic in self.topics)


def listed(streams: list[StreamReport]) -> tuple[StreamReport, ...]:
    """STREAMS_LISTED_MAX of them, the worst first."""
    return tuple(sorted(streams, key=lambda stream: (_ORDER[stream.state], -stream.heard_ms))[:STREAMS_LISTED_MAX])


def as_json(report: Report) -> str:
    """One object on one line. Spans are [first, end), times as their names say."""
    judged = {
        **asdict(report),
        "sound": report.sound,
        "partitions": [{**asdict(partition), "sound": partition.sound} for partition in report.partitions],
        "topics": [{**asdict(topic), "sound": topic.sound} for topic in report.topics],
    }
    return json.dumps(judged, default=str)
