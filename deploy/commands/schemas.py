"""`tailrace schemas`: the gate that a change of the contracts must pass, their registration, and the migration that they need."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from deploy.registry_subjects import provision_subjects
from deploy.settings import registry
from schemas.compatibility import check as check_contracts
from schemas.contracts import release as freeze
from schemas.migrations import Plan, plan_migration, write


@click.group()
def schemas() -> None:
    """Check the contracts, freeze them, register them, or plan the migration that they need."""


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


MIGRATE_EPILOG = """\b
Examples:
  tailrace schemas migrate --plan   print the SQL of the next migration
  tailrace schemas migrate --write  put it into schemas/warehouse, for review
  tailrace schemas migrate --json   the plan as JSON
"""


@schemas.command(epilog=MIGRATE_EPILOG)
@click.option("--plan", "plan_only", is_flag=True, help="Print the SQL and write nothing. So it is without any option, too.")
@click.option("--write", "into_file", is_flag=True, help="Put the SQL into the next numbered file of schemas/warehouse.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def migrate(*, plan_only: bool, into_file: bool, as_json: bool) -> None:
    """Plan the columns that the newest contracts need. Applies nothing: `tailrace up` applies the reviewed file.

    Needs no running part. Exits with 1 where a contract asks for what no migration can do.
    """
    if plan_only and into_file:
        raise click.UsageError("--plan writes nothing: name one of --plan and --write")
    plan = plan_migration()
    written = write(plan.migration) if into_file and plan.migration else None
    click.echo(json.dumps(_plan_document(plan, written)) if as_json else _plan_text(plan, written))
    if plan.findings:
        raise SystemExit(1)


def _plan_document(plan: Plan, written: Path | None) -> dict[str, object]:
    return {
        "ok": not plan.findings,
        "additions": [asdict(addition) for addition in plan.additions],
        "file": plan.file_name,
        "sql": plan.migration and plan.migration.text,
        "written": written is not None,
        "findings": [asdict(finding) for finding in plan.findings],
    }


def _plan_text(plan: Plan, written: Path | None) -> str:
    if plan.findings:
        reasons = [f"{finding.where}: {finding.message}" for finding in plan.findings]
        return "\n".join([*reasons, f"{len(reasons)} findings: no migration can follow the contracts as they are"])
    if plan.migration is None:
        return "nothing to do: the tables have a column for every field"
    if written is not None:
        return f"wrote {written}: review it, commit it, then `tailrace up` applies it"
    return f"-- {plan.file_name}; `tailrace schemas migrate --write` writes it for review\n{plan.migration.text}".rstrip()


def _refuse_findings() -> None:
    if findings := check_contracts():
        raise click.ClickException(f"{len(findings)} findings stand against it: see `tailrace schemas check`")
