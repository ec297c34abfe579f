"""The calls to the file system that the spool makes: one place to let them fail in a test.

Plain descriptors, no buffered files: what is written is with the kernel when the call returns, and a forked process has nothing
to flush.
"""

import os
from pathlib import Path
from typing import Protocol


def sync_names(directory: Path) -> None:
    """Return when the names in `directory` would survive the host: what is synced by itself may else be under no name."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileSystem(Protocol):
    """Every method raises OSError where the disk is full, broken or gone, and may hang where it hangs."""

    def create(self, path: Path) -> int:
        """A descriptor of a new file, for writing."""
        ...

    def write(self, descriptor: int, data: bytes, start: int) -> None:
        """All of `data` at the place `start`."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when the file would survive the host."""
        ...

    def cut(self, descriptor: int, size: int) -> None: ...

    def read(self, path: Path, start: int, end: int) -> bytes: ...


class PosixFileSystem:
    def create(self, path: Path) -> int:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        sync_names(path.parent)
        return descriptor

    def write(self, descriptor: int, data: bytes, start: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, start)
            view, start = view[written:], start + written

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def read(self, path: Path, start: int, end: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)
