"""Makes `data/open_bandit.csv.xz` from the wheel of `obp` 0.4.1: `python -m deploy.demo.convert_open_bandit WHEEL OUT`.

The wheel holds six logs of 10,000 impressions each. Kept is, text by text as the log has it, what the events need; left out are
the affinities of user and item. The same wheel gives the same bytes wherever the same liblzma compresses them.
"""

import csv
import hashlib
import io
import lzma
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from zipfile import ZipFile

from deploy.demo.open_bandit_log import CAMPAIGNS, COLUMNS, POLICIES

WHEEL_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"

_USAGE = "usage: python -m deploy.demo.convert_open_bandit WHEEL OUT"


def convert(wheel: ZipFile) -> bytes:
    """The six logs of an opened wheel as one compressed CSV with the columns of `open_bandit_log`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_rows(wheel))
    return lzma.compress(text.getvalue().encode("ascii"), check=lzma.CHECK_SHA256)


def _rows(wheel: ZipFile) -> Iterator[tuple[str, ...]]:
    for policy in POLICIES:
        for campaign in CAMPAIGNS:
            log = wheel.read(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv").decode("ascii")
            yield from _log_rows(policy, campaign, log.splitlines())


def _log_rows(policy: str, campaign: str, lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
    for row in csv.DictReader(lines):
        yield policy, campaign, *(row[column] for column in COLUMNS[2:])


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        sys.exit(_USAGE)
    wheel, out = map(Path, arguments)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel}: its SHA-256 sum is {found}, that of obp 0.4.1 is {WHEEL_SHA256}: pip download --no-deps obp==0.4.1")
    with ZipFile(wheel) as archive:
        converted = convert(archive)
    out.write_bytes(converted)
    print(f"{out}: {len(converted):,} bytes, SHA-256 {hashlib.sha256(converted).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1:])
