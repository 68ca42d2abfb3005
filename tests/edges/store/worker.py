"""A process that moves jobs as fast as it can and says which steps were acknowledged: there to be killed.

python -m tests.edges.store.worker DATABASE KEY [FAILPOINTS]
"""

import asyncio
import sys

from relay import failpoints
from relay.edges.store import SqliteStore
from relay.edges.vault import Vault
from tests.edges.store.making import accepted, delivery, ended, moved, record


async def work(path: str, key: str) -> None:
    """Jobs from request to end, several at once, for ever."""
    store = await SqliteStore.open(path, Vault(key))
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
    failpoints.arm(sys.argv[3] if len(sys.argv) > 3 else "")
    asyncio.run(work(sys.argv[1], sys.argv[2]))
