"""What `tailrace audit` says of the same installation: it has no ledger, and has to come to the same answer."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

AUDIT_LIMIT_S = 120
_SPANS = ("pending", "missing", "unaccounted")
_COUNTS = ("copies", "conflicts", "beyond_end")


@dataclass(frozen=True, slots=True)
class Opinion:
    """The partitions' counts, summed. Producers are not asked: poison and aborted records have numbers that never come."""

    pending: int
    missing: int
    unaccounted: int
    copies: int
    conflicts: int
    beyond_end: int
    former_topics_unexplained: int
    """Partitions of topics that are gone, without a word of what was lost with them."""

    @property
    def complete(self) -> bool:
        return not (self.pending or self.missing or self.unaccounted or self.former_topics_unexplained)

    @property
    def single(self) -> bool:
        return not self.copies


class AuditFailedError(Exception):
    """The auditor did not give an answer."""


def ask(variables: Mapping[str, str]) -> Opinion:
    """Raises AuditFailedError."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "audit", "--json"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=AUDIT_LIMIT_S,
        check=False,
    )
    if done.returncode not in {0, 1} or not done.stdout:
        raise AuditFailedError(f"exit code {done.returncode}: {done.stderr[-1000:]}")
    return summed(json.loads(done.stdout.splitlines()[-1])["partitions"])


def summed(partitions: list[dict[str, object]]) -> Opinion:
    spans = {name: sum(_count(partition[name]) for partition in partitions) for name in _SPANS}
    counts = {name: sum(_number(partition[name]) for partition in partitions) for name in _COUNTS}
    unexplained = sum(bool(partition["tail_unknown"]) for partition in partitions)
    return Opinion(**spans, **counts, former_topics_unexplained=unexplained)


def _count(spans: object) -> int:
    assert isinstance(spans, dict), "spans are an object with a count"
    return _number(spans["count"])


def _number(value: object) -> int:
    assert isinstance(value, int), "a count is a whole number"
    return value
