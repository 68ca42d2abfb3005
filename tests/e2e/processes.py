"""Real relay processes: started, watched through their logs, asked to stop, killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, Self

from tests.e2e.history import PATIENCE

ROOT = Path(__file__).parents[2]

Line = Mapping[str, Any]


class Handle(Protocol):
    """What is needed of an operating system's process. Exit codes are negative for a signal's number."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Process:
    """A running relay. Its log is kept, and may be waited on."""

    def __init__(self, handle: Handle, stderr: IO[bytes], log: Path) -> None:
        self._handle = handle
        self._stderr = stderr
        self._log = log
        self._lines: list[Line] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._handle.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._handle.poll() is None

    @property
    def log(self) -> Sequence[Line]:
        """Its log so far; what is no JSON stands under `text`."""
        with self._changed:
            return list(self._lines)

    def until(self, holds: Callable[[Line], bool], patience: float = PATIENCE) -> Line:
        """Wait for a line of the log. Raises AssertionError with the log's end if none comes."""
        hits: list[Line] = []
        looked = 0

        def found() -> bool:
            nonlocal looked
            fresh, looked = self._lines[looked:], len(self._lines)
            hits.extend(line for line in fresh if holds(line))
            return bool(hits) or not self._reader.is_alive()

        with self._changed:
            self._changed.wait_for(found, patience)
        assert hits, f"relay's log has no such line:\n{self.tail()}"
        return hits[0]

    def until_logged(self, event: str) -> Line:
        """Wait for an event in the log."""
        return self.until(lambda line: line.get("event") == event)

    def until_started(self) -> Self:
        """Wait until it serves HTTP."""
        self.until_logged("relay.started")
        return self

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._handle.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; the exit code. Raises AssertionError with the log's end if it goes on."""
        try:
            code = self._handle.wait(patience)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise AssertionError(f"relay goes on:\n{self.tail()}") from None
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> int:
        """End it as a power cut would, if it has not ended by itself; the exit code."""
        if self.running:
            self.tell(signal.SIGKILL)
        return self.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(json.dumps(line) for line in self.log[-lines:])

    def _read(self) -> None:
        with self._stderr, self._log.open("ab") as log:
            for raw in self._stderr:
                log.write(raw)
                log.flush()
                with self._changed:
                    self._lines.append(_parsed(raw))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def _parsed(raw: bytes) -> Line:
    try:
        parsed = json.loads(raw)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"text": raw.decode(errors="replace").rstrip()}


def started(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """A process of its own, begun with this command and, of relay's variables, only those that are given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    popen = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**clean, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert popen.stderr is not None
    return Process(popen, popen.stderr, log)


def relay_serve(config: Path) -> list[str]:
    """The command that operators start relay with."""
    return [sys.executable, "-m", "relay", "serve", "--config", str(config)]


class Nursery:
    """Starts relay in a tenth of the time: a process that has imported everything, and forks when it is told to."""

    module = "tests.e2e.nursery"

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self._socket = ours
        command = [sys.executable, "-m", self.module, str(theirs.fileno())]
        self._popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._popen.kill()
        self._popen.wait()

    def started(self, config: Path, log: Path, environment: Mapping[str, str] | None = None) -> Process:
        """A relay with this configuration."""
        reading, writing = os.pipe()
        child = self.forked({"config": str(config), "environment": dict(environment or {})}, [writing])
        os.close(writing)
        return Process(child, os.fdopen(reading, "rb"), log)

    def forked(self, word: Mapping[str, Any], given: Sequence[int]) -> "Forked":
        """A child that is what the word says, with these file descriptors."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._socket, [json.dumps(word).encode()], [*given, theirs.fileno()])
        ours.settimeout(PATIENCE)
        return Forked(int(ours.recv(64)), ours)


class Forked:
    """A child of the nursery's."""

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self._socket = told
        self._code: int | None = None

    def poll(self) -> int | None:
        try:
            return self.wait(0.0)
        except TimeoutError:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            self._socket.settimeout(timeout)
            try:
                self._code = int(self._socket.recv(64))
            except BlockingIOError:
                raise TimeoutError from None
            self._socket.close()
        return self._code

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)
