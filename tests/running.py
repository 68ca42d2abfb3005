"""A whole relay in the test's own loop, on a database of its own and a free port."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from relay.app import Relay
from relay.edges.store import SqliteStore
from relay.settings import Settings, load
from relay.simulators.server import VendorServer

T = TypeVar("T")

RECIPE: Mapping[str, Any] = {"wrangledDataset": {"id": 7}}
ENDLESS: Mapping[str, Any] = {"wrangledDataset": {"id": 9003}}


def settings(folder: Path, vendor: VendorServer | None = None, **others: Any) -> Mapping[str, Any]:
    """Settings as YAML has them: a connection `tri` to the vendor, and receivers on this machine."""
    connections = {"tri": {"vendor": "trifacta", "baseUrl": vendor.url, "token": "t"}} if vendor else {}
    return {
        "database": {"url": f"sqlite:///{folder}/relay.db"},
        "http": {"port": 0},
        "egress": {"allow": ["127.0.0.0/8"], "allowHttp": True},
        "connections": connections,
        "log": {"level": "debug"},
        **others,
    }


def loaded(folder: Path, given: Mapping[str, Any]) -> Settings:
    """The settings, through a file as an operator writes it."""
    file = folder / "relay.yaml"
    file.write_text(json.dumps(given))
    return load(file, {})


@asynccontextmanager
async def running(folder: Path, given: Mapping[str, Any]) -> AsyncIterator[Relay]:
    """A relay that serves HTTP until the end of the block."""
    read = loaded(folder, given)
    async with Relay.opened(read, lambda: read) as relay:
        started = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(relay.run(started.set))
            waiting = group.create_task(started.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            try:
                yield relay
            finally:
                relay.stop()


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What the look finds, as soon as that is something."""
    while True:
        if found := await look():
            return found
        await asyncio.sleep(0.01)


@contextmanager
def locked(relay: Relay) -> Iterator[None]:
    """Another program holds the database, so that relay cannot write; it gives up at once instead of waiting."""
    assert isinstance(relay.store, SqliteStore)
    relay.store._writing.submit(relay.store._db.set_busy_timeout, 1).result()
    with closing(apsw.Connection(str(relay.settings.database.path))) as other:
        other.set_busy_timeout(10_000)
        other.execute("BEGIN IMMEDIATE")
        yield
