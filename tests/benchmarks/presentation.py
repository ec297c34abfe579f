"""How a part's figures are shown: the same tables in the terminal and in docs/benchmarks/README.md. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is words, the others figures."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Target:
    """What the issue asks for, and what came."""

    what: str
    wanted: str
    found: str
    met: bool


@dataclass(frozen=True, slots=True)
class Section:
    """`how` says what was measured."""

    title: str
    how: str
    tables: Sequence[Table]
    targets: Sequence[Target] = ()


def at_least(what: str, wanted: float, found: float, unit: str = "×") -> Target:
    return Target(what, f"≥ {wanted:g} {unit}".rstrip(), f"{found:.2f} {unit}".rstrip(), found >= wanted)


def at_most(what: str, wanted: float, found: float, unit: str) -> Target:
    return Target(what, f"≤ {wanted:g} {unit}", f"{found:.2f} {unit}", found <= wanted)


def as_text(section: Section) -> str:
    blocks = [f"== {section.title}", *("\n".join(_aligned(table)) for table in _tables(section))]
    return "\n\n".join(blocks) + "\n"


def as_markdown(section: Section) -> str:
    blocks = [f"## {section.title}", section.how, *("\n".join(_piped(table)) for table in _tables(section))]
    return "\n\n".join(blocks) + "\n"


def _tables(section: Section) -> list[Table]:
    if not section.targets:
        return list(section.tables)
    verdicts = [(each.what, each.wanted, each.found, "yes" if each.met else "NO") for each in section.targets]
    return [*section.tables, Table(("target", "wanted", "found", "met"), verdicts)]


def _aligned(table: Table) -> Iterator[str]:
    lines = [table.header, *table.rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()


def _piped(table: Table) -> Iterator[str]:
    yield _row(table.header)
    yield "|---" + "|--:" * (len(table.header) - 1) + "|"
    yield from (_row(row) for row in table.rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
