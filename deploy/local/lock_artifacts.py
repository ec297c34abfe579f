"""Write `artifacts.lock` anew: `python -m deploy.local.lock_artifacts`, after a version below was changed.

Kafka's tree is resolved from its POM alone: resolved together with log4j's, log4j's managed versions would win over Kafka's
own. The lock names no address; jgo knows Maven Central's.
"""

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from deploy.local.artifacts import DOWNLOAD_THREADS, LOCK_FILE, Artifact, download

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:{log4j}@jar"
REGISTRY = "io.apicurio:apicurio-registry-app:3.3.3:all@tar.gz"

HEADER = """\
# The programs of the local stack: group:artifact:version[:classifier]@packaging, SHA-256 sum.
# Written by `make lock-artifacts`.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        kafka = _runtime_tree(KAFKA, Path(scratch))
        log4j = next(artifact.version for artifact in kafka if artifact.name == "log4j-api")
        wanted = [*kafka, _unsummed(LOG_BINDING.format(log4j=log4j)), _unsummed(REGISTRY)]
        with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
            summed = list(pool.map(lambda artifact: _summed(artifact, Path(scratch)), wanted))
    lines = sorted(f"{artifact} {artifact.sha256}" for artifact in summed)
    LOCK_FILE.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{LOCK_FILE}: {len(lines)} artifacts")


def _runtime_tree(root: str, scratch: Path) -> list[Artifact]:
    context = MavenContext(PythonResolver(), repo_cache=scratch)
    inputs, transitive = context.resolver.resolve([context.create_dependency(root)])
    return [
        Artifact(found.groupId, found.artifactId, found.version, found.classifier, found.artifact.packaging, "")
        for found in (*inputs, *transitive)
    ]


def _summed(artifact: Artifact, scratch: Path) -> Artifact:
    return replace(artifact, sha256=hashlib.sha256(download(artifact, scratch).read_bytes()).hexdigest())


def _unsummed(coordinate: str) -> Artifact:
    return Artifact.parse(f"{coordinate} -")


if __name__ == "__main__":
    main()
