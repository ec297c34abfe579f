"""What arguments of several commands mean."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import click

_AGO = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class MomentType(click.ParamType):
    """A moment, as an age or as a time: milliseconds since 1970. A time without an offset is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return moment_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def moment_ms(text: str) -> int:
    """Raises ValueError where it is neither an age nor a time."""
    if ago := _AGO.fullmatch(text):
        return time.time_ns() // 1_000_000 - int(ago[1]) * _SECONDS[ago[2]] * 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither an age (90s, 30m, 24h, 7d) nor a time (2026-01-31T12:00)") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
