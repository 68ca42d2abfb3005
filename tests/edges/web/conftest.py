"""A relay over HTTP, with a stand-in vendor behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from relay.app import Relay
from relay.simulators.trifacta import TrifactaSimulator
from tests.ports import free_port
from tests.running import running, settings


@pytest.fixture
async def vendor() -> AsyncIterator[TrifactaSimulator]:
    """A vendor whose jobs end soon."""
    async with TrifactaSimulator(duration=0.05) as server:
        yield server


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A relay that vendors can call back, without tokens."""
    port = free_port()
    http = {"port": port, "publicUrl": f"http://127.0.0.1:{port}", "maxRequestBytes": 20000}
    async with running(tmp_path, settings(tmp_path, vendor, http=http)) as relay:
        yield relay


@pytest.fixture
async def http(relay: Relay) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of that relay."""
    async with aiohttp.ClientSession(relay.server.url) as session:
        yield session
