"""The other side of `Nursery`: everything imported, it forks a relay for each word that comes over the socket.

    python -m tests.e2e.nursery FD

With each come file descriptors: the child's standard error (of another kind of child's, all that it reads and writes),
and a socket on which is told the child's id and, when it has ended, its exit code.
"""

import asyncio
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias

from relay.app import serve
from relay.settings import load
from tests.faults.mutants import MUTANTS

PR_SET_PDEATHSIG = 1


Word: TypeAlias = Mapping[str, Any]
"""What a child is to be: here its `config` and its `environment`."""
Be: TypeAlias = Callable[..., NoReturn]
"""Is it, given the word and the file descriptors."""


def end_with_parent() -> None:
    """No relay outlives its tests, however they end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(words: socket.socket, be: Be | None = None) -> None:
    """Fork for each word, and tell of each child's end."""
    end_with_parent()
    gc.freeze()
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([words.fileno(), *children], [], [])
        for pidfd in children.keys() & set(ready):
            pid, told = children.pop(pidfd)
            _, status = os.waitpid(pid, 0)
            told.send(str(os.waitstatus_to_exitcode(status)).encode())
            told.close()
            os.close(pidfd)
        if words.fileno() in ready:
            word, (*given, last), _, _ = socket.recv_fds(words, 65536, 4)
            if not word:
                return
            told = socket.socket(fileno=last)
            pid = forked(be or run, json.loads(word), given)
            for each in given:
                os.close(each)
            told.send(str(pid).encode())
            children[os.pidfd_open(pid)] = pid, told


def forked(be: Be, word: Word, given: Sequence[int]) -> int:
    """A child that is relay; its process id."""
    pid = os.fork()
    if pid == 0:
        end_with_parent()
        be(word, *given)
    return pid


def run(word: Word, stderr: int) -> NoReturn:
    """Be relay."""
    os.dup2(stderr, 2)
    os.closerange(3, 1024)
    os.environ.update(word["environment"])
    code = 1
    try:
        if name := os.environ.get("RELAY_TEST_MUTANT"):
            MUTANTS[name]()
        reload = partial(load, str(word["config"]))
        asyncio.run(serve(reload(), reload))
        code = 0
    except BaseException:  # noqa: BLE001 - the top of a process
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
