"""A warehouse server as a process of its own, for the tests that speak to one."""

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from deploy.local.ports import free_port
from tests.waiting import eventually

WRITER, READER = ("tailrace", "the writer's"), ("reader", "the reader's")
DEADLINE_SECONDS = 30


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> int:
        return int(self.headers.get("x-clickhouse-exception-code", "0"))


@dataclass(frozen=True)
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(
        self,
        body: bytes | str = b"",
        *,
        user: tuple[str, str] | None = WRITER,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            sent = body.encode() if isinstance(body, str) else body
            path = f"/?{urlencode(arguments)}" if arguments else "/"
            connection.request(method, path, sent or None, {**authorization(user), **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def rows(self, sql: str, **arguments: Any) -> list[str]:
        reply = self.ask(sql, **arguments)
        assert reply.status == 200, reply.text
        return reply.text.splitlines()


def authorization(user: tuple[str, str] | None) -> dict[str, str]:
    return {} if user is None else {"Authorization": "Basic " + base64.b64encode(":".join(user).encode()).decode()}


def command(directory: Path, port: int, *options: str) -> tuple[list[str], dict[str, str]]:
    passwords = {
        "TAILRACE_WAREHOUSE_SERVER_WRITER_PASSWORD": WRITER[1],
        "TAILRACE_WAREHOUSE_SERVER_READER_PASSWORD": READER[1],
    }
    arguments = ["--directory", str(directory), "--port", str(port), *options]
    return [sys.executable, "-m", "deploy.local.warehouse_server", *arguments], {**os.environ, **passwords}


def start(directory: Path, *options: str) -> Server:
    port, log = free_port(), directory.with_suffix(".log")
    line, environment = command(directory, port, *options)
    with log.open("ab") as output:
        process = subprocess.Popen(line, env=environment, stdout=output, stderr=output)
    server = Server(port, process, log)
    assert eventually(lambda: alive(server), DEADLINE_SECONDS), "not in time"
    return server


def alive(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


def stop(server: Server, how: signal.Signals = signal.SIGTERM) -> int:
    server.process.send_signal(how)
    return server.process.wait(DEADLINE_SECONDS)
