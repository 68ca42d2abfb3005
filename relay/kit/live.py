"""A room against a server that answers: each operation asked for real, followed to its end as relay would follow it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import Flow, TransportError
from relay.core.job import Job
from relay.core.lifecycle import Rules, advance
from relay.core.room import Room
from relay.core.vendor import Connection, Operation
from relay.ports import FlowFailed

BETWEEN_LOOKS = 0.2
"""Seconds."""
Talk: TypeAlias = Callable[[Flow[Any]], Awaitable[Any]]
"""Drives a flow against the server; raises TransportError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of asking for one operation. `kept` is false where relay could not work with the answer."""

    operation: str
    kept: bool
    told: str


async def ask_everything(room: Room, connection: Connection, talk: Talk, patience: float) -> AsyncIterator[Seen]:
    """Ask for every operation with the room's own parameters; `patience` is in seconds, for each."""
    for operation in room.vendor.operations.values():
        job = room.job(operation.name, key=str(uuid.uuid4()), accepted_at=time.time())
        try:
            async with asyncio.timeout(patience):
                told, kept = await _follow(operation, connection, job, talk)
        except (TransportError, FlowFailed) as error:
            told, kept = f"{type(error).__name__}: {error}", False
        except TimeoutError:
            told, kept = f"it has not ended after {patience:g} s", False
        yield Seen(operation=operation.name, kept=kept, told=told)


async def lose_an_answer(room: Room, connection: Connection, talk: Talk, patience: float) -> Seen | None:
    """A run whose answer is lost is found again, not sent twice; None where the vendor offers no way to find it.

    The server has to lose the answer to the next submit.
    """
    run = room.vendor.operations.get("run")
    if run is None or run.find is None:
        return None
    job = room.job("run", key=str(uuid.uuid4()), accepted_at=time.time())
    try:
        first = await talk(run.submit(connection, job, None))
    except TransportError:
        first = None
    if isinstance(first, facts.Submitted):
        return Seen(operation="run", kept=False, told="the server did not lose its answer to the first submit")
    deadline = time.monotonic() + patience
    while True:
        try:
            found = await talk(run.find(connection, job, None))
        except (TransportError, FlowFailed) as error:
            told = f"not found again: {type(error).__name__}: {error}"
            return Seen(operation="run whose answer is lost", kept=False, told=told)
        if isinstance(found, facts.Found | facts.Submitted):
            told = f"found again as {found.ref.id}"
            return Seen(operation="run whose answer is lost", kept=True, told=told)
        if time.monotonic() > deadline or not isinstance(found, facts.PollFailed | facts.NotFound):
            return Seen(operation="run whose answer is lost", kept=False, told=f"not found again: {_words(found)}")
        await asyncio.sleep(BETWEEN_LOOKS)


async def _follow(operation: Operation, connection: Connection, job: Job, talk: Talk) -> tuple[str, bool]:
    """The operation's story in a line, and whether it came to an end that relay understands."""
    fact: Fact = await talk(operation.submit(connection, job, None))
    story = [_words(fact)]
    if not isinstance(fact, facts.Submitted):
        return story[0], isinstance(fact, facts.Answered | facts.Refused)
    job = advance(job, fact, Rules(), time.time(), "response").job
    assert operation.poll is not None
    while not job.state.terminal:
        await asyncio.sleep(BETWEEN_LOOKS)
        fact = await talk(operation.poll(connection, job))
        job = advance(job, fact, Rules(), time.time(), "poll").job
        if _words(fact) != story[-1]:
            story.append(_words(fact))
    return ", then ".join(story), True


def _words(fact: Fact) -> str:
    error = getattr(fact, "error", None)
    ref = getattr(fact, "ref", None)
    about = error.message if error else ref.id if ref and isinstance(fact, facts.Submitted) else ""
    said = about or getattr(fact, "status", None) or getattr(fact, "message", None) or ""
    return f"{type(fact).__name__} {said}".rstrip()
