"""Which rankers there are, by the names that arms give them, and where their classes lie.

Ours, those of installed packages (entry points of the group `tailrace.rankers`) and those of TAILRACE_RANKERS. Naming loads
nothing: only the process that runs a ranker imports it.
"""

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import cast

from schemas.errors import ConfigurationError
from serving_worker.rankers.ranking import Ranker

GROUP = "tailrace.rankers"
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "popularity": "serving_worker.rankers.popularity:Popularity",
        "plackett_luce": "serving_worker.rankers.plackett_luce:PlackettLuce",
    }
)
VERSION_CHARACTERS_MAX = 64

_TARGET = re.compile(r"[\w.]+:[\w.]+")


def named_rankers(configured: Mapping[str, str], installed: Iterable[EntryPoint]) -> dict[str, str]:
    """Import paths (`module:attribute`) by name.

    Raises ConfigurationError that names every path that is none, and every name that stands for two.
    """
    rankers, problems = dict(BUILT_IN), []
    for name, target in [*((entry.name, entry.value) for entry in installed), *configured.items()]:
        if not _TARGET.fullmatch(target):
            problems.append(f"ranker {name!r}: {target!r} is not module:attribute")
        elif rankers.setdefault(name, target) != target:
            problems.append(f"ranker {name!r} is both {rankers[name]} and {target}")
    if problems:
        raise ConfigurationError(tuple(problems))
    return rankers


def load_ranker(target: str) -> Ranker:
    """The ranker at an import path, made.

    Raises ConfigurationError, whatever goes wrong in its module.
    """
    module, _, attribute = target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
        ranker = found() if callable(found) else found
        problem = _problem(ranker)
    except Exception as error:
        raise ConfigurationError((f"ranker {target}: {type(error).__name__}: {error}",)) from error
    if problem:
        raise ConfigurationError((f"ranker {target}: {problem}",))
    return cast("Ranker", ranker)


def _problem(ranker: object) -> str | None:
    version, rank = getattr(ranker, "version", None), getattr(ranker, "rank", None)
    if not isinstance(version, str) or not 0 < len(version) <= VERSION_CHARACTERS_MAX:
        return f"its version is {version!r}; it should be 1 to {VERSION_CHARACTERS_MAX} characters"
    if not callable(rank):
        return "it has no method rank"
    try:
        inspect.signature(rank).bind("candidates", "query", "draw")
    except TypeError as error:
        return f"rank should take (candidates, query, draw): {error}"
    return None
