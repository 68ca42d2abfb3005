"""relay with a stopwatch in it: which step of a job's path its CPU time goes to.

    python tests/bench/steps.py OUT.json serve --config relay.yaml

runs the command line and, every 2 ms of the process's CPU time, books the main thread's own CPU time since the last
look to the innermost frame that `STEPS` knows. At the end, and at each SIGUSR1 (which starts the count anew), it is
written to OUT.json: seconds by step, seconds of the other threads, and the costliest places of each step.
"""

import json
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import FrameType

STEPS: tuple[tuple[str, str], ...] = (
    ("relay/log.py", "logs"),
    ("structlog/", "logs"),
    ("prometheus_client/", "metrics"),
    ("relay/edges/amqp/publish.py", "publish"),
    ("relay/edges/amqp/consume.py", "consume"),
    ("relay/edges/store/", "store"),
    ("relay/edges/vault.py", "seal"),
    ("cryptography/", "seal"),
    ("relay/edges/http/receivers.py", "webhook out"),
    ("relay/edges/http/vendors.py", "submit and polls"),
    ("relay/edges/web/", "webhook in"),
    ("aiohttp/web", "webhook in"),
    ("relay/messages.py", "messages"),
    ("relay/stages/accept.py", "stage accept"),
    ("relay/stages/receive.py", "stage receive"),
    ("relay/stages/announce.py", "stage announce"),
    ("relay/stages/work.py", "stage work"),
    ("relay/stages/record.py", "record and lifecycle"),
    ("relay/stages/loop.py", "stage loop"),
    ("relay/vendors/", "vendor's adapter"),
    ("aiormq/", "AMQP connection"),
    ("aiohttp/client", "HTTP client's connection"),
    ("relay/", "relay, other"),
    ("aiohttp/", "HTTP, other"),
    ("asyncio/", "event loop"),
)
"""From what is in a file's path to the step that it is booked to: a frame takes the first that fits, and a stack
the innermost frame's that has one."""


class Stopwatch:
    """Books the main thread's CPU time."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._names: dict[str, str | None] = {}
        self.begin()
        signal.signal(signal.SIGPROF, self._look)
        signal.signal(signal.SIGUSR1, self._tell)
        signal.setitimer(signal.ITIMER_PROF, 0.002, 0.002)

    def begin(self) -> None:
        """Count from here."""
        self._steps: Counter[str] = Counter()
        self._places: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._main = time.thread_time()
        self._begun = self._main, time.process_time()

    def stop(self) -> None:
        """Write what was counted."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._write()

    def _look(self, _: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        spent, self._main = now - self._main, now
        inner = frame
        while frame is not None and (step := self._step(frame.f_code.co_filename)) is None:
            frame = frame.f_back
        step = step if frame is not None else "other"
        self._steps[step] += spent  # type: ignore[assignment,index]
        if inner is not None:
            own = f" < {_place(frame)}" if frame is not None and frame is not inner else ""
            self._places[step or ""][_place(inner) + own] += spent  # type: ignore[assignment]

    def _step(self, file: str) -> str | None:
        if file not in self._names:
            self._names[file] = next((step for part, step in STEPS if part in file), None)
        return self._names[file]

    def _tell(self, *_: object) -> None:
        self._write()
        self.begin()

    def _write(self) -> None:
        main, process = self._begun
        whole = time.thread_time() - main
        told = {
            "main": whole,
            "otherThreads": time.process_time() - process - whole,
            "steps": dict(self._steps.most_common()),
            "places": {step: dict(places.most_common(12)) for step, places in self._places.items()},
        }
        self._out.write_text(json.dumps(told, indent=1))


def _place(frame: FrameType) -> str:
    parts = Path(frame.f_code.co_filename).parts[-3:]
    return f"{'/'.join(parts)}:{frame.f_lineno} {frame.f_code.co_name}"


if __name__ == "__main__":
    stopwatch = Stopwatch(Path(sys.argv[1]))
    del sys.argv[1]
    sys.path[0] = str(Path(__file__).parents[2])
    from relay.cli import main

    try:
        main()
    finally:
        stopwatch.stop()
