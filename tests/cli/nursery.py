"""As `tests.e2e.nursery`, for one command each: everything imported, it forks a `relay` that has only to do its work.

python -m tests.cli.nursery FD
"""

import os
import socket
import sys
from typing import NoReturn

import rich.table  # noqa: F401 - commands import these when they need them

import relay.app  # noqa: F401
from relay.cli import main
from tests.e2e import nursery


def run(word: nursery.Word, *streams: int) -> NoReturn:
    """Be `relay` with these arguments."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(word["environment"])
    sys.argv = ["relay", *word["arguments"]]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    nursery.main(socket.socket(fileno=int(sys.argv[1])), run)
