"""A worker for the benchmark of serving: `python -m tests.benchmarks.served LOOP PARSER [silent]`. Prints its URL."""

import os
import sys

import uvicorn

from producers.config import ProducerSettings
from producers.emitter import Emitter
from producers.main import emitter_for
from serving_worker.config import WorkerSettings
from serving_worker.http.server import leave_requests_to_reference_counts, listen, url_of
from serving_worker.main import build_app, load
from tests.blast_radius.silent_worker import Silent


def main() -> None:
    loop, parser, *rest = sys.argv[1:]
    settings = WorkerSettings.from_environment(os.environ)
    emitter: Emitter = Silent() if rest else emitter_for(ProducerSettings.from_environment(os.environ))
    listener = listen("127.0.0.1", 0)
    print(f"serving on {url_of(listener)}", flush=True)
    app = build_app(settings, load(settings), emitter)
    leave_requests_to_reference_counts()
    config = uvicorn.Config(app, loop=loop, http=parser, log_config=None, access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
