"""Where the parts of an installation are, and where the local stack keeps its things.

Everything comes from TAILRACE_* variables; `environment` completes those that are unset from the local stack that runs in
TAILRACE_HOME, so that a command finds a stack that `tailrace up` has started without anything exported.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local.state import Addresses, running_addresses
from schemas.environment import Environment
from schemas.errors import PartUnreachable
from schemas.topics import DEFAULT_PREFIX

KAFKA_BOOTSTRAP = "TAILRACE_KAFKA_BOOTSTRAP"
REGISTRY_URL = "TAILRACE_REGISTRY_URL"
WAREHOUSE_URL = "TAILRACE_WAREHOUSE_URL"
WAREHOUSE_READ_URL = "TAILRACE_WAREHOUSE_READ_URL"
TOPIC_PREFIX = "TAILRACE_TOPIC_PREFIX"


class RegistryAddress(Protocol):
    """Where the contracts are registered, and the prefix of their subjects. The URL may hold a password: never print it."""

    @property
    def registry_url(self) -> str: ...
    @property
    def topic_prefix(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry alone, for those who need no other part."""

    registry_url: str
    topic_prefix: str

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "Registry":
        """Raises ConfigurationError where the address is missing or malformed."""
        read = Environment(variables)
        registry = cls(read.url(REGISTRY_URL), read.text(TOPIC_PREFIX, DEFAULT_PREFIX))
        read.refuse_problems()
        return registry


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that provisioning has to know. URLs of the warehouse hold passwords: never print them."""

    kafka_bootstrap: str
    registry_url: str
    warehouse_url: str
    topic_prefix: str
    kafka_options: Mapping[str, str]
    warehouse_options: Mapping[str, str]

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "Installation":
        """Raises ConfigurationError where an address is missing or malformed."""
        read = Environment(variables)
        installation = cls(
            kafka_bootstrap=read.text(KAFKA_BOOTSTRAP),
            registry_url=read.url(REGISTRY_URL),
            warehouse_url=read.url(WAREHOUSE_URL),
            topic_prefix=read.text(TOPIC_PREFIX, DEFAULT_PREFIX),
            kafka_options=read.options("TAILRACE_KAFKA_OPTIONS"),
            warehouse_options=read.options("TAILRACE_WAREHOUSE_OPTIONS"),
        )
        read.refuse_problems()
        return installation


@dataclass(frozen=True, slots=True)
class StackSettings:
    """Where the local stack keeps its things and listens. A port of None is chosen at the first start."""

    home: Path
    cache: Path
    kafka_port: int | None
    registry_port: int | None
    warehouse_port: int | None

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "StackSettings":
        """Raises ConfigurationError where a port is not a port."""
        read = Environment(variables)
        settings = cls(
            home=home_of(variables),
            cache=_cache_of(variables),
            kafka_port=_port(read, "TAILRACE_KAFKA_PORT"),
            registry_port=_port(read, "TAILRACE_REGISTRY_PORT"),
            warehouse_port=_port(read, "TAILRACE_WAREHOUSE_PORT"),
        )
        read.refuse_problems()
        return settings


def environment() -> dict[str, str]:
    """The process's variables, completed by the addresses of the local stack that runs in TAILRACE_HOME."""
    variables = dict(os.environ)
    addresses = running_addresses(home_of(variables))
    return variables if addresses is None else completed(variables, addresses)


def completed(variables: Mapping[str, str], addresses: Addresses) -> dict[str, str]:
    """`variables`, with the local stack's address for every part that they do not name."""
    found = {name: value for name, value in variables.items() if value.strip()}
    local = exported(addresses)
    if WAREHOUSE_URL in found:
        local.pop(WAREHOUSE_READ_URL, None)  # the readers' default is the writer's URL, not another warehouse
    return {**local, **found}


def exported(addresses: Addresses) -> dict[str, str]:
    """The local stack's addresses as variables."""
    named = {
        KAFKA_BOOTSTRAP: addresses.kafka_bootstrap,
        REGISTRY_URL: addresses.registry_url,
        WAREHOUSE_URL: addresses.warehouse_url,
        WAREHOUSE_READ_URL: addresses.warehouse_read_url,
    }
    return {name: address for name, address in named.items() if address is not None}


def installation() -> Installation:
    """The installation that the environment names, or the local stack that runs.

    Raises PartUnreachable where nothing is named and nothing runs.
    """
    variables = environment()
    if not any(variables.get(name) for name in (KAFKA_BOOTSTRAP, REGISTRY_URL, WAREHOUSE_URL)):
        raise nothing_runs(home_of(variables))
    return Installation.from_environment(variables)


def registry() -> Registry:
    """The same of the registry alone."""
    variables = environment()
    if not variables.get(REGISTRY_URL):
        raise nothing_runs(home_of(variables))
    return Registry.from_environment(variables)


def nothing_runs(home: Path) -> PartUnreachable:
    remedy = f"run `tailrace up`, or name existing services in {KAFKA_BOOTSTRAP}, {REGISTRY_URL} and {WAREHOUSE_URL}"
    return PartUnreachable("no local stack runs", str(home), remedy)


def home_of(variables: Mapping[str, str]) -> Path:
    return Path(variables.get("TAILRACE_HOME", "").strip() or ".tailrace").expanduser().resolve()


def _cache_of(variables: Mapping[str, str]) -> Path:
    if named := variables.get("TAILRACE_CACHE", "").strip():
        return Path(named).expanduser().resolve()
    base = variables.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    return Path(base).expanduser().resolve() / "tailrace"


def _port(read: Environment, name: str) -> int | None:
    return read.integer(name, 0, minimum=0, maximum=65535) or None
