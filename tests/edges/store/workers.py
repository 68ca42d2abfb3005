"""Processes that move jobs as fast as they can and say which steps were acknowledged: there to be killed.

python -m tests.edges.store.workers URL KEY [FAILPOINTS]
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from relay import failpoints
from relay.edges.store import open_store
from relay.edges.vault import Vault
from relay.ports import JobFilter, Store
from tests.edges.store.making import accepted, delivery, ended, moved, record

ROOT = Path(__file__).parents[3]
ORDER = ("accepted", "running", "succeeded")


def started(url: str, key: str, failpoints: str = "", *before: str) -> subprocess.Popen[str]:
    """A worker on this database, as arguments of the command `before` if there is one."""
    command = [*before, sys.executable, "-m", "tests.edges.store.workers", url, key, failpoints]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(worker: subprocess.Popen[str], least: int) -> list[str]:
    """What the worker says, until it has said so much or ended."""
    assert worker.stdout is not None
    lines: list[str] = []
    for line in worker.stdout:
        lines.append(line)
        if len(lines) >= least:
            break
    return lines


async def assert_all_there(store: Store, lines: Sequence[str]) -> None:
    """Every acknowledged step is in the database, and nothing is there by halves."""
    states: dict[str, str] = {}
    for line in lines:
        if line.endswith("\n") and line != "open\n":
            state, request_id = line.split()
            states[request_id] = state
    for request_id, state in states.items():
        job = await store.job_by_request(request_id)
        assert job is not None, f"{request_id} is lost"
        assert ORDER.index(job.state) >= ORDER.index(state), f"{request_id} is {job.state}, was {state}"
    page = await store.jobs(JobFilter(), 10_000, None)
    for job in page.items:
        done = job.state == "succeeded"
        told = [await store.event(f"e-{job.spec.request_id}"), await store.delivery(f"d-{job.spec.request_id}")]
        assert [part is not None for part in told] == [done, done], f"{job.spec.request_id} is half there"
        assert len(await store.history(job.id)) == ORDER.index(job.state)


async def work(url: str, key: str) -> None:
    """Jobs from request to end, several at once, for ever."""
    store = await open_store(url, Vault(key))
    say("open")

    async def one(worker: int) -> None:
        number = 0
        while True:
            number += 1
            job = await accepted(store, f"{worker}-{number}")
            say(f"accepted {job.spec.request_id}")
            job = await record(store, moved(job))
            say(f"running {job.spec.request_id}")
            await record(store, ended(job, delivery(f"d-{worker}-{number}"), event_id=f"e-{worker}-{number}"))
            say(f"succeeded {job.spec.request_id}")

    await asyncio.gather(*map(one, range(8)))


def say(line: str) -> None:
    """Tell the parent at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    failpoints.arm(sys.argv[3])
    asyncio.run(work(sys.argv[1], sys.argv[2]))
