"""`tailrace experiments`: which commands there are. Each one's module is imported when it runs."""

import importlib
import logging

import click

COMMANDS = {
    "validate": "deploy.commands.experiments_change:validate",
    "plan": "deploy.commands.experiments_change:plan",
    "apply": "deploy.commands.experiments_change:apply",
    "stop": "deploy.commands.experiments_change:stop",
    "list": "deploy.commands.experiments_view:list_all",
    "show": "deploy.commands.experiments_view:show",
    "explain": "deploy.commands.experiments_explain:explain",
    "kill": "deploy.commands.experiments_kill:kill",
    "size": "deploy.commands.experiments_size:size",
}
"""Command name → where it lives, in the order in which `--help` lists them."""

SUMMARIES = {
    "validate": "Say what is wrong with files of experiments; needs nothing to run.",
    "plan": "Say what applying files would change.",
    "apply": "Publish what files change: all of it or nothing.",
    "stop": "End an experiment, everywhere, at once.",
    "list": "List the experiments.",
    "show": "Show an experiment with all its revisions.",
    "explain": "Say which arms a unit is in, step by step.",
    "kill": "Stop an experiment on this host, with or without Kafka.",
    "size": "Say how many units an experiment needs, and how long.",
}

EPILOG = """\b
Examples:
  tailrace experiments validate ranking.yaml
  tailrace experiments apply ranking.yaml --dry-run
  tailrace experiments apply ranking.yaml
  tailrace experiments explain user-42 --surface home
  tailrace experiments stop ranking-2026
"""


class _LazyGroup(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{COMMANDS[cmd_name]} is not a command"
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in COMMANDS])


@click.group(cls=_LazyGroup, epilog=EPILOG)
def experiments() -> None:
    """Experiments as data: files of definitions, the topic that holds them, and what serving makes of them."""
    logging.getLogger("producers").addHandler(
        logging.NullHandler()
    )  # Kafka's client logs what it raises, and we say what is raised
