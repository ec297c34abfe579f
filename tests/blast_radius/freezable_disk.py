"""A disk that can be made to hang: a file with a file system in it, frozen and thawed. Needs the superuser, and Linux."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 1 << 30
"""Of a file with holes: it takes what is written to it."""
COMMAND_LIMIT_S = 30
PROGRAMS = ("mkfs.ext4", "mount", "umount", "fsfreeze")


@dataclass(frozen=True, slots=True)
class FreezableDisk:
    path: Path

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Whoever writes to it waits, and cannot be interrupted, until the block ends."""
        _run("fsfreeze", "--freeze", str(self.path))
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", str(self.path))


@contextmanager
def freezable_disk(directory: Path) -> Iterator[FreezableDisk | None]:
    """None where this machine gives none."""
    path, image = directory / "disk", directory / "disk.image"
    if os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)) or not _mounted(image, path):
        yield None
        return
    try:
        yield FreezableDisk(path)
    finally:
        _run("umount", "--lazy", str(path))


def _mounted(image: Path, path: Path) -> bool:
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    _run("mkfs.ext4", "-q", str(image))
    mounting = ("mount", "-o", "loop", str(image), str(path))
    return subprocess.run(mounting, capture_output=True, timeout=COMMAND_LIMIT_S, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, timeout=COMMAND_LIMIT_S, check=True)
