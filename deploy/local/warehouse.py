"""The ClickHouse engine behind its HTTP interface, as a part of the stack. The server itself: deploy/local/warehouse_server."""

import sys
from pathlib import Path

from deploy.local.health import LOOPBACK, http_answers
from deploy.local.part import Part

NAME = "warehouse"
USUAL_PORT = 8123


def warehouse_part(directory: Path, port: int, writer_password: str, reader_password: str) -> Part:
    """Passwords go by the environment: a command line is there for everybody to read."""
    arguments = ("--directory", str(directory / "data"), "--host", LOOPBACK, "--port", str(port))
    environment = {
        "TAILRACE_WAREHOUSE_SERVER_WRITER_PASSWORD": writer_password,
        "TAILRACE_WAREHOUSE_SERVER_READER_PASSWORD": reader_password,
    }
    command = (sys.executable, "-m", "deploy.local.warehouse_server", *arguments)
    return Part(NAME, command, directory, port, lambda: http_answers(f"http://{LOOPBACK}:{port}/ping"), environment)
