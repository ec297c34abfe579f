"""The `tailrace` command: which commands there are, and what an error becomes at the terminal.

A command's module is imported when the command runs, so that `tailrace env` need not wait for scipy. Exit codes: 0 done, 1 the
answer is no, 2 wrong usage or configuration, 3 a part that is needed cannot be reached.
"""

import importlib
import logging

import click

from schemas.errors import ConfigurationError, ContractError, PartUnreachable

COMMANDS = {
    "up": "deploy.commands.up:up",
    "down": "deploy.commands.down:down",
    "status": "deploy.commands.status:status",
    "doctor": "deploy.commands.doctor:doctor",
    "env": "deploy.commands.env:env",
    "schemas": "deploy.commands.schemas:schemas",
    "serve": "deploy.commands.serve:serve",
    "sink": "deploy.commands.sink:sink",
    "dlq": "deploy.commands.dlq:dlq",
    "audit": "deploy.commands.audit:audit",
    "experiments": "deploy.commands.experiments:experiments",
    "scorecard": "deploy.commands.scorecard:scorecard",
    "demo": "deploy.commands.demo:demo",
}
"""Command name → where it lives, in the order in which `--help` lists them."""

SUMMARIES = {
    "up": "Start the local stack, or provision the existing services that are named.",
    "down": "Stop the local stack; its data stay.",
    "status": "Say how the parts of the stack are.",
    "doctor": "Find what is wrong with the installation, and say what to do.",
    "env": "Print the running stack's addresses as shell exports.",
    "schemas": "Check the contracts, or register them.",
    "serve": "Run the HTTP recommender.",
    "sink": "Carry records from Kafka into the warehouse.",
    "dlq": "List, show and replay the records that the warehouse could not take.",
    "audit": "Say whether all that Kafka held is in the warehouse, once.",
    "experiments": "Publish experiment definitions.",
    "scorecard": "Say how an experiment went.",
    "demo": "Show the whole way of an event on real parts.",
}


class _Refusal(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LazyGroup(click.Group):
    """A group over COMMANDS. `--help` needs no command's module."""

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

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise _Refusal("\n  ".join(("wrong settings:", *error.problems)), exit_code=2) from error
        except ContractError as error:
            raise _Refusal(str(error), exit_code=2) from error
        except PartUnreachable as error:
            raise _Refusal(str(error), exit_code=3) from error


EXAMPLES = """\b
Examples:
  tailrace up
  tailrace demo
  tailrace scorecard obd-all --json
"""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(package_name="tailrace", prog_name="tailrace")
def main() -> None:
    """The event spine between a recommender and its experiments.

    Settings are environment variables, TAILRACE_*; what is not set is taken from the local stack that runs in TAILRACE_HOME
    (./.tailrace unless set). Exit codes: 0 done, 1 the answer is no, 2 wrong usage or configuration, 3 a part that is needed
    cannot be reached.
    """
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())  # it logs what it raises, and we say what is raised


if __name__ == "__main__":
    main()
