"""The other side of `Nursery`: everything imported, it forks a relay for each word that comes over the socket.

    python -m tests.e2e.nursery FD

It answers with the child's id and, when the child has ended, its exit code.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import socket
import sys
from functools import partial

from relay.app import serve
from relay.settings import load

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """No relay outlives its tests, however they end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(told: socket.socket) -> None:
    """Fork for each word."""
    end_with_parent()
    gc.freeze()
    while True:
        words, fds, _, _ = socket.recv_fds(told, 65536, 1)
        if not words:
            return
        pid = os.fork()
        if pid == 0:
            told.close()
            end_with_parent()
            run(json.loads(words), fds[0])
        os.close(fds[0])
        told.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        told.send(str(os.waitstatus_to_exitcode(status)).encode())


def run(words: dict[str, object], stderr: int) -> None:
    """Be relay; never returns."""
    os.dup2(stderr, 2)
    os.close(stderr)
    environment = words["environment"]
    assert isinstance(environment, dict)
    os.environ.update(environment)
    code = 1
    try:
        reload = partial(load, str(words["config"]))
        asyncio.run(serve(reload(), reload))
        code = 0
    except BaseException:  # noqa: BLE001 - the top of a process
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
