"""Errors as ClickHouse says them: a code, a text, and the HTTP status that its server answers with.

`ServerError` is the one exception of this package: what the engine refused (its own code and text) and what the edge refused
before it. The caller may correct and ask again; nothing here is retried by the server.
"""

import re

BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
SYNTAX_ERROR = 62
UNKNOWN_SETTING = 115
READONLY = 164
REQUIRED_PASSWORD = 194
TOO_MANY_SIMULTANEOUS_QUERIES = 202
UNKNOWN_COMPRESSION_METHOD = 89
CANNOT_DECOMPRESS = 271
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
INVALID_SESSION_TIMEOUT = 374
QUERY_IS_TOO_LARGE = 229
QUERY_WAS_CANCELLED = 394
SETTING_CONSTRAINT_VIOLATION = 452
ACCESS_DENIED = 497
AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002

NAMES = {
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    READONLY: "READONLY",
    REQUIRED_PASSWORD: "REQUIRED_PASSWORD",
    TOO_MANY_SIMULTANEOUS_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    UNKNOWN_COMPRESSION_METHOD: "UNKNOWN_COMPRESSION_METHOD",
    CANNOT_DECOMPRESS: "CANNOT_DECOMPRESS",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    INVALID_SESSION_TIMEOUT: "INVALID_SESSION_TIMEOUT",
    QUERY_IS_TOO_LARGE: "QUERY_IS_TOO_LARGE",
    QUERY_WAS_CANCELLED: "QUERY_WAS_CANCELLED",
    SETTING_CONSTRAINT_VIOLATION: "SETTING_CONSTRAINT_VIOLATION",
    ACCESS_DENIED: "ACCESS_DENIED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}

_CODE = re.compile(r"Code: (\d+)\.")
_WRAPPED = re.compile(r"\A(?:Code: \d+\. DB::Exception: )+(?=Code: \d+\. DB::)")
_WRAPPED_END = re.compile(r" \(([A-Z][A-Z0-9_]+)\)(?: \(version [0-9.]+\)\.? \([A-Z][A-Z0-9_]+\))+\Z")
_SPOOLED = re.compile(r": \(in file/uri [^)]*\)|: data for INSERT was parsed from file|: While executing File(?=[:. ])")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*\Z")

_STATUSES = {
    401: "REQUIRED_PASSWORD",
    403: "UNKNOWN_USER WRONG_PASSWORD AUTHENTICATION_FAILED SET_NON_GRANTED_ROLE ACCESS_DENIED",
    400: "BAD_ARGUMENTS CANNOT_COMPILE_REGEXP CANNOT_PARSE_TEXT CANNOT_PARSE_ESCAPE_SEQUENCE CANNOT_PARSE_QUOTED_STRING "
    "CANNOT_PARSE_DATE CANNOT_PARSE_DATETIME CANNOT_PARSE_NUMBER CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING CANNOT_PARSE_IPV4 "
    "CANNOT_PARSE_IPV6 CANNOT_PARSE_INPUT_ASSERTION_FAILED CANNOT_PARSE_UUID DUPLICATE_COLUMN ILLEGAL_COLUMN "
    "UNKNOWN_ELEMENT_IN_AST UNKNOWN_TYPE_OF_AST_NODE THERE_IS_NO_COLUMN TOO_DEEP_AST TOO_BIG_AST "
    "UNEXPECTED_AST_STRUCTURE SYNTAX_ERROR INCORRECT_DATA TYPE_MISMATCH VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    404: "UNKNOWN_TABLE UNKNOWN_FUNCTION UNKNOWN_IDENTIFIER UNKNOWN_TYPE UNKNOWN_STORAGE UNKNOWN_DATABASE UNKNOWN_SETTING "
    "UNKNOWN_DIRECTION_OF_SORTING UNKNOWN_AGGREGATE_FUNCTION UNKNOWN_FORMAT UNKNOWN_DATABASE_ENGINE "
    "UNKNOWN_TYPE_OF_QUERY UNKNOWN_ROLE",
    413: "QUERY_IS_TOO_LARGE",
    501: "NOT_IMPLEMENTED",
    503: "SOCKET_TIMEOUT CANNOT_OPEN_FILE CANNOT_SCHEDULE_TASK",
    408: "TIMEOUT_EXCEEDED",
}
_STATUS_BY_NAME = {name: status for status, names in _STATUSES.items() for name in names.split()}
"""ClickHouse's src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; all others are 500."""


class ServerError(Exception):
    """`text` is the whole of ClickHouse's line, without the version that its server ends it with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text

    @property
    def http_status(self) -> int:
        name = _NAME.search(self.text)
        return _STATUS_BY_NAME.get(name.group(1), 500) if name else 500


def refusal(code: int, message: str) -> ServerError:
    """An error of the edge's own, in ClickHouse's words."""
    return ServerError(code, f"Code: {code}. DB::Exception: {message} ({NAMES[code]})")


def from_engine(message: str) -> ServerError:
    """The engine's message as its server would word it.

    The binding puts words of its own in front, wraps the engine's line into a second one, and names the file that the edge had
    spooled an insert's rows to.
    """
    match = _CODE.search(message)
    if match is None:
        return refusal(UNKNOWN_EXCEPTION, message.strip() or "the engine gave no reason")
    text = _WRAPPED_END.sub(r" (\1)", _WRAPPED.sub("", message[match.start() :].strip()))
    return ServerError(int(match.group(1)), _SPOOLED.sub("", text))
