"""`tailrace replay`: which commands there are. Each one's module is imported when it runs."""

import click

from deploy.lazy_group import Command, LazyGroup

COMMANDS = {
    "plan": Command("deploy.commands.replay_plan:plan", "Say what replaying a stretch of a topic would do, and keep the plan."),
    "run": Command(
        "deploy.commands.replay_run:run", "Fill a planned run's own table; goes on where it was when it is run again."
    ),
    "verify": Command(
        "deploy.commands.replay_verify:verify", "Say whether a run is what the log says, and how live differs from it."
    ),
    "swap": Command("deploy.commands.replay_swap:swap", "Put a run's rows in the place of the live ones, all at once."),
    "rollback": Command("deploy.commands.replay_swap:rollback", "Put back what a swap took out, at once and bit for bit."),
    "abort": Command("deploy.commands.replay_swap:abort", "Undo a swap that was left half-way, or lift a hold."),
    "prune": Command("deploy.commands.replay_swap:prune", "Drop the tables that a run has left."),
    "list": Command("deploy.commands.replay_view:list_runs", "List the runs, and how each one stands."),
    "show": Command("deploy.commands.replay_view:show", "Show one run: its plan, and what has happened to it."),
}

EPILOG = """\b
Examples:
  tailrace replay plan --topic interactions --from 2026-01-31T06:00 --to 2026-01-31T12:00
  tailrace replay run r0131-7f3a9c --yield
  tailrace replay verify r0131-7f3a9c
  tailrace replay swap r0131-7f3a9c
  tailrace replay rollback r0131-7f3a9c
  tailrace replay list
"""


@click.group(cls=LazyGroup, commands_at=COMMANDS, epilog=EPILOG)
def replay() -> None:
    """Any stretch of any topic, again: into a table of its own, checked, then swapped in.

    The live sink goes on meanwhile, and nobody who reads the table sees anything before the swap.
    """
