"""The real command line, as a process of its own."""

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import pytest

from relay.app import Relay
from relay.simulators.trifacta import TrifactaSimulator
from tests.e2e.processes import Nursery
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


class Commands(Nursery):
    """Starts `relay` for one command, in a tenth of the time."""

    module = "tests.cli.nursery"

    async def done(self, arguments: Sequence[str], stdin: str, environ: Mapping[str, str]) -> Done:
        """The command, once it has ended."""
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            word = {"arguments": arguments, "environment": dict(environ)}
            child = self.forked(word, [given.fileno(), out.fileno(), err.fileno()])
            code = await asyncio.to_thread(child.wait)
            out.seek(0)
            err.seek(0)
            return Done(code, out.read().decode(), err.read().decode())


@functools.cache
def _commands() -> Commands:
    """Those of these tests, until they end and it with them."""
    return Commands().__enter__()


async def run(*arguments: str, stdin: str = "", **environ: str) -> Done:
    """One command."""
    return await _commands().done(arguments, stdin, os.environ | environ)


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
