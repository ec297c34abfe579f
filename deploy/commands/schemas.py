"""`tailrace schemas`: the gate that a change of the contracts must pass, and their registration."""

import json
from dataclasses import asdict

import click

from deploy.registry_subjects import provision_subjects
from deploy.settings import registry
from schemas.compatibility import check as check_contracts
from schemas.contracts import release as freeze


@click.group()
def schemas() -> None:
    """Check the contracts, freeze them, or register them."""


@schemas.command(epilog="\b\nExamples:\n  tailrace schemas check\n  tailrace schemas check --json")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(*, as_json: bool) -> None:
    """Refuse contracts that are not FULL_TRANSITIVE compatible, or that the warehouse cannot take. Needs no running part.

    Exits with 1 where there is a finding.
    """
    findings = check_contracts()
    if as_json:
        click.echo(json.dumps({"ok": not findings, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            click.echo(f"{finding.where}: {finding.message}")
        click.echo(f"{len(findings)} findings" if findings else "the contracts may be released")
    if findings:
        raise SystemExit(1)


@schemas.command(epilog="\b\nExamples:\n  tailrace schemas register\n  tailrace schemas register --json")
@click.option("--json", "as_json", is_flag=True, help="Print what was registered as JSON.")
def register(*, as_json: bool) -> None:
    """Register every version of every contract that the registry lacks. Refuses what `schemas check` refuses."""
    _refuse_findings()
    made = provision_subjects(registry()).made
    if as_json:
        click.echo(json.dumps({"registered": made}))
    else:
        click.echo("\n".join(f"registered {name}" for name in made) or "nothing to do: all of them are registered")


@schemas.command(epilog="\b\nExamples:\n  tailrace schemas release\n  tailrace schemas release --json")
@click.option("--json", "as_json", is_flag=True, help="Print what was frozen as JSON.")
def release(*, as_json: bool) -> None:
    """Freeze every version in the checkout that is not released yet: from then on a change to it needs a new version.

    Writes schemas/avro/released.json, to be committed. Refuses what `schemas check` refuses.
    """
    _refuse_findings()
    frozen = freeze()
    if as_json:
        click.echo(json.dumps({"frozen": frozen}))
    else:
        click.echo("\n".join(f"frozen {name}" for name in frozen) or "nothing to do: all versions are released")


def _refuse_findings() -> None:
    if findings := check_contracts():
        raise click.ClickException(f"{len(findings)} findings stand against it: see `tailrace schemas check`")
