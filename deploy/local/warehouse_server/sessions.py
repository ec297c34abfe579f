"""Sessions: a client that names one keeps its connection, with what it SET and its temporary tables, from request to request.

As in ClickHouse one request at a time may use a session, and it ends when nobody has used it for its timeout. Used from the event
loop alone; connections are opened in engine threads, and closed in them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.local.warehouse_server.engine import Connection
from deploy.local.warehouse_server.errors import (
    INVALID_SESSION_TIMEOUT,
    SESSION_IS_LOCKED,
    SESSION_NOT_FOUND,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    refusal,
)
from deploy.local.warehouse_server.metrics import ServerMetrics
from deploy.local.warehouse_server.query import Query

SESSION_SECONDS_MAX = 3600
"""ClickHouse's max_session_timeout."""


@dataclass(slots=True)
class Session:
    key: tuple[str, str]
    """The user and the session_id: nobody enters another user's session."""
    expires_at: float
    busy: bool = True
    connection: Connection | None = None
    """Opened by the first request that comes as far as the engine."""


@dataclass(slots=True)
class Sessions:
    sessions_max: int
    metrics: ServerMetrics
    close: Callable[[Connection], object]
    """Closes a connection away from the event loop."""
    _open: dict[tuple[str, str], Session] = field(default_factory=dict)

    def enter(self, query: Query, now: float) -> Session | None:
        """The request's session, or None where it names none. Raises ServerError 372, 373, 374 as ClickHouse does."""
        if query.session_id is None:
            return None
        self._end_expired(now)
        key, seconds = (query.user, query.session_id), _seconds(query.session_seconds)
        session = self._open.get(key)
        if session is None:
            if query.session_must_exist:
                raise refusal(SESSION_NOT_FOUND, "Session not found")
            session = self._begin(key, now)
        elif session.busy:
            raise refusal(SESSION_IS_LOCKED, "Session is locked by a concurrent client")
        session.busy, session.expires_at = True, now + seconds
        return session

    def leave(self, session: Session, query: Query, now: float) -> None:
        session.busy, session.expires_at = False, now + _seconds(query.session_seconds)

    def _begin(self, key: tuple[str, str], now: float) -> Session:
        if len(self._open) >= self.sessions_max:
            self._end_oldest()
        session = self._open[key] = Session(key, now)
        return session

    def _end_expired(self, now: float) -> None:
        for session in [session for session in self._open.values() if not session.busy and session.expires_at < now]:
            self._end(session)

    def _end_oldest(self) -> None:
        """Room for one more: the idle session that was to end first ends now."""
        self.metrics.rejected.labels("too_many_sessions").inc()
        idle = [session for session in self._open.values() if not session.busy]
        if not idle:
            raise refusal(
                TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many sessions: all {self.sessions_max} are busy, which is this server's limit.",
            )
        self._end(min(idle, key=lambda session: session.expires_at))

    def _end(self, session: Session) -> None:
        del self._open[session.key]
        if session.connection is not None:
            self.close(session.connection)


def _seconds(value: str) -> int:
    if not value.isdecimal() or int(value) > SESSION_SECONDS_MAX:
        raise refusal(INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{value}': at most {SESSION_SECONDS_MAX} seconds")
    return int(value)
