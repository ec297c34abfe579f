"""Apicurio's registry, which speaks Confluent's registry API, with its schemas in an H2 file in the stack's home.

H2 would write a commit to its file half a second late; WRITE_DELAY=0 has it written before the answer goes out, so that what
was registered survives a kill -9.
"""

from pathlib import Path

from deploy.local.artifacts import Programs
from deploy.local.health import LOOPBACK, http_answers
from deploy.local.java import JavaProgram, startup_cache
from deploy.local.part import Part
from deploy.local.state import REGISTRY_API

NAME = "registry"
USUAL_PORT = 8081


def registry_program(programs: Programs, cache: Path) -> JavaProgram:
    """The quick compiler alone: a registry of a few schemas never runs hot, and it starts with half the work."""
    return JavaProgram(
        options=("-Xms64m", "-Xmx256m", "-XX:TieredStopAtLevel=1"),
        start=("-jar", str(programs.registry / "quarkus-run.jar")),
        startup_cache=startup_cache(cache, NAME, programs.key),
    )


def registry_part(program: JavaProgram, directory: Path, port: int) -> Part:
    environment = {
        "QUARKUS_HTTP_HOST": LOOPBACK,
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_MANAGEMENT_HOST": LOOPBACK,
        "QUARKUS_MANAGEMENT_PORT": "0",  # its health endpoint on any free port: we ask the API itself
        "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{directory / 'registry'};WRITE_DELAY=0",
    }
    health = f"http://{LOOPBACK}:{port}{REGISTRY_API}/config"
    return Part(NAME, program.command(), directory, port, lambda: http_answers(health), environment)
