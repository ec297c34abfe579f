"""`tailrace experiments`: which commands there are. Each one's module is imported when it runs."""

import logging

import click

from deploy.lazy_group import Command, LazyGroup

COMMANDS = {
    "validate": Command(
        "deploy.commands.experiments_change:validate", "Say what is wrong with files of experiments; needs nothing to run."
    ),
    "plan": Command("deploy.commands.experiments_change:plan", "Say what applying files would change."),
    "apply": Command("deploy.commands.experiments_change:apply", "Publish what files change: all of it or nothing."),
    "stop": Command("deploy.commands.experiments_change:stop", "End an experiment, everywhere, at once."),
    "list": Command("deploy.commands.experiments_view:list_all", "List the experiments."),
    "show": Command("deploy.commands.experiments_view:show", "Show an experiment with all its revisions."),
    "explain": Command("deploy.commands.experiments_explain:explain", "Say which arms a unit is in, step by step."),
    "restore": Command(
        "deploy.commands.experiments_restore:restore", "Put back, from a host's snapshot, what the topic has lost."
    ),
    "kill": Command("deploy.commands.experiments_kill:kill", "Stop an experiment on this host, with or without Kafka."),
    "size": Command("deploy.commands.experiments_size:size", "Say how many units an experiment needs, and how long."),
}

EPILOG = """\b
Examples:
  tailrace experiments validate ranking.yaml
  tailrace experiments apply ranking.yaml --dry-run
  tailrace experiments apply ranking.yaml
  tailrace experiments explain user-42 --surface home
  tailrace experiments stop ranking-2026
"""


@click.group(cls=LazyGroup, commands_at=COMMANDS, epilog=EPILOG)
def experiments() -> None:
    """Experiments as data: files of definitions, the topic that holds them, and what serving makes of them."""
    # Kafka's client logs what it raises, and we say what is raised
    logging.getLogger("producers").addHandler(logging.NullHandler())
