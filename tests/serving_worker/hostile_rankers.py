"""Policies that do what no policy should. What one does is told to it by the parameter `act`."""

import ctypes
import importlib
import os
import random
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from serving_worker.catalogue import Candidate, Candidates
from serving_worker.errors import RankerError
from serving_worker.isolation.frames import LENGTH_BYTES, Answer, Item, Refusal, frame
from serving_worker.rankers.ranking import Query, Ranked, Ranking

HOSTILE = "tests.serving_worker.hostile_rankers:Hostile"


def best(candidates: Candidates, k: int) -> tuple[Ranked, ...]:
    return tuple(Ranked(candidate, 1.0) for candidate in candidates.items[:k])


def nap(_candidates: Candidates, query: Query) -> None:
    time.sleep(float(query.parameters["nap_s"]))


def sleep(_candidates: Candidates, _query: Query) -> None:
    time.sleep(3_600)


def burn_in_c(_candidates: Candidates, _query: Query) -> None:
    sum(range(10**13))


def burn_in_a_regex(_candidates: Candidates, _query: Query) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def raise_something(_candidates: Candidates, _query: Query) -> None:
    raise LookupError("no such user")


def refuse(_candidates: Candidates, _query: Query) -> None:
    raise RankerError("a word of my own", "not today")


def raise_half_a_surrogate_pair(_candidates: Candidates, _query: Query) -> None:
    raise LookupError("no \ud83d")


class WordlessError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def raise_without_words(_candidates: Candidates, _query: Query) -> None:
    raise WordlessError


class WithoutReasonError(RankerError):
    def __init__(self, said: str) -> None:
        self.said = said  # and forgets its base's


def refuse_without_reason(_candidates: Candidates, _query: Query) -> None:
    raise WithoutReasonError("not today")


def eat_memory(_candidates: Candidates, _query: Query) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(16 * 1024 * 1024))


def quit_at_once(_candidates: Candidates, _query: Query) -> None:
    os._exit(3)


def leave_by_exception(_candidates: Candidates, _query: Query) -> None:
    sys.exit(0)


def read_from_nowhere(_candidates: Candidates, _query: Query) -> None:
    ctypes.string_at(0)


def leave_a_child(_candidates: Candidates, query: Query) -> None:
    _start_a_child(query)
    time.sleep(3_600)


def leave_a_child_and_quit(_candidates: Candidates, query: Query) -> None:
    _start_a_child(query)
    os._exit(3)


def _start_a_child(query: Query) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(query.parameters["child"]).write_text(str(child.pid), encoding="utf-8")


def write_rubbish(_candidates: Candidates, _query: Query) -> None:
    _write_to_the_worker(b"\xff" * 100)


def write_a_lie(_candidates: Candidates, _query: Query) -> None:
    """A frame of the right form that holds no reply."""
    payload = b'{"type": "Answer"}'
    _write_to_the_worker(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)


def flood(_candidates: Candidates, _query: Query) -> None:
    """A million items, that the worker's loop would be busy with."""
    answer = Answer([Item("a", 1.0, 1.0)] * 1_000_000, 0.0)
    _write_to_the_worker(frame(answer))


def answer_twice(_candidates: Candidates, _query: Query) -> None:
    """The second would be the answer to the next question."""
    os.write(_socket(), frame(Refusal("refused", "the first of two")))


def hang_up(_candidates: Candidates, _query: Query) -> None:
    os.close(_socket())
    time.sleep(3_600)


def _write_to_the_worker(data: bytes) -> None:
    os.write(_socket(), data)
    time.sleep(3_600)


def _socket() -> int:
    [found] = [int(path.name) for path in Path("/proc/self/fd").iterdir() if _is_socket(int(path.name))]
    return found


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def look_for_secrets(_candidates: Candidates, _query: Query) -> None:
    if found := [name for name in os.environ if name.startswith("TAILRACE_")]:
        raise LookupError(f"found {found}")


def print_a_lot(_candidates: Candidates, _query: Query) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * 1_000_000)
        stream.flush()


DEEDS: dict[str, Callable[[Candidates, Query], None]] = {
    deed.__name__: deed
    for deed in (
        nap,
        sleep,
        burn_in_c,
        burn_in_a_regex,
        raise_something,
        raise_half_a_surrogate_pair,
        raise_without_words,
        refuse,
        refuse_without_reason,
        eat_memory,
        quit_at_once,
        leave_by_exception,
        read_from_nowhere,
        leave_a_child,
        leave_a_child_and_quit,
        write_rubbish,
        write_a_lie,
        answer_twice,
        flood,
        hang_up,
        look_for_secrets,
        print_a_lot,
    )
}

LIES: dict[str, Callable[[Candidates, int], object]] = {
    "nothing": lambda _candidates, _k: None,
    "a list": lambda candidates, _k: list(candidates.items),
    "too few": lambda candidates, k: Ranking(best(candidates, k - 1), 0.0),
    "too many": lambda candidates, k: Ranking(best(candidates, k + 1), 0.0),
    "everything": lambda candidates, _k: Ranking(best(candidates, len(candidates.items)) * 1_000, 0.0),
    "a stranger": lambda candidates, k: Ranking((*best(candidates, k - 1), Ranked(Candidate("stranger"), 1.0)), 0.0),
    "a number for an item": lambda candidates, k: Ranking((*best(candidates, k - 1), Ranked(Candidate(7), 1.0)), 0.0),  # type: ignore[arg-type]
    "one twice": lambda candidates, k: Ranking((*best(candidates, k - 1), best(candidates, 1)[0]), 0.0),
    "a nan propensity": lambda candidates, k: with_numbers(candidates, k, propensity=float("nan")),
    "a propensity above 1": lambda candidates, k: with_numbers(candidates, k, propensity=1.5),
    "a propensity below 0": lambda candidates, k: with_numbers(candidates, k, propensity=-0.1),
    "a word for a propensity": lambda candidates, k: with_numbers(candidates, k, propensity="high"),  # type: ignore[arg-type]
    "a text that reads like a propensity": lambda candidates, k: with_numbers(candidates, k, propensity="0.5"),  # type: ignore[arg-type]
    "a list for a score": lambda candidates, k: with_numbers(candidates, k, score=[1.0]),  # type: ignore[arg-type]
    "a number that no float can be": lambda candidates, k: with_numbers(candidates, k, score=10**400),
    "a word for the slate": lambda candidates, k: Ranking(best(candidates, k), "low"),  # type: ignore[arg-type]
    "half a surrogate pair for an item": lambda candidates, k: Ranking(
        (*best(candidates, k - 1), Ranked(Candidate("\ud83d"), 1.0)), 0.0
    ),
    "a nan score": lambda candidates, k: with_numbers(candidates, k, score=float("nan")),
    "an infinite score": lambda candidates, k: with_numbers(candidates, k, score=float("inf")),
    "a nan for the slate": lambda candidates, k: Ranking(best(candidates, k), float("nan")),
    "a slate of no chance": lambda candidates, k: Ranking(best(candidates, k), float("-inf")),
    "a slate of more than all chance": lambda candidates, k: Ranking(best(candidates, k), 0.5),
}


def with_numbers(candidates: Candidates, k: int, propensity: float = 1.0, score: float | None = None) -> Ranking:
    first = Ranked(candidates.items[0], propensity, score)
    return Ranking((first, *best(candidates, k)[1:]), 0.0)


class Scalar:
    """A number as models' libraries have them: no float, but one can be made of it."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


def numpys(value: float) -> Any:
    return importlib.import_module("numpy").float32(value)


NUMBERS: dict[str, Callable[[float], Any]] = {"": float, "scalars": Scalar, "numpy's": numpys, "fractions": Fraction}
"""What a good ranking's numbers are, by act."""


class Hostile:
    version = "hostile-1"

    def rank(self, candidates: Candidates, query: Query, _draw: random.Random) -> Ranking:
        act = query.parameters.get("act", "")
        if act in LIES:
            return LIES[act](candidates, query.k)  # type: ignore[return-value]
        if act not in NUMBERS:
            DEEDS[act](candidates, query)
        number = NUMBERS.get(act, float)
        ranked = (Ranked(candidate, number(0.5), number(9.0)) for candidate in candidates.items[: query.k][::-1])
        return Ranking(tuple(ranked), number(-0.5))


class Constant:
    """Hostile that does `act`, whatever it is asked."""

    version = "1"

    def __init__(self, act: str) -> None:
        self._act = act

    def rank(self, candidates: Candidates, query: Query, draw: random.Random) -> Ranking:
        return Hostile().rank(candidates, msgspec.structs.replace(query, parameters={"act": self._act}), draw)


WRONG_TYPES = {
    "nothing": "NoneType",
    "a list": "list",
    "a number for an item": "item_id: int",
    "a word for a propensity": "propensity: str",
    "a text that reads like a propensity": "propensity: str",
    "a list for a score": "score: list",
    "a number that no float can be": "OverflowError",
    "a word for the slate": "log_propensity: str",
}
"""Lies that are no ranking, and what is said of each."""


class Refusing:
    version = "1"

    def rank(self, _candidates: Candidates, _query: Query, _draw: random.Random) -> Ranking:
        raise RankerError("refused", "not this one")


class NeverReady:
    version = "1"

    def __init__(self) -> None:
        time.sleep(3_600)


class Broken:
    version = "1"

    def __init__(self) -> None:
        raise LookupError("no model here")


class NoVersion:
    def rank(self, _candidates: Candidates, _query: Query, _draw: random.Random) -> Ranking:
        raise NotImplementedError


class OldSignature:
    version = "1"

    def rank(self, _candidates: Candidates, _k: int, _parameters: dict[str, str], _draw: random.Random) -> Ranking:
        raise NotImplementedError
