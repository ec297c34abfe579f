"""The demo's result, as text for a terminal and as JSON for machines. Pure."""

import dataclasses
import json
from collections.abc import Iterator, Sequence

from analytics import scorecard_json, scorecard_text
from analytics.results import Scorecard
from deploy.demo.log_reading import remarks, with_remarks
from deploy.demo.result import LOG, USERS, DemoResult
from deploy.demo.simulated_reading import SimulatedReading

SCHEMA_VERSION = 1
"""Of the JSON: grows when a field is removed or changes its meaning."""


def as_json(result: DemoResult) -> str:
    document = {
        "schema_version": SCHEMA_VERSION,
        "complete": result.complete,
        "emitted": _emitted(result),
        "arrived": {
            topic: {source: dataclasses.asdict(comparison) for source, comparison in by_source.items()}
            for topic, by_source in result.deliveries.items()
        },
        "dropped": dict(result.dropped),
        "dead_letters": result.dead_letters,
        "logs": [dataclasses.asdict(log) for log in result.logs],
        "users": dataclasses.asdict(result.users),
        "scorecards": [scorecard_json.as_document(card) for card in (*_log_cards(result), result.users_card)],
        "log_reading": dataclasses.asdict(result.log_reading),
        "simulated_reading": dataclasses.asdict(result.simulated_reading),
        "stages": [dataclasses.asdict(stage) for stage in result.stages],
        "seconds": result.seconds,
    }
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2)


def as_text(result: DemoResult) -> str:
    sections = (
        _went_in(result),
        _arrived(result),
        _logs(result),
        *map(_card, result.log_cards),
        _log_remarks(result),
        _card(result.users_card),
        _truth(result),
        _end(result),
    )
    return "\n\n".join("\n".join(section) for section in sections)


def _emitted(result: DemoResult) -> dict[str, dict[str, int]]:
    return {
        LOG: {"served": sum(log.rows for log in result.logs), "clicks": sum(log.clicks for log in result.logs)},
        USERS: {"served": result.users.requests, "clicks": result.users.clicks},
    }


def _went_in(result: DemoResult) -> Iterator[str]:
    yield "What went in"
    emitted, users = _emitted(result), result.users
    again = f"{users.sent_again:,} requests sent twice on purpose"
    notes = {
        LOG: f"{len(result.logs)} logs of a real shop, through the emitter",
        USERS: f"{users.users:,} users over HTTP, {again}",
    }
    rows = [(source, f"{counts['served']:,}", f"{counts['clicks']:,}", notes[source]) for source, counts in emitted.items()]
    yield from _table([("from", "served", "clicks", ""), *rows], text_columns={0, 3})


def _arrived(result: DemoResult) -> Iterator[str]:
    yield "What arrived in the warehouse (row by row against the ledger of what was emitted)"
    header = ("topic", "from", "events", "records", "rows", "missing", "duplicated", "unknown")
    rows = [
        (topic, source, *(f"{count:,}" for count in dataclasses.astuple(comparison)))
        for topic, by_source in result.deliveries.items()
        for source, comparison in by_source.items()
    ]
    yield from _table([header, *rows], text_columns={0, 1})
    yield f"  dead letters {result.dead_letters:,}"
    yield from (f"  dropped by the emitter: {count:,}, {reason}" for reason, count in result.dropped.items())


def _logs(result: DemoResult) -> Iterator[str]:
    yield "Clicks by log (each event counted once)"
    header = ("policy", "campaign", "rows", "arrived", "clicks", "arrived", "")
    rows = [
        (
            log.policy,
            log.campaign,
            f"{log.rows:,}",
            f"{log.rows_arrived:,}",
            f"{log.clicks:,}",
            f"{log.clicks_arrived:,}",
            "" if log.agrees else "DIFFERS",
        )
        for log in result.logs
    ]
    yield from _table([header, *rows], text_columns={0, 1, 6})


def _card(card: Scorecard) -> Iterator[str]:
    yield from scorecard_text.render(card).splitlines()


def _log_cards(result: DemoResult) -> list[Scorecard]:
    """Each with the remarks that the text says once for all."""
    return [with_remarks(card, result.log_reading) for card in result.log_cards]


def _log_remarks(result: DemoResult) -> Iterator[str]:
    yield "What the scorecards of the log cannot show"
    yield from (f"  · {remark.text}" for remark in remarks(result.log_reading))


def _truth(result: DemoResult) -> Iterator[str]:
    reading = result.simulated_reading
    yield f"The simulated users' truth beside the scorecard's {reading.metric} (clicks per request)"
    rows = [(arm, f"{expected:.4f}", _number(reading.seen.get(arm))) for arm, expected in reading.expected.items()]
    seen = f"{_number(reading.difference_seen)} [{_number(reading.low)}, {_number(reading.high)}]"
    difference = (f"{reading.arm} − {reading.control}", f"{reading.difference_expected:+.4f}", seen)
    yield from _table([("arm", "truth", "seen"), *rows, difference], text_columns={0, 2})
    yield f"  {_covered(reading)}"


def _covered(reading: SimulatedReading) -> str:
    if reading.covered is None:
        return "There is no interval to hold it."
    verdict = "holds" if reading.covered else "does not hold"
    return f"The 95 % interval {verdict} the true difference; of twenty such runs one is expected not to."


def _end(result: DemoResult) -> Iterator[str]:
    verdict = "Everything arrived, once." if result.complete else "NOT everything arrived once: see above."
    yield f"{verdict} {result.seconds:.1f} s in all."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(rows: Sequence[Sequence[str]], text_columns: set[int]) -> Iterator[str]:
    """Aligned columns: text to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if column in text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells)}".rstrip()
