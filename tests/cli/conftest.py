"""The real command line, as a process of its own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from relay.app import Relay
from relay.simulators.trifacta import TrifactaSimulator
from tests.running import running, settings


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed."""
        assert self.out, self.err
        return json.loads(self.out)


class Cli(Protocol):
    """Runs `relay` with these arguments, talking to the fixture's relay; `stdin` is what it reads there."""

    async def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Done: ...


async def run(*arguments: str, stdin: str = "", **environ: str) -> Done:
    """One command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environ,
    )
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def vendor() -> AsyncIterator[TrifactaSimulator]:
    """A vendor whose jobs end soon."""
    async with TrifactaSimulator(duration=0.05) as server:
        yield server


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A running relay."""
    async with running(tmp_path, settings(tmp_path, vendor)) as relay:
        yield relay


@pytest.fixture
def cli(relay: Relay) -> Cli:
    """The command line, with a relay to talk to."""

    async def call(*arguments: str, stdin: str = "", **environ: str) -> Done:
        return await run(*arguments, stdin=stdin, **{"RELAY_SERVER": relay.server.url, **environ})

    return call
