"""SQL text as tokens, by ClickHouse's own lexical rules (src/Parsers/Lexer.cpp).

Pure. Works on bytes, so that the place where a query ends and its data begins is exact whatever the data are. Comments and white
space are left out; strings, heredocs and quoted identifiers are each one token, so that nothing inside them is taken for SQL.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str
    """An identifier's name without its quotes, a string with them."""
    start: int
    end: int

    @property
    def word(self) -> str:
        """Upper case for a bare word, otherwise empty: keywords are never quoted."""
        return self.text.upper() if self.kind is Kind.WORD else ""

    @property
    def name(self) -> str:
        """Lower case for what can name an engine, a function or a setting: a bare word or a quoted identifier."""
        return self.text.lower() if self.kind in (Kind.WORD, Kind.QUOTED) else ""


_SKIPPED = (
    rb"(?:[\s\x00]|\xc2\xa0|\xe2\x80[\x80-\x8b\xa8\xa9\xaf]|\xe3\x80\x80|\xef\xbb\xbf"
    rb"|--[^\n]*|\xe2\x88\x92\xe2\x88\x92[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z))+"
)
_TOKEN = re.compile(
    rb"(?P<skipped>" + _SKIPPED + rb")"
    rb"|(?P<word>[A-Za-z_][A-Za-z0-9_$]*)"
    rb"|(?P<number>[0-9][A-Za-z0-9_.]*)"
    rb"|(?P<string>'(?:[^'\\]|\\.|'')*'|\xe2\x80\x98.*?\xe2\x80\x99|\$(?P<tag>[A-Za-z0-9_]*)\$.*?\$(?P=tag)\$)"
    rb"|(?P<quoted>\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`\\]|\\.|``)*`|\xe2\x80\x9c.*?\xe2\x80\x9d)"
    rb"|(?P<sign>.)",
    re.DOTALL,
)
_KINDS = {"word": Kind.WORD, "number": Kind.NUMBER, "string": Kind.STRING, "quoted": Kind.QUOTED, "sign": Kind.SIGN}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "e": "\x1b"}
_ESCAPED = re.compile(r"\\x([0-9A-Fa-f]{2})|\\(.)|(``|\"\")", re.DOTALL)


def tokens(text: bytes | mmap.mmap) -> Iterator[Token]:
    """Every token of `text`, lazily: a reader that has seen enough stops without looking at what follows."""
    for match in _TOKEN.finditer(text):
        kind = _KINDS.get(match.lastgroup or "")
        if kind is not None:
            raw = match.group().decode("utf-8", "surrogateescape")
            yield Token(kind, unquoted(raw) if kind is Kind.QUOTED else raw, match.start(), match.end())


def unquoted(identifier: str) -> str:
    r"""What a quoted identifier names: `Kaf\x6ba` in backticks is Kafka."""
    return _ESCAPED.sub(_unescaped, identifier[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    code, letter, doubled = match.groups()
    if code is not None:
        return chr(int(code, 16))
    return doubled[0] if doubled else _ESCAPES.get(letter, letter)
