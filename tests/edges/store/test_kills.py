"""What the store promises of a process that is killed."""

import asyncio
import signal

import pytest

from relay.edges.vault import Vault, new_key
from tests.edges.store.conftest import Engine
from tests.edges.store.workers import assert_all_there, said, started

KEY = new_key()


@pytest.fixture
async def url(engine: Engine) -> str:
    """An empty database that nobody has open."""
    engine.vault = Vault(KEY)
    await engine.open()
    await engine.close()
    return engine.url


@pytest.mark.parametrize("least", [1, 50, 400])
async def test_a_kill_loses_nothing_that_was_acknowledged(engine: Engine, url: str, least: int) -> None:
    """Killed at any moment, the store has every step that it had acknowledged, each with all that belongs to it."""
    with started(url, KEY) as worker:
        lines = await asyncio.to_thread(said, worker, least)
        worker.kill()
        assert worker.stdout is not None
        lines += worker.stdout.readlines()

    await assert_all_there(await engine.reopened(), lines)


@pytest.mark.parametrize("failpoint", ["store.before_commit:kill:20", "store.after_commit:kill:20"])
async def test_a_kill_at_a_commit_leaves_no_half_of_it(engine: Engine, url: str, failpoint: str) -> None:
    """Just before or just after a commit, nothing is there by halves."""
    with started(url, KEY, failpoint) as worker:
        lines = await asyncio.to_thread(said, worker, 10_000)

    assert worker.returncode == -signal.SIGKILL
    assert len(lines) > 1
    await assert_all_there(await engine.reopened(), lines)
