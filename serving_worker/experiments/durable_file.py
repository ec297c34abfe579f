"""Replacing a file so that whoever reads it, also after a crash of the host, finds the old one or the new one, whole."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Raises OSError. Two who replace one file at once must hold a lock: they would share the name of the new one."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
