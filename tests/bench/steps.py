"""A program with a stopwatch in it: which step of a job's path relay's CPU time goes to.

    python tests/bench/steps.py OUT.json PROGRAM ARGUMENT…

Every 2 ms of the process's CPU time, the main thread's own CPU time since the last look is booked to the innermost
frame that `STEPS` knows, from the first SIGUSR1 to the second. That one writes to OUT.json: seconds by step, seconds
of the other threads, and the costliest places of each step.
"""

import json
import runpy
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import FrameType

LOOP = "event loop"
STEPS: tuple[tuple[str, str], ...] = (
    ("relay/cli/", LOOP),
    ("relay/app.py", LOOP),
    ("relay/__main__.py", LOOP),
    ("relay/log.py", "logs"),
    ("structlog/", "logs"),
    ("relay/metrics.py", "metrics"),
    ("prometheus_client/", "metrics"),
    ("relay/edges/amqp/publish.py", "publish"),
    ("relay/edges/amqp/consume.py", "consume"),
    ("relay/edges/amqp/", "AMQP connection"),
    ("relay/edges/store/", "store"),
    ("relay/edges/vault.py", "seal"),
    ("cryptography/", "seal"),
    ("relay/edges/http/receivers.py", "webhook out"),
    ("relay/edges/http/vendors.py", "submit and polls"),
    ("relay/edges/http/", "HTTP client's connection"),
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
    ("relay/core/", "lifecycle, flows, rules"),
    ("aiormq/", "AMQP connection"),
    ("aiohttp/client", "HTTP client's connection"),
    ("relay/", "relay, other"),
    ("aiohttp/", "HTTP, other"),
)
"""From what is in a file's path to the step that it is booked to: a frame takes the first that fits, and a stack
the innermost frame's that has one. The rest is the event loop's own."""


class Stopwatch:
    """Books the main thread's CPU time from one signal to the next."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._names: dict[str, str | None] = {}
        self._steps: Counter[str] = Counter()
        self._places: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._last = self._begun = 0.0
        self._process_begun: float | None = None
        signal.signal(signal.SIGPROF, self._look)
        signal.signal(signal.SIGUSR1, self._turn)

    def _turn(self, *_: object) -> None:
        if self._process_begun is None:
            self._process_begun = time.process_time()
            self._last = self._begun = time.thread_time()
            signal.setitimer(signal.ITIMER_PROF, 0.002, 0.002)
        else:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._write(time.process_time() - self._process_begun, time.thread_time() - self._begun)

    def _look(self, _: int, inner: FrameType | None) -> None:
        now = time.thread_time()
        spent, self._last = now - self._last, now
        step, frame = LOOP, inner
        while frame is not None:
            if (found := self._step(frame.f_code.co_filename)) is not None:
                step = found
                break
            frame = frame.f_back
        self._steps[step] += spent  # type: ignore[assignment]
        own = f" < {_place(frame)}" if frame is not inner else ""
        self._places[step][_place(inner) + own] += spent  # type: ignore[assignment]

    def _step(self, file: str) -> str | None:
        if file not in self._names:
            self._names[file] = next((step for part, step in STEPS if part in file), None)
        return self._names[file]

    def _write(self, process: float, main: float) -> None:
        told = {
            "main": main,
            "otherThreads": process - main,
            "steps": dict(self._steps.most_common()),
            "places": {step: dict(places.most_common(12)) for step, places in self._places.items()},
        }
        self._out.write_text(json.dumps(told))


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "nowhere else"
    parts = Path(frame.f_code.co_filename).parts[-3:]
    return f"{'/'.join(parts)}:{frame.f_lineno} {frame.f_code.co_name}"


if __name__ == "__main__":
    Stopwatch(Path(sys.argv[1]))
    del sys.argv[:2]
    sys.path[0] = str(Path(__file__).parents[2])
    runpy.run_path(sys.argv[0], run_name="__main__")
