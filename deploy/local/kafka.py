"""Apache Kafka as one KRaft node on the loopback interface.

A record that was acknowledged is in the operating system's page cache, which outlives the death of the process: kill -9 of the
broker loses nothing. A power cut may; production has replicas against that, a stack on one machine has not.
"""

import base64
import secrets
import subprocess
from pathlib import Path

from deploy.local.artifacts import Programs
from deploy.local.health import LOOPBACK, kafka_answers
from deploy.local.java import JavaProgram, startup_cache
from deploy.local.part import Part
from schemas.errors import PartUnreachable

NAME = "kafka"
USUAL_PORT = 9092
FORMAT_TIMEOUT_S = 60

_HERE = Path(__file__).parent
_TEMPLATE = _HERE / "kafka.properties"
_LOGGING = _HERE / "kafka_log4j2.properties"


def kafka_program(programs: Programs, cache: Path, directory: Path) -> JavaProgram:
    class_path = ":".join(str(jar) for jar in programs.kafka_jars)
    return JavaProgram(
        options=("-Xms128m", "-Xmx512m", f"-Dlog4j2.configurationFile={_LOGGING}"),
        start=("-cp", class_path, "kafka.Kafka", str(directory / "server.properties")),
        startup_cache=startup_cache(cache, NAME, programs.key),
    )


def kafka_part(program: JavaProgram, directory: Path, port: int) -> Part:
    return Part(NAME, program.command(), directory, port, lambda: kafka_answers(port))


def prepare_kafka(programs: Programs, directory: Path, port: int, controller_port: int, cluster_id: str) -> None:
    """Write the settings; format the log directory where it is not. Raises PartUnreachable."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = _TEMPLATE.read_text(encoding="utf-8").format(
        host=LOOPBACK, port=port, controller_port=controller_port, log_directory=directory / "log"
    )
    (directory / "server.properties").write_text(settings, encoding="utf-8")
    if not (directory / "log" / "meta.properties").is_file():
        _format(programs, directory, cluster_id)


def new_cluster_id() -> str:
    """16 random bytes, as Kafka writes ids. One that begins with a dash would be taken for an option."""
    return base64.urlsafe_b64encode(b"T" + secrets.token_bytes(15)).decode().rstrip("=")


def _format(programs: Programs, directory: Path, cluster_id: str) -> None:
    settings = ("-c", str(directory / "server.properties"))
    program = JavaProgram(
        options=("-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={_LOGGING}"),
        start=("-cp", ":".join(map(str, programs.kafka_jars)), "kafka.tools.StorageTool", "format", "-t", cluster_id, *settings),
        startup_cache=directory / "none",
    )
    done = subprocess.run(program.command(), capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().rpartition("\n")[2]
        raise PartUnreachable("Kafka's log directory", str(directory), f"it cannot be formatted: {said}")
