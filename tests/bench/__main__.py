"""`make bench`: relay and the bare loop side by side, in rounds, as a table and as JSON. See README.md here."""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg

from relay import log
from tests.bench import report
from tests.bench.processes import HERE, Broken, Peer
from tests.bench.run import VENDOR_MS, Figures, Subject, Surroundings, Traffic, measured
from tests.postgres import PostgreSQL
from tests.rabbitmq import RabbitMQ, Unavailable, installed_version

BARE = Subject(name="bare loop", store="none")
SUBJECTS = (
    BARE,
    Subject(name="relay, SQLite", store="sqlite"),
    Subject(name="relay, PostgreSQL", store="postgres"),
    Subject(name="2 relays, PostgreSQL", store="postgres", processes=2),
)
TRAFFICS = (
    Traffic(name="webhook", way="webhook", jobs=1500),
    Traffic(name="webhook, 50 at once", way="webhook", jobs=1000, at_once=50),
    Traffic(name="webhook, one by one", way="webhook", jobs=200, at_once=1),
    Traffic(name="one poll", way="poll", jobs=1500),
)


def main() -> None:
    """Measure, print, keep."""
    log.configure("warning")
    given = _arguments().parse_args()
    subjects = [each for each in SUBJECTS if each.store in given.store or each is BARE]
    traffics = [each for each in _sized(TRAFFICS, given.jobs) if not given.traffic or each.name in given.traffic]
    try:
        with surroundings(postgres="postgres" in given.store) as around:
            if given.profile or given.calls:
                sys.stdout.write(_profiled(traffics[0], around) if given.profile else _counted(traffics[0], around))
                return
            figures = list(asyncio.run(_rounds(subjects, traffics, around, given.rounds)))
    except (Broken, Unavailable) as problem:
        sys.exit(f"\n{problem}")
    sys.stdout.write(report.table(figures))
    file = HERE / "results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"machine": machine(), "runs": [each.wire() for each in figures]}, indent=1) + "\n")
    sys.stdout.write(f"\n{file}\n")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    stores = ["sqlite", "postgres"]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=float, default=1.0, metavar="SHARE", help="a share of the usual number of jobs")
    parser.add_argument("--store", nargs="*", default=stores, choices=stores)
    parser.add_argument("--traffic", nargs="*", choices=[each.name for each in TRAFFICS])
    parser.add_argument("--profile", action="store_true", help="relay's CPU time step by step, of the first traffic")
    parser.add_argument("--calls", action="store_true", help="the function calls a job of both, by file")
    parser.add_argument("--quick", dest="quick", action=_Quick, nargs=0, help="one round of a fifth of the jobs")
    return parser


def _profiled(traffic: Traffic, around: Surroundings) -> str:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        out = Path(folder, "steps.json")
        under = [str(HERE / "steps.py"), str(out)]
        found = asyncio.run(measured(SUBJECTS[1], traffic, around, under=under))
        return f"{report.line(found)}\n\n{report.steps(json.loads(out.read_text()), traffic.jobs)}"


def _counted(traffic: Traffic, around: Surroundings) -> str:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        counts = {}
        for subject in SUBJECTS[:2]:
            out = Path(folder, f"{subject.store}.json")
            asyncio.run(measured(subject, traffic, around, under=[str(HERE / "calls.py"), str(out)]))
            counts[subject.name] = json.loads(out.read_text())
        return report.calls(counts, traffic.jobs)


class _Quick(argparse.Action):
    def __call__(self, _parser: object, given: argparse.Namespace, *_: object) -> None:
        given.rounds, given.jobs = 1, 0.2


def _sized(traffics: Iterable[Traffic], share: float) -> Iterator[Traffic]:
    for each in traffics:
        yield Traffic(name=each.name, way=each.way, jobs=max(50, int(each.jobs * share)), at_once=each.at_once)


@contextmanager
def surroundings(*, postgres: bool) -> Iterator[Surroundings]:
    """A broker, a vendor, a receiver and, if asked for, a database, for as long as the block lasts."""
    with ExitStack() as stack:
        given = os.environ.get("RELAY_TEST_AMQP_URL")
        node = None if given else stack.enter_context(RabbitMQ())
        url = given or (node.url if node else "")
        peer = stack.enter_context(Peer(VENDOR_MS))
        broker = node.pid if node else None
        if not postgres:
            yield Surroundings(amqp=url, broker_pid=broker, peer=peer)
            return
        server = stack.enter_context(PostgreSQL(fsync="on"))
        yield Surroundings(
            amqp=url, broker_pid=broker, peer=peer, database=partial(_new_database, server), database_pid=server.pid
        )


async def _new_database(server: PostgreSQL) -> str:
    name = f"bench_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(server.url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.url.removesuffix("/postgres") + f"/{name}"


async def _rounds(
    subjects: Sequence[Subject], traffics: Sequence[Traffic], around: Surroundings, rounds: int
) -> list[Figures]:
    """All subjects under each traffic before the next, and every other round in reverse, so that none has the
    machine's better minutes."""
    figures = []
    for number in range(1, rounds + 1):
        for traffic in traffics:
            for subject in subjects if number % 2 else reversed(subjects):
                found = await measured(subject, traffic, around, round=number)
                figures.append(found)
                sys.stderr.write(report.line(found) + "\n")
    return figures


def machine() -> Mapping[str, object]:
    """Where this was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else "",
        "python": platform.python_version(),
        "rabbitmq": installed_version(),
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    main()
