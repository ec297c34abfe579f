"""The process of one policy: `python -m serving_worker.isolation.host`. One request at a time, over the socket it was given.

It limits itself before it loads anything of the policy's: memory (RLIMIT_AS), no core dump, and that the kernel ends it with the
worker; priority and processors it has from give_way.py. What the policy prints goes nowhere: it could fill the worker's log.
"""

import argparse
import random
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import ConfigurationError
from serving_worker.catalogue import Catalogue, load_catalogue
from serving_worker.isolation.frames import (
    LENGTH_BYTES,
    Question,
    Ready,
    Refusal,
    frame,
    length_of,
    read_question,
    refusal,
)
from serving_worker.isolation.reasons import Degraded
from serving_worker.isolation.verdict import answer_of, unanswered_by
from serving_worker.parent_death import end_with_parent
from serving_worker.rankers.plugins import load_ranker
from serving_worker.rankers.ranking import Ranker

_OUT_OF_MEMORY = frame(Refusal(Degraded.MEMORY, "MemoryError"))
"""Made beforehand: when it is to be said, there may be no room to make it."""


def main(arguments: Sequence[str]) -> int:
    read = _arguments(arguments)
    if read.check:
        return _check(read.ranker)
    limit_oneself(read.memory_bytes_max, read.worker)
    with socket.socket(fileno=read.socket) as worker:
        worker.setblocking(True)
        try:
            ranker, catalogue = load_ranker(read.ranker), load_catalogue(Path(read.catalogue))
        except ConfigurationError as error:
            worker.sendall(frame(refusal(Degraded.RANKER_FAILED, str(error))))
            return 2
        worker.sendall(frame(Ready(ranker.version)))
        return answer_all(worker, ranker, catalogue)


def answer_all(worker: socket.socket, ranker: Ranker, catalogue: Catalogue) -> int:
    """Until the worker hangs up (0), or memory has run out (1): what a MemoryError leaves behind is not to be trusted."""
    while (payload := _receive(worker)) is not None:
        reply = reply_to(read_question(payload), ranker, catalogue)
        worker.sendall(reply)
        if reply is _OUT_OF_MEMORY:
            return 1
    return 0


def reply_to(question: Question, ranker: Ranker, catalogue: Catalogue) -> bytes:
    """The frame of an answer or of a refusal, whatever the ranker raises or gives."""
    query = question.query
    draw = random.Random(question.seed)  # noqa: S311 - not for secrets; an answer can be drawn again
    try:
        return frame(answer_of(ranker.rank(catalogue.surfaces[query.surface], query, draw), query.k))
    except MemoryError:
        return _OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001 - the top of this process's loop: the worker counts it and says it in its log
        refused = unanswered_by(error)
        return frame(refusal(refused.reason, str(refused)))


def limit_oneself(memory_bytes_max: int, worker_pid: int) -> None:
    """Hard limits, so that the policy cannot raise them."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, policies go first
    end_with_parent(worker_pid, signal.SIGKILL)


def _receive(worker: socket.socket) -> bytes | None:
    head = _exactly(worker, LENGTH_BYTES)
    return None if head is None else _exactly(worker, length_of(head))


def _exactly(worker: socket.socket, count: int) -> bytes | None:
    """None where the worker has hung up."""
    data = worker.recv(count, socket.MSG_WAITALL)
    return data if len(data) == count else None


def _check(target: str) -> int:
    try:
        load_ranker(target)
    except ConfigurationError as error:
        sys.stdout.write(str(error))
        return 2
    return 0


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serving_worker.isolation.host", description=__doc__)
    parser.add_argument("--ranker", required=True, help="module:attribute")
    parser.add_argument("--check", action="store_true", help="only say whether the ranker can be loaded")
    parser.add_argument("--catalogue", help="its file")
    parser.add_argument("--memory-bytes-max", type=int, help="of its address space")
    parser.add_argument("--socket", type=int, help="the descriptor of the socket to the worker")
    parser.add_argument("--worker", type=int, help="the worker's process id")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
