"""What ends the demo with "the answer is no"; parts that are missing are schemas.errors.PartUnreachable."""

import click


class DemoFailed(click.ClickException):
    """A step did something other than it should: exit code 1."""
