"""What a verification found, as text and as JSON. Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from stream_processors.audit.spans import Spans
from stream_processors.replay.comparison import Comparison, Kind
from stream_processors.replay.completeness import PartitionFinding
from stream_processors.replay.verify import Explained, Verification

_KINDS = {
    Kind.OTHER_VALUES: "rows have other values in live",
    Kind.REPAIRED: "dead letters were repaired in live; the run, which reads the log, has them as dead letters",
    Kind.POISON_NOW: "rows of live are records that the run could not take",
    Kind.TAKEN_NOW: "dead letters of live could be taken by the run",
    Kind.MISSING_IN_LIVE: "records are missing in live, or have not arrived there yet",
    Kind.MISSING_IN_RUN: "records of live are missing in the run",
}


def verification_text(found: Verification) -> str:
    return "\n".join(_lines(found))


def verification_fields(found: Verification) -> dict[str, Any]:
    comparison = None if found.comparison is None else {**asdict(found.comparison), "shown": len(found.comparison.shown)}
    return {
        "run": found.run,
        "state": found.state,
        "sound": found.sound,
        "equal": found.equal,
        "partitions": [_partition_fields(each) for each in found.partitions],
        "sample": asdict(found.sample),
        "comparison": comparison,
        "explained": [{**each.difference._asdict(), "agrees": each.agrees} for each in found.explained],
    }


def _lines(found: Verification) -> Iterator[str]:
    for each in found.partitions:
        yield _partition_line(each)
    sample = found.sample
    yield f"{sample.looked_at} records of the log, decoded by another reader: {_sample_words(found)}"
    for misread in sample.misread:
        yield f"  partition {misread.partition} offset {misread.offset}: {', '.join(misread.columns)} not as the log says"
    if found.comparison is None:
        yield "Columns are computed on the way, so there is nothing in live to compare with."
    else:
        yield from _comparison_lines(found.comparison, found.explained)
    yield ""
    yield _verdict(found)


def _verdict(found: Verification) -> str:
    if not found.sound:
        return f"{found.run} is not sound: run it again, then verify it again. It must not be swapped in."
    if found.equal is False:
        return f"{found.run} is sound, and live differs from it as listed: a swap would put the run's rows in their place."
    return f"{found.run} is verified: every record is in once{', and equal to live' if found.equal else ''}."


def _partition_line(found: PartitionFinding) -> str:
    parts = [f"{found.present:,} of {found.wanted:,} offsets are in"]
    for spans, words in (
        (found.holes, "hold no record in Kafka"),
        (found.lost, "are MISSING"),
        (found.unknown, "are missing, and the log no longer tells whether there was a record"),
        (found.strays, "are in and were not planned"),
    ):
        if spans.count:
            parts.append(f"{spans.count:,} {words} ({spans})")
    if found.copies:
        parts.append(f"{found.copies:,} rows are there TWICE")
    return f"partition {found.partition}: {', '.join(parts)}"


def _sample_words(found: Verification) -> str:
    sample = found.sample
    parts = ["all rows say the same" if not sample.misread else f"{len(sample.misread)} rows DIFFER"]
    if sample.dead_letters:
        parts.append(f"{sample.dead_letters} are dead letters")
    if sample.gone:
        parts.append(f"{sample.gone} more have expired and could not be looked at")
    return ", ".join(parts)


def _comparison_lines(found: Comparison, explained: tuple[Explained, ...]) -> Iterator[str]:
    if found.equal:
        yield f"{found.rows:,} rows compared with live at the same coordinates: all equal"
        return
    yield f"{found.rows:,} rows compared with live at the same coordinates:"
    for kind, count in sorted(found.counts.items()):
        yield f"  {count:,} {_KINDS[kind]}"
    for column, count in sorted(found.columns.items(), key=lambda each: -each[1]):
        yield f"    {column} differs in {count:,}"
    for each in explained:
        kind, partition, offset = each.difference
        borne_out = f"; the log bears out {each.agrees}" if each.agrees else ""
        yield f"  partition {partition} offset {offset}: {kind.replace('_', ' ')}{borne_out}"


def _partition_fields(found: PartitionFinding) -> dict[str, Any]:
    spans = {name: _spans_fields(getattr(found, name)) for name in ("holes", "lost", "unknown", "strays")}
    counts = {"partition": found.partition, "wanted": found.wanted, "present": found.present, "copies": found.copies}
    return {**counts, **spans, "sound": found.sound}


def _spans_fields(spans: Spans) -> dict[str, Any]:
    return {"count": spans.count, "shown": [list(span) for span in spans.shown]}
