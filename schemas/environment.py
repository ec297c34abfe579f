"""Reading TAILRACE_* settings: all that is wrong is said at once.

A folder's `config.py` asks for each of its settings, then calls `refuse_problems`; values asked for in between may be stand-ins.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import ConfigurationError


def public_address(url: str) -> str:
    """The URL without its user and password, as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Environment:
    """Environment variables, with a memory of what was wrong with them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """The variable, or `default`; a problem where there is neither."""
        value = self._variables.get(name, "").strip() or default
        if value is None:
            self._problems.append(f"{name} is not set")
            return ""
        return value

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        raw = self.text(name, str(default))
        try:
            value = int(raw)
        except ValueError:
            self._problems.append(f"{name}={raw!r} is not a whole number")
            return default
        if not minimum <= value <= maximum:
            self._problems.append(f"{name}={value} is not within {minimum} and {maximum}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """`on` or `off`."""
        raw = self.text(name, "on" if default else "off")
        if raw not in {"on", "off"}:
            self._problems.append(f"{name}={raw!r} is neither on nor off")
        return raw == "on"

    def file(self, name: str) -> Path | None:
        """A path, None where the variable is not set."""
        raw = self.text(name, "")
        return Path(raw) if raw else None

    def url(self, name: str, default: str | None = None) -> str:
        """An http or https URL. The message never shows it: it may hold a password."""
        value = self.text(name, default)
        try:
            parts = urlsplit(value)
            well_formed = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            well_formed = False
        if value and not well_formed:
            self._problems.append(f"{name} is not a URL of the form http://host:port")
        return value

    def options(self, name: str) -> dict[str, str]:
        """`key=value` pairs, comma-separated, passed through to a client as they are."""
        pairs = [pair.strip() for pair in self.text(name, "").split(",") if pair.strip()]
        if wrong := [pair for pair in pairs if "=" not in pair]:
            self._problems.append(f"{name}: {', '.join(wrong)} is not key=value")
        return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}

    def problem(self, message: str) -> None:
        """Add what a folder's own check found."""
        self._problems.append(message)

    def refuse_problems(self) -> None:
        """Raises ConfigurationError that names every wrong setting."""
        if self._problems:
            raise ConfigurationError(tuple(self._problems))
