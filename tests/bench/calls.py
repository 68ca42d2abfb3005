"""A program with its function calls counted: unlike times they are the same whatever else the machine does.

    python tests/bench/calls.py OUT.json PROGRAM ARGUMENT…

counts the calls of the main thread between the first SIGUSR1 and the second, which writes them to OUT.json by file:
those of functions in Python to their own file, those of functions in C to the caller's.
"""

import cProfile
import json
import pstats
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

IN_C = "~"


class CallCounter:
    """Counts from one signal to the next."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._profile: cProfile.Profile | None = None
        signal.signal(signal.SIGUSR1, self._turn)

    def _turn(self, *_: object) -> None:
        if self._profile is None:
            self._profile = cProfile.Profile()
            self._profile.enable()
        else:
            self._profile.disable()
            self._out.write_text(json.dumps(_by_file(self._profile)))


def _by_file(profile: cProfile.Profile) -> dict[str, int]:
    stats: Any = pstats.Stats(profile)
    calls: Counter[str] = Counter()
    for (file, _, _), (_, count, _, _, callers) in stats.stats.items():
        if file != IN_C:
            calls[_short(file)] += count
            continue
        for (caller, _, _), (from_there, *_) in callers.items():
            calls[_short(caller)] += from_there
    return dict(calls.most_common())


def _short(file: str) -> str:
    return "/".join(Path(file).parts[-3:])


if __name__ == "__main__":
    CallCounter(Path(sys.argv[1]))
    del sys.argv[:2]
    sys.path[0] = str(Path(__file__).parents[2])
    runpy.run_path(sys.argv[0], run_name="__main__")
