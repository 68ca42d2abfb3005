"""What the stages' tests find: a bench, a stand-in vendor, a receiver, and a whole relay in the test's own loop."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from relay import failpoints
from relay.simulators.trifacta import TrifactaSimulator
from tests.stages.bench import Bench, furnished
from tests.stages.receiver import Receiver, receiving

Furnish: TypeAlias = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture(autouse=True)
def _no_failpoints() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
async def vendor() -> AsyncIterator[TrifactaSimulator]:
    """A stand-in Trifacta, whose jobs take a minute unless the test ends them."""
    async with TrifactaSimulator(duration=60.0) as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless the test tells it otherwise."""
    async with receiving() as server:
        yield server


@pytest.fixture
def furnish(tmp_path: Path, vendor: TrifactaSimulator) -> Furnish:
    """Furnish a bench otherwise."""
    return partial(furnished, tmp_path, vendor_url=vendor.url)


@pytest.fixture
async def bench(furnish: Furnish) -> AsyncIterator[Bench]:
    """A bench with a connection `tri` to the vendor."""
    async with furnish() as made:
        yield made
