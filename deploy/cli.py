"""The `tailrace` command: which commands there are, and what an error becomes at the terminal.

A command's module is imported when the command runs, so that `tailrace env` need not wait for scipy. Exit codes: 0 done, 1 the
answer is no, 2 wrong usage or configuration, 3 a part that is needed cannot be reached.
"""

import logging

import click

from deploy.lazy_group import Command, LazyGroup
from schemas.errors import ConfigurationError, ContractError, PartUnreachable

COMMANDS = {
    "up": Command("deploy.commands.up:up", "Start the local stack, or provision the existing services that are named."),
    "down": Command("deploy.commands.down:down", "Stop the local stack; its data stay."),
    "status": Command("deploy.commands.status:status", "Say how the parts of the stack are."),
    "doctor": Command("deploy.commands.doctor:doctor", "Find what is wrong with the installation, and say what to do."),
    "env": Command("deploy.commands.env:env", "Print the running stack's addresses as shell exports."),
    "schemas": Command("deploy.commands.schemas:schemas", "Check the contracts, or register them."),
    "serve": Command("deploy.commands.serve:serve", "Run the HTTP recommender."),
    "sink": Command("deploy.commands.sink:sink", "Carry records from Kafka into the warehouse."),
    "dlq": Command("deploy.commands.dlq:dlq", "List, show and replay the records that the warehouse could not take."),
    "replay": Command("deploy.commands.replay:replay", "Bring any stretch of any topic in again, checked before anyone sees it."),
    "derive": Command(
        "deploy.commands.derive:derive", "Keep tables that are computed from raw ones, for the past and from now on."
    ),
    "audit": Command("deploy.commands.audit:audit", "Say whether all that Kafka held is in the warehouse, once."),
    "archive": Command("deploy.commands.archive:archive", "Keep Kafka's records in files, and look whether they are whole."),
    "experiments": Command("deploy.commands.experiments:experiments", "Plan, apply, look at, explain and stop experiments."),
    "scorecard": Command("deploy.commands.scorecard:scorecard", "Say how an experiment went."),
    "demo": Command("deploy.commands.demo:demo", "Show the whole way of an event on real parts."),
}


class _Refusal(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _Tailrace(LazyGroup):
    """Makes of our errors what they are at the terminal."""

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


@click.group(cls=_Tailrace, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
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
