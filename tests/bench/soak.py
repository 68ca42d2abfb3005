"""`make soak`: relay under a moderate load for minutes, with everything going wrong a little, watched for what grows.

    make soak ARGS="--minutes 25 --rate 20"

In its last third relay is killed three times, asked to stop twice, and the broker is restarted. At the end every
request has its one event at each of its targets and one job at the vendor, and once retention has passed no row of
theirs is left. Exit code 1 where that does not hold; what grows is for the reader of the table to see.
"""

import argparse
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from relay.simulators.trifacta import Fate
from tests.e2e.world import EVENTS, World
from tests.faults.load import MIX, judged, mixed
from tests.rabbitmq import RabbitMQ, Unavailable

RETENTION = 60
SAMPLE_EVERY = 20.0
SWEPT = 200.0
"""Seconds after which a sweep has passed by all that ended before."""
TROUBLES = ((0.66, "broker"), (0.72, "kill"), (0.78, "stop"), (0.84, "kill"), (0.90, "stop"), (0.95, "kill"))
"""What happens, and after which part of the time."""
KEPT = frozenset({"migration", "sqlite_sequence", "event_dropped", "delivery_change"})
"""Tables whose rows stay, of which there never are more than some."""
FATES: Sequence[dict[str, Any]] = (
    *MIX,
    {"completion": {"mode": "auto"}},
    {"completion": {"mode": "auto"}, "fate": Fate(refusal=400)},
)
COLUMNS = ("s", "start", "MB", "fds", "threads", "db MB", "wal MB", "rows", "p50 ms", "p99 ms", "told")


class Traffic:
    """A steady stream of requests of every sort, until `stop`."""

    def __init__(self, world: World, rate: float) -> None:
        self.sent: dict[str, float] = {}
        self._world = world
        self._rate = rate
        self._troubles: list[BaseException] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more; raises what went wrong."""
        self._stopping.set()
        self._thread.join()
        for trouble in self._troubles:
            raise trouble

    def _run(self) -> None:
        due, number = time.monotonic(), 0
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                (request,) = mixed(self._world, "soak", range(number, number + 1), FATES, replies=True)
                self.sent[request.id] = time.time()
                self._world.publish(request)
                due, number = max(due + 1 / self._rate, time.monotonic() - 1.0), number + 1
        except BaseException as error:  # noqa: BLE001 - told by `stop`, to the thread that waits
            self._troubles.append(error)


class Watch:
    """What relay's process and database come to."""

    def __init__(self, world: World, traffic: Traffic) -> None:
        self._world = world
        self._traffic = traffic
        self._begun = time.monotonic()
        self._read = 0

    def line(self) -> str:
        """One line of the table; what cannot be had while relay is down is left out."""
        waits = sorted(self._waits())
        figures: list[object] = [round(time.monotonic() - self._begun), len(self._world.relays)]
        figures += ["", "", ""]
        with suppress(OSError):
            figures[2:] = _costs(self._world.relay.pid)
        database = self._world.database
        figures += [_megabytes(database), _megabytes(database.with_name(database.name + "-wal"))]
        figures.append(sum(rows(database).values()))
        figures += [round(1000 * waits[int(len(waits) * share)]) if waits else "" for share in (0.5, 0.99)]
        return _row([*figures, self._read])

    def _waits(self) -> Iterator[float]:
        seen = self._world.notebook.history().seen
        fresh, self._read = seen[self._read :], len(seen)
        for each in fresh:
            if each.target == EVENTS:
                yield each.at - self._traffic.sent[each.data["requestId"]]


def rows(database: Path) -> Mapping[str, int]:
    """How many rows each table has, of those whose rows come and go."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as reading:
        tables = [name for (name,) in reading.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: reading.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sorted(set(tables) - KEPT)
        }


def soak(world: World, broker: RabbitMQ, minutes: float, rate: float) -> Mapping[str, int]:
    """The rows that are left after all. Raises AssertionError where a promise was broken."""
    begun = time.monotonic()
    traffic = Traffic(world, rate)
    watch = Watch(world, traffic)
    for share, trouble in TROUBLES:
        _watched_until(begun + share * 60 * minutes, watch)
        _tell(f"{trouble}\n")
        _befall(trouble, world, broker)
    _watched_until(begun + 60 * minutes, watch)
    traffic.stop()
    judged(world)
    _tell("all came out as it should\n")
    _watched_until(time.monotonic() + RETENTION + SWEPT, watch, lambda: not any(rows(world.database).values()))
    return {table: count for table, count in rows(world.database).items() if count}


def _befall(trouble: str, world: World, broker: RabbitMQ) -> None:
    match trouble:
        case "broker":
            broker.stop()
            broker.start()
        case "kill":
            world.relay.kill()
            world.start()
        case "stop":
            world.stop()
            world.start()


def _watched_until(end: float, watch: Watch, early: Callable[[], bool] = lambda: False) -> None:
    while (left := end - time.monotonic()) > 0 and not early():
        time.sleep(min(left, SAMPLE_EVERY))
        _tell(watch.line())


def _costs(pid: int) -> list[object]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return [
        int(status["VmRSS"].split()[0]) // 1024,
        sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        int(status["Threads"]),
    ]


def _megabytes(file: Path) -> float:
    return round(file.stat().st_size / 2**20, 1) if file.exists() else 0.0


def _row(cells: Sequence[object]) -> str:
    return "".join(f"{cell!s:>9}" for cell in cells) + "\n"


def _tell(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> None:
    """Run it, and say what came of it."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=…")
    parser.add_argument("--minutes", type=float, default=5.0, help="for which requests are sent")
    parser.add_argument("--rate", type=float, default=15.0, help="of requests, a second")
    given = parser.parse_args()
    own = {"retention": RETENTION, "log": {"level": "info"}}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="relay-soak-") as folder,
            RabbitMQ() as broker,
            World(Path(folder), broker.url, settings=own) as world,
        ):
            world.start()
            _tell(_row(COLUMNS))
            left = soak(world, broker, given.minutes, given.rate)
    except Unavailable as problem:
        sys.exit(str(problem))
    except AssertionError as broken:
        sys.exit(f"\n{broken}")
    if left:
        sys.exit(f"\nrows that retention has left: {left}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
