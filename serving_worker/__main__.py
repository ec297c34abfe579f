"""`python -m serving_worker`: what `tailrace serve` does, for a host with nothing but the serving extra; exit codes are alike."""

import os
import sys

from schemas.errors import ConfigurationError, PartUnreachable
from serving_worker.main import serve
from serving_worker.stderr_log import log_to_stderr


def main() -> int:
    log_to_stderr()
    try:
        serve(os.environ, _announce)
    except ConfigurationError as error:
        return _refusal("\n  ".join(("wrong settings:", *error.problems)), 2)
    except PartUnreachable as error:
        return _refusal(str(error), 3)
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(f"serving on {url}\n")
    sys.stdout.flush()


def _refusal(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
