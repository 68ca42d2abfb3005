"""What runs during a benchmark, each as a process of its own, and what it has cost so far."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from relay.edges.amqp import Topology
from tests.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 60.0
CONNECTION = "tri"


class Broken(Exception):
    """A run cannot be counted. The text says why."""


# --- what a process costs ---


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system, with its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def family_cpu_seconds(pid: int) -> float:
    """CPU time of a process and its living children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = cpu_seconds(pid)
    for child in children:
        with suppress(OSError):
            total += cpu_seconds(int(child))
    return total


def peak_megabytes(pid: int) -> float:
    """The most memory that a process had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


# --- the vendor and the receiver ---


class Peer:
    """The stand-in vendor and receiver, compiled at each start. Ends with this process, however that ends."""

    def __init__(self, delay_ms: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="relay-bench-")
        program = Path(self._folder.name, "peer")
        subprocess.run(["gcc", "-O2", "-o", program, HERE / "peer.c"], check=True)
        self._process = subprocess.Popen(
            [program, str(delay_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stats(self) -> Mapping[str, Any]:
        """What it has counted."""
        counts: Mapping[str, Any] = json.loads(self._asked("GET", "/stats"))
        return counts

    def reset(self) -> None:
        """Begin to count anew."""
        self._asked("POST", "/reset")

    def _asked(self, method: str, path: str) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            connection.request(method, path)
            return connection.getresponse().read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- what is measured ---


class Worker:
    """A process that takes jobs. Its output goes to a file, which tells when it is ready."""

    def __init__(self, command: Sequence[str], log: Path, ready: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + START_SECONDS
        while ready not in log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise Broken(f"{command[1:3]} did not start:\n{self.tail()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tail(self) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace")[-3000:]

    def signal(self) -> None:
        """Begin or end what steps.py or calls.py counts."""
        self._process.send_signal(signal.SIGUSR1)

    def until_written(self, file: Path) -> None:
        """Wait until it has written a JSON file."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, ValueError):
                json.loads(file.read_text())
                return
            time.sleep(0.02)
        raise Broken(f"{file.name} was not written:\n{self.tail()}")

    def stop(self) -> None:
        """Ask it to end in good order, or end it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker works: the broker and the names at it, the vendor, and a folder of its own."""

    amqp: str
    topology: Topology
    vendor: str
    folder: Path


def bare(place: Place, *, poll_after: float, under: Sequence[str] = ()) -> list[Worker]:
    """The bare loop. `under` is a program, with its arguments, that runs another (calls.py)."""
    given = {
        "amqp": place.amqp,
        "requests": place.topology.requests_queue,
        "events": place.topology.events_exchange,
        "vendor": place.vendor,
        "poll_after": poll_after,
        "prefetch": place.topology.prefetch,
    }
    command = [sys.executable, *under, str(HERE / "bare.py"), json.dumps(given)]
    return [Worker(command, place.folder / "bare.log", "ready")]


def relay(place: Place, *, database: str, processes: int = 1, under: Sequence[str] = ()) -> list[Worker]:
    """relay, as its command line starts it, with its defaults wherever they can be kept. `under` as above."""
    workers: list[Worker] = []
    try:
        for number in range(processes):
            port = free_port()
            config = place.folder / f"relay{number}.yaml"
            config.write_text(yaml.safe_dump(_settings(place, database, port)))
            program = [*under, str(ROOT / "relay" / "__main__.py")] if under else ["-m", "relay"]
            command = [sys.executable, *program, "serve", "--config", str(config)]
            workers.append(Worker(command, place.folder / f"relay{number}.log", "amqp.consumer_started"))
    except Broken:
        for worker in workers:
            worker.kill()
        raise
    return workers


def _settings(place: Place, database: str, port: int) -> Mapping[str, Any]:
    names = place.topology
    return {
        "amqp": {
            "url": place.amqp,
            "requestsExchange": names.requests_exchange,
            "requestsQueue": names.requests_queue,
            "eventsExchange": names.events_exchange,
            "eventsQueue": names.events_queue,
            "deadLettersExchange": names.dead_letters_exchange,
            "deadLettersQueue": names.dead_letters_queue,
        },
        "database": {"url": database},
        "http": {"port": port, "publicUrl": f"http://127.0.0.1:{port}"},
        "egress": {"allow": ["127.0.0.0/8"], "allowHttp": True},
        "connections": {CONNECTION: {"vendor": "trifacta", "baseUrl": place.vendor, "token": "a-token"}},
        "secretKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    }
