"""The programs of the local stack that come as Maven artifacts: Apache Kafka and Apicurio's registry.

`artifacts.lock` names each by its exact coordinate and the SHA-256 sum of its bytes. A file is moved into the cache only after
its sum was found right, so what lies there is whole; what lies there is not fetched again.
"""

import hashlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.local.locking import held
from schemas.errors import PartUnreachable

LOCK_FILE = Path(__file__).with_name("artifacts.lock")
DOWNLOAD_THREADS = 8
DOWNLOAD_TIMEOUT_S = 30
PREPARATION_TIMEOUT_S = 900
REGISTRY_GROUP = "io.apicurio"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a Maven repository, and what its bytes must sum to. Without a classifier, `classifier` is empty."""

    group: str
    name: str
    version: str
    classifier: str
    packaging: str
    sha256: str

    @classmethod
    def parse(cls, line: str) -> "Artifact":
        """From `group:artifact:version[:classifier]@packaging sha256`."""
        coordinate, sha256 = line.split()
        place, _, packaging = coordinate.partition("@")
        group, name, version, *classifier = place.split(":")
        return cls(group, name, version, "".join(classifier), packaging, sha256)

    def __str__(self) -> str:
        parts = [self.group, self.name, self.version, *([self.classifier] if self.classifier else [])]
        return f"{':'.join(parts)}@{self.packaging}"

    @property
    def file_name(self) -> str:
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"

    def cached(self, cache: Path) -> Path:
        return cache / "artifacts" / self.sha256 / self.file_name


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the fetched programs lie. `key` stands for their versions."""

    kafka_jars: tuple[Path, ...]
    registry: Path
    key: str


def locked_artifacts(lock_file: Path = LOCK_FILE) -> tuple[Artifact, ...]:
    lines = lock_file.read_text(encoding="utf-8").splitlines()
    return tuple(Artifact.parse(line) for line in lines if line and not line.startswith("#"))


def cached_programs(cache: Path, artifacts: Sequence[Artifact]) -> Programs:
    """Where the programs lie once they have been fetched."""
    jars = tuple(artifact.cached(cache) for artifact in artifacts if artifact.group != REGISTRY_GROUP)
    registry = next(artifact for artifact in artifacts if artifact.group == REGISTRY_GROUP)
    key = hashlib.sha256("".join(artifact.sha256 for artifact in artifacts).encode()).hexdigest()[:16]
    return Programs(jars, cache / "unpacked" / registry.sha256, key)


def fetch_programs(cache: Path, report: Report, artifacts: Sequence[Artifact] | None = None) -> Programs:
    """Fetch and unpack what the cache lacks. Raises PartUnreachable: no network, a sum that differs, a disk that refuses."""
    wanted = locked_artifacts() if artifacts is None else artifacts
    programs = cached_programs(cache, wanted)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with held(cache / "lock", PREPARATION_TIMEOUT_S):
            _fetch_missing(cache, wanted, report)
            _unpack_registry(cache, wanted, programs)
    except OSError as error:
        raise PartUnreachable(
            "the cache of programs", str(cache), f"{error}; make room, or name another in TAILRACE_CACHE"
        ) from error
    return programs


def damaged(cache: Path, artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """What the cache lacks, or holds with another sum. Reads every byte."""
    for artifact in artifacts:
        path = artifact.cached(cache)
        if not path.is_file() or _sha256(path) != artifact.sha256:
            yield artifact


def download(artifact: Artifact, directory: Path) -> Path:
    """Fetch one file from Maven Central to below `directory`, unchecked. Raises PartUnreachable."""
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - 0.2 s, for those who have to fetch

    context = MavenContext(PythonResolver(), repo_cache=directory, timeout=DOWNLOAD_TIMEOUT_S)
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        return component.artifact(artifact.classifier, artifact.packaging).resolve()
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        remedy = (
            f"not in the cache and not to be fetched ({_cause(error)}); connect to the network, or copy a filled TAILRACE_CACHE"
        )
        raise PartUnreachable(str(artifact), "Maven Central", remedy) from error


def _fetch_missing(cache: Path, artifacts: Sequence[Artifact], report: Report) -> None:
    missing = [artifact for artifact in artifacts if not artifact.cached(cache).is_file()]
    if not missing:
        return
    with tempfile.TemporaryDirectory(dir=cache, prefix="partial-") as partial, ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
        fetches = [pool.submit(_fetch, artifact, cache, Path(partial)) for artifact in missing]
        try:
            for count, fetch in enumerate(fetches, start=1):
                report(f"fetched {count} of {len(missing)}: {fetch.result()}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fetch(artifact: Artifact, cache: Path, partial: Path) -> str:
    fetched = download(artifact, partial)
    if (sha256 := _sha256(fetched)) != artifact.sha256:
        remedy = (
            f"its SHA-256 sum is {sha256}, not the {artifact.sha256} of {LOCK_FILE.name}; do not use it, and see who changed it"
        )
        raise PartUnreachable(str(artifact), "Maven Central", remedy)
    target = artifact.cached(cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(target)
    return artifact.file_name


def _unpack_registry(cache: Path, artifacts: Sequence[Artifact], programs: Programs) -> None:
    if programs.registry.is_dir():
        return
    archive = next(artifact for artifact in artifacts if artifact.group == REGISTRY_GROUP)
    programs.registry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="partial-") as partial, tarfile.open(archive.cached(cache)) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11's first releases lack it
        packed.extractall(Path(partial) / "registry")  # noqa: S202 - its sum stands in our lock
        (Path(partial) / "registry").rename(programs.registry)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cause(error: BaseException) -> str:
    """The error's innermost cause in one line: libraries wrap theirs in pages of retries."""
    while isinstance(reason := getattr(error, "reason", None) or (error.args[0] if error.args else None), BaseException):
        error = reason
    return str(error).partition("\n")[0][:200]
