"""What to type after a demo, to look at what it has left. Pure."""

import shlex
from pathlib import Path

from deploy.demo.home import INPUTS

_BY_ARM = "SELECT experiment_id, arm, traffic, count() AS units FROM exposures GROUP BY ALL ORDER BY ALL FORMAT PrettyCompact"


def look_further(tailrace: str, home: Path, *, kept: bool) -> str:
    """`tailrace` is the command as it was called."""
    catalogue, experiments = (shlex.quote(str(home / name)) for name in (INPUTS.catalogue, INPUTS.experiments))
    lines = (
        f"export TAILRACE_HOME={shlex.quote(str(home))}",
        *(() if kept else (f"{tailrace} up",)),
        f'eval "$({tailrace} env)"',
        f"{tailrace} status",
        f"{tailrace} scorecard obd-men --control random",
        f"{tailrace} scorecard demo-ranking --traffic simulated --json",
        f'curl "${{TAILRACE_WAREHOUSE_READ_URL%/*}}/?database=${{TAILRACE_WAREHOUSE_READ_URL##*/}}" --data "{_BY_ARM}"',
        f"TAILRACE_CATALOGUE_FILE={catalogue} TAILRACE_EXPERIMENTS_FILE={experiments} {tailrace} serve",
        f"{tailrace} down",
    )
    head = "The stack runs on. Look further:" if kept else "The stack is down; its data stay until the next demo. Look further:"
    return "\n".join((head, *(f"  {line}" for line in lines)))
