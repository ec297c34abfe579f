"""A fleet of two whose processes cannot come up while a file is there: tells its URL, and ends by a signal."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving_worker.http.server import ServerLimits, listen, run_fleet, url_of
from serving_worker.stderr_log import log_to_stderr


async def answer(_request: Request) -> Response:
    return Response()


def new_app(broken: Path) -> Starlette:
    log_to_stderr()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if is_broken:
            raise RuntimeError("as it is to be")
        yield

    is_broken = broken.exists()

    return Starlette(routes=[Route("/", answer)], lifespan=lifespan)


if __name__ == "__main__":
    log_to_stderr()
    with listen("127.0.0.1", 0) as listener:
        sys.stdout.write(f"serving on {url_of(listener)}\n")
        sys.stdout.flush()
        run_fleet(partial(new_app, Path(sys.argv[1])), listener, 2, ServerLimits(10.0, 1.0))
