"""The spool's place on a host: one directory for each producer_id, and a lock in it that its owner holds.

Directories are named by the prefix of the producer's topics and its id: who sends to other topics leaves them alone.

Guarantees: nobody reads or removes a directory whose lock another process, or another emitter, holds. A directory is made, taken
over and removed under the root's own lock, so that no one ever sees one between being made and being locked. Locks end with
their holder, however it ends. What cannot be looked at, another user's for one, holds up nothing else.
"""

import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from producers.file_lock import LockFile
from producers.seldom import level_of
from producers.spool.file_system import sync_names
from schemas.events import ProducerId
from schemas.topics import DEFAULT_PREFIX

logger = logging.getLogger(__name__)

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
    """What takes claims, releases them or measures raises OSError where the disk does not do it, or the root's lock is not to be
    had.
    """

    def __init__(self, path: Path, prefix: str = DEFAULT_PREFIX) -> None:
        self.passed_over = 0
        """How often a file or a directory could not be used, and was left for later."""
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
            known = len(self._claims)
            for path in found:
                with self.passing_over(path):
                    self._claim(path)
            return self._claims[known:]

    def release(self, claim: Claim) -> None:
        """Let go of the directory, also where this raises; whoever looks next adopts what is left in it. Removed where nothing
        is.
        """
        try:
            if claim.path.exists():  # or somebody has tidied up
                with self._locked():
                    _remove_if_empty(claim.path)
        finally:
            self._claims.remove(claim)
            claim.lock.let_go()

    def bytes_used(self, known: Collection[str] = ()) -> int:
        """Of all producers on this host, but for the directories named `known`."""
        if not self._path.is_dir():
            return 0
        used = 0
        for directory in [each for each in os.scandir(self._path) if each.is_dir() and each.name not in known]:
            with self.passing_over(Path(directory.path)), os.scandir(directory.path) as entries:
                used += sum(map(_size, entries))
        return used

    def forget(self) -> None:
        """In a forked process: the locks are the parent's, and stay locked."""
        while self._claims:
            self._claims.pop().lock.close()

    @contextmanager
    def passing_over(self, path: Path) -> Iterator[None]:
        """What goes wrong within is `path`'s alone. Nothing is, where its owner, or somebody who tidies up, has removed it."""
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as error:
            self.pass_over(path, error)

    def pass_over(self, path: Path, error: OSError) -> None:
        """Leave it for later: counted, and said the less often the more often it happens."""
        self.passed_over += 1
        case = self.passed_over
        logger.log(level_of(case), "%s cannot be used, and is left for later, the %d. such case: %s", path, case, error)

    def _is_ours(self, path: Path) -> bool:
        return path.is_dir() and path.name[:-PRODUCER_ID_CHARS] == self._prefix

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


def _remove_if_empty(directory: Path) -> None:
    """But for its lock."""
    if all(path.name == LOCK for path in directory.iterdir()):
        (directory / LOCK).unlink(missing_ok=True)
        directory.rmdir()


def _size(entry: "os.DirEntry[str]") -> int:
    """Nothing where its owner has just removed it."""
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0
