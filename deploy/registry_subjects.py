"""The contracts of an installation in its schema registry: every version of every contract, FULL_TRANSITIVE.

Only provisioning registers; producers look ids up.
"""

from collections.abc import Iterator

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.common._httpx_compat import httpx  # the client raises this library's errors as they are
from confluent_kafka.schema_registry.error import SchemaRegistryError

from deploy.outcome import Outcome, Problem
from deploy.settings import RegistryAddress
from schemas.contracts import Contract, Version, load_contracts
from schemas.environment import public_address
from schemas.errors import PartUnreachable
from schemas.topics import TOPICS, subject

COMPATIBILITY = "FULL_TRANSITIVE"
REGISTRY_TIMEOUT_S = 10
_NOT_FOUND = 404


def provision_subjects(registry: RegistryAddress) -> Outcome:
    """Register the versions that are missing, the oldest first. Raises PartUnreachable, also where a version is refused."""
    try:
        with _client(registry) as client:
            made = [made for name, contract in _subjects(registry) for made in _provision_subject(client, name, contract)]
    except (SchemaRegistryError, httpx.TransportError) as error:
        raise _unreachable(registry, error) from error
    return Outcome("schemas", tuple(made))


def examine_subjects(registry: RegistryAddress) -> list[Problem]:
    """What is wrong with the registered contracts. Raises PartUnreachable."""
    where = public_address(registry.registry_url)
    try:
        with _client(registry) as client:
            return [problem for name, contract in _subjects(registry) for problem in _problems(client, name, contract, where)]
    except (SchemaRegistryError, httpx.TransportError) as error:
        raise _unreachable(registry, error) from error


def _client(registry: RegistryAddress) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": registry.registry_url, "timeout": REGISTRY_TIMEOUT_S, "max.retries": 1})


def _subjects(registry: RegistryAddress) -> Iterator[tuple[str, Contract]]:
    contracts = load_contracts()
    for topic in TOPICS:
        if topic.record is not None:
            yield subject(registry.topic_prefix, topic), contracts[topic.record]


def _provision_subject(client: SchemaRegistryClient, name: str, contract: Contract) -> Iterator[str]:
    """The level can be set only once the subject has a version (Apicurio), so the oldest goes first."""
    for version in contract.versions:
        if not _registered(client, name, version):
            client.register_schema(name, _avro(version))
            yield f"{name} v{version.number}"
        if version is contract.versions[0]:
            _enforce_level(client, name)


def _enforce_level(client: SchemaRegistryClient, name: str) -> None:
    """Apicurio answers 409 where another `up` sets the level at this moment: what counts is the level."""
    if _level(client, name) == COMPATIBILITY:
        return
    try:
        client.set_compatibility(name, COMPATIBILITY)
    except SchemaRegistryError:
        if _level(client, name) != COMPATIBILITY:
            raise


def _problems(client: SchemaRegistryClient, name: str, contract: Contract, where: str) -> Iterator[Problem]:
    remedy = "run `tailrace schemas register`"
    for version in contract.versions:
        if not _registered(client, name, version):
            yield Problem(f"{name} lacks version {version.number} of {contract.record}", where, remedy)
    if (level := _level(client, name)) != COMPATIBILITY:
        yield Problem(f"{name} has the compatibility {level}, not {COMPATIBILITY}", where, remedy)


def _registered(client: SchemaRegistryClient, name: str, version: Version) -> bool:
    try:
        client.lookup_schema(name, _avro(version))
    except SchemaRegistryError as error:
        if error.http_status_code != _NOT_FOUND:
            raise
        return False
    return True


def _level(client: SchemaRegistryClient, name: str) -> str | None:
    """The subject's own level, None where it has none."""
    try:
        return client.get_compatibility(name)
    except SchemaRegistryError as error:
        if error.http_status_code != _NOT_FOUND:
            raise
        return None


def _avro(version: Version) -> Schema:
    return Schema(version.text, "AVRO")


def _unreachable(registry: RegistryAddress, error: Exception) -> PartUnreachable:
    remedy = (
        f"it answers {str(error)!r}; check TAILRACE_REGISTRY_URL and that the registry runs (`tailrace status` for a local one)"
    )
    return PartUnreachable("the schema registry", public_address(registry.registry_url), remedy)
