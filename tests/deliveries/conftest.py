"""A whole relay whose jobs end soon, so that what happens to their deliveries can be watched."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.app import Relay
from relay.simulators.trifacta import TrifactaSimulator
from tests.deliveries.teller import Teller
from tests.ports import free_port
from tests.running import running, settings
from tests.stages.receiver import Receiver, receiving


@pytest.fixture
async def vendor() -> AsyncIterator[TrifactaSimulator]:
    """A vendor whose jobs end soon."""
    async with TrifactaSimulator(duration=0.02) as server:
        yield server


@pytest.fixture
async def healthy() -> AsyncIterator[Receiver]:
    """A receiver that is always well."""
    async with receiving() as server:
        yield server


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A relay that its vendor can call back."""
    port = free_port()
    http = {"port": port, "publicUrl": f"http://127.0.0.1:{port}"}
    async with running(tmp_path, settings(tmp_path, vendor, http=http, shutdownTimeout=0.5)) as relay:
        yield relay


@pytest.fixture
async def teller(relay: Relay) -> AsyncIterator[Teller]:
    """Who asks that relay for jobs, and looks at what became of their deliveries."""
    async with Teller.of(relay) as teller:
        yield teller
