"""The spool's place on a host: one directory for each producer_id, and a lock in it that its owner holds.

Directories are named by the prefix of the producer's topics and its id: who sends to other topics leaves them alone.

Guarantees: nobody reads or removes a directory whose lock another process, or another emitter, holds. A directory is made, taken
over and removed under the root's own lock, so that no one ever sees one between being made and being locked. Locks end with
their holder, however it ends.
"""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from producers.file_lock import LockFile
from producers.spool.file_system import sync_names
from schemas.events import ProducerId
from schemas.topics import DEFAULT_PREFIX

ROOT_LOCK_TRIES_MAX = 50
ROOT_LOCK_PAUSE_S = 0.01
LOCK = "lock"
PRODUCER_ID_CHARS = 36


@dataclass(slots=True)
class Claim:
    """A directory that is ours for as long as `lock` is open."""

    path: Path
    lock: LockFile


class SpoolRoot:
    """Every method but `forget` raises OSError where the disk does not do it, or the root's lock is not to be had."""

    def __init__(self, path: Path, prefix: str = DEFAULT_PREFIX) -> None:
        self._path, self._prefix = path, prefix
        self._claims: list[Claim] = []

    def claim_new(self, producer_id: ProducerId) -> Claim:
        """Make the directory of a producer, and own it. Its name, and those that lead to it, are on disk then."""
        missing = [path for path in (self._path, *self._path.parents) if not path.exists()]
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in reversed(missing):
            sync_names(path.parent)
        with self._locked():
            path = self._path / f"{self._prefix}{producer_id}"
            path.mkdir(mode=0o700, exist_ok=True)  # an earlier try may have got so far
            sync_names(self._path)
            claim = self._claim(path)
        if claim is None:
            raise BlockingIOError(f"{path} is held by another process")
        return claim

    def claim_orphans(self, but: Collection[Path] = ()) -> list[Claim]:
        """Own every directory of our prefix that nobody owns, `but` for these."""
        if not self._path.is_dir():
            return []
        with self._locked():
            skipped = {*but, *(claim.path for claim in self._claims)}
            found = [path for path in sorted(self._path.iterdir()) if self._is_ours(path) and path not in skipped]
            return [claim for path in found if (claim := self._claim(path)) is not None]

    def release(self, claim: Claim) -> None:
        """Let go of the directory; whoever looks next adopts what is left in it. Removed where nothing is."""
        if not claim.path.exists():  # somebody has tidied up
            self._let_go(claim)
            return
        with self._locked():
            left = [path for path in claim.path.iterdir() if path.name != LOCK]
            if not left:
                (claim.path / LOCK).unlink(missing_ok=True)
                claim.path.rmdir()
            self._let_go(claim)

    def bytes_used(self, known: Collection[str] = ()) -> int:
        """Of all producers on this host, but for the directories named `known`."""
        if not self._path.is_dir():
            return 0
        return sum(
            entry.stat().st_size
            for directory in os.scandir(self._path)
            if directory.is_dir() and directory.name not in known
            for entry in _entries(directory.path)
        )

    def forget(self) -> None:
        """In a forked process: the locks are the parent's, and stay locked."""
        while self._claims:
            self._claims.pop().lock.close()

    def _is_ours(self, path: Path) -> bool:
        return path.is_dir() and path.name[:-PRODUCER_ID_CHARS] == self._prefix

    def _let_go(self, claim: Claim) -> None:
        self._claims.remove(claim)
        claim.lock.let_go()

    def _claim(self, path: Path) -> Claim | None:
        """None where another one owns it."""
        lock = LockFile(path / LOCK)
        if not lock.try_lock():
            return None
        claim = Claim(path, lock)
        self._claims.append(claim)
        return claim

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = LockFile(self._path / LOCK)
        try:
            for _ in range(ROOT_LOCK_TRIES_MAX):
                if lock.try_lock():
                    break
                time.sleep(ROOT_LOCK_PAUSE_S)
            else:
                raise BlockingIOError(f"{self._path / LOCK} is held by another process")
            yield
        finally:
            lock.let_go()


def _entries(directory: str) -> list["os.DirEntry[str]"]:
    """Nothing where its owner has just removed it."""
    try:
        return list(os.scandir(directory))
    except FileNotFoundError:
        return []
