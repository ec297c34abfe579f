"""A log whose reader is slow: nobody waits for it, and it says what it has lost. test_fleet_endings.py has processes with one."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO

import pytest

from serving_worker.stderr_log import LossyHandler

PIPE_BYTES, LINES_MAX = 4_096, 8
LOST = re.compile(rb"(\d+) log lines were lost")
END = b"the end\n"


@pytest.fixture
def pipe() -> Iterator[tuple[FileIO, int]]:
    """What can be read byte by byte, and where to write. That stays open: a thread may have lines for it still."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with FileIO(reading) as reader:
        yield reader, writing


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("of.mine", logging.INFO, __file__, 0, text, arguments, None)


def test_every_line_that_is_lost_is_told(pipe: tuple[FileIO, int]) -> None:
    reader, writing = pipe
    handler, emitted, lines = LossyHandler(writing, LINES_MAX), 20 * PIPE_BYTES, list[bytes]()
    for number in range(emitted):
        handler.emit(record("a line"))
        if number % 20 == 0:
            lines.append(reader.readline())
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(lambda: [*iter(reader.readline, END)])
        handler.flush()
        handler.emit(record("the end"))
        lines += rest.result(timeout=30)
    told = [int(lost[1]) for lost in map(LOST.match, lines) if lost]
    assert len(told) > 1, "the reader was slow more than once"
    assert lines.count(b"a line\n") + sum(told) == emitted


@pytest.mark.parametrize("lines_max", [LINES_MAX, 2 * PIPE_BYTES])
def test_a_reader_that_hangs_holds_up_no_end(pipe: tuple[FileIO, int], lines_max: int) -> None:
    _, writing = pipe
    handler = LossyHandler(writing, lines_max)
    for _ in range(PIPE_BYTES):
        handler.emit(record("a line"))
    handler.flush()


def test_a_line_that_cannot_be_made_is_told_and_fails_nobody(pipe: tuple[FileIO, int]) -> None:
    reader, writing = pipe
    handler = LossyHandler(writing)
    handler.emit(record("%d of them", "many"))
    assert b"'%d of them'" in reader.readline()
    handler.emit(record("the next"))
    assert reader.readline() == b"the next\n"
