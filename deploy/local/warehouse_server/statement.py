"""What a query's text is: its first word, its output format, and for an insert where the statement ends and the data begin.

Pure. The engine runs results into a pipe and inserts from a file, both by clauses of its own (INTO OUTFILE, FROM INFILE); this
module knows at which byte those clauses go. The grammar is ClickHouse's: ParserInsertQuery, ParserQueryWithOutput.
"""

from dataclasses import dataclass
from itertools import islice

from deploy.local.warehouse_server.errors import SYNTAX_ERROR, refusal
from deploy.local.warehouse_server.tokens import Kind, Token, tokens

INSERT_HEAD_BYTES_MAX = 262_144
"""The part of a body in which an insert's data must begin: the default of ClickHouse's max_query_size."""

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True, slots=True)
class DataInsert:
    """An INSERT whose rows follow its text."""

    before_source: bytes
    """Up to where `FROM INFILE …` goes."""
    after_source: bytes
    """The SETTINGS that follow, if any."""
    select: bytes
    """`SELECT … FROM input(…)`, if the data go through one."""
    format: str
    data_start: int
    """The byte at which the data begin."""

    def from_file(self, path: str) -> str:
        parts = (self.before_source, f"FROM INFILE '{path}' COMPRESSION 'none'".encode(), self.after_source, self.select)
        return b" ".join(parts).decode("utf-8", "surrogateescape") + f" FORMAT {self.format}"


@dataclass(frozen=True, slots=True)
class Plain:
    """Any other statement: it is run as it stands, its result into a pipe where it has one."""

    text: bytes
    format: str | None
    """What its FORMAT clause names."""
    output_at: int
    """The byte at which INTO OUTFILE goes."""

    def into_file(self, path: str) -> str:
        clause = f" INTO OUTFILE '{path}' APPEND ".encode()
        return (self.text[: self.output_at] + clause + self.text[self.output_at :]).decode("utf-8", "surrogateescape")

    def as_it_stands(self) -> str:
        return self.text.decode("utf-8", "surrogateescape")


def data_insert(text: bytes) -> DataInsert | None:
    """The insert that `text` begins with, or None where it is another statement or has no data of its own."""
    stream = tokens(text[:INSERT_HEAD_BYTES_MAX])
    if next((token.word for token in stream), "") != "INSERT":
        return None
    depth, settings_at, select_at, takes_input = 0, None, None, False
    previous: Token | None = None
    for token in stream:
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth or (previous and previous.text == ".") or (previous and previous.word in {"INTO", "TABLE"}):
            takes_input = takes_input or token.name == "input"
        elif token.word == "VALUES" and select_at is None:
            return _insert(text, settings_at, select_at, token, ("Values", token.end))
        elif token.word == "FORMAT" and (select_at is None or takes_input):
            return _insert(text, settings_at, select_at, token, _formatted(text, token))
        elif token.word == "SETTINGS" and settings_at is None and select_at is None:
            settings_at = token.start
        elif token.word in {"SELECT", "WITH"} and select_at is None:
            select_at = token.start
        takes_input = takes_input or (select_at is not None and token.name == "input")
        previous = token
    return None


def _insert(text: bytes, settings_at: int | None, select_at: int | None, last: Token, data: tuple[str, int]) -> DataInsert | None:
    name, data_start = data
    source_at = min(at for at in (settings_at, select_at, last.start) if at is not None)
    select_start = last.start if select_at is None else select_at
    if not name:
        return None
    return DataInsert(text[:source_at], text[source_at:select_start], text[select_start : last.start], name, data_start)


def _formatted(text: bytes, keyword: Token) -> tuple[str, int]:
    """The format's name, and where the data begin: after blanks and one line end, or after a semicolon."""
    following = list(islice(tokens(text[keyword.end : keyword.end + 256]), 2))
    if not following or not following[0].name:
        return "", 0
    at = keyword.end + following[0].end
    if len(following) > 1 and following[1].text == ";":
        at = keyword.end + following[1].end
    while text[at : at + 1] in {b" ", b"\t", b"\f"}:
        at += 1
    if text[at : at + 1] == b"\r":
        at += 1
    return following[0].text, at + (text[at : at + 1] == b"\n")


def plain(text: bytes) -> Plain:
    """`text` as a statement without data; ServerError 62 where it is none. A trailing semicolon stays behind the clause."""
    found = list(tokens(text))
    while found and found[-1].text == ";":
        found.pop()
    if not found:
        raise refusal(SYNTAX_ERROR, "Syntax error: Empty query")
    at = _format_at(found)
    if at is None:
        return Plain(text, None, found[-1].end)
    return Plain(text, found[at + 1].text, found[at].start)


def _format_at(found: list[Token]) -> int | None:
    """The index of the FORMAT keyword that ends the statement: only SETTINGS may follow its name."""
    for index in range(len(found) - 2, -1, -1):
        if found[index].word == "FORMAT" and found[index + 1].kind in (Kind.WORD, Kind.QUOTED):
            rest = found[index + 2 :]
            return index if not rest or rest[0].word == "SETTINGS" else None
    return None
