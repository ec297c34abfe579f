"""Whether the configured rankers can be loaded, asked before the worker answers anybody.

Each is loaded in a process of its own, which is gone afterwards: a module that hangs, ends the process or eats memory costs the
worker's start a sentence, not the worker.
"""

import subprocess
from collections.abc import Mapping

from schemas.errors import ConfigurationError
from serving_worker.isolation.process import START_S_MAX, check_arguments, host_environment
from serving_worker.rankers.plugins import BUILT_IN


def refuse_broken(rankers: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Raises ConfigurationError that names every ranker that cannot be loaded. Ours are not asked."""
    plugins = {name: target for name, target in rankers.items() if BUILT_IN.get(name) != target}
    problems = tuple(f"{name}: {problem}" for name, target in plugins.items() if (problem := _problem(target, variables)))
    if problems:
        raise ConfigurationError(problems)


def _problem(target: str, variables: Mapping[str, str]) -> str:
    """Empty where there is none."""
    try:
        done = subprocess.run(  # noqa: S603 - our own module; the target is the operator's setting
            check_arguments(target),
            env=host_environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"ranker {target}: not loaded after {START_S_MAX} s"
    said = done.stdout.decode(errors="replace").strip()
    return "" if done.returncode == 0 else said or f"ranker {target}: loading it ended the process ({done.returncode})"
