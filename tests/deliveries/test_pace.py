"""A target that was down gets what waited for it at its own pace, and costs nobody anything meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from relay.app import RECEIVERS
from tests.deliveries.teller import Teller
from tests.stages.receiver import Receiver

MANY = 60
LATER = [0, 3600]


@dataclass
class Crowded:
    """A receiver that counts who is inside at a time; while it is `down` it answers with that status at once."""

    url: str = ""
    down: int | None = 503
    refused: int = 0
    answered: int = 0
    inside: int = 0
    crowds: list[tuple[int, int]] = field(default_factory=list)
    """At each arrival: how many had been answered since it is up, and how many were inside with it."""
    ids: list[str] = field(default_factory=list)
    arrived: set[str] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        """Refuse, or let in for a moment."""
        if self.down:
            self.refused += 1
            return web.Response(status=self.down)
        self.inside += 1
        self.crowds.append((self.answered, self.inside))
        self.ids.append(request.headers["webhook-id"])
        await asyncio.sleep(0.02)  # long enough to be seen together with others
        self.inside -= 1
        self.answered += 1
        self.arrived.add(request.headers["webhook-id"])
        self._changed.set()
        return web.Response()

    async def until_answered(self, true: Callable[[set[str]], bool]) -> None:
        """Wait until it holds of the events that were answered."""
        while not true(self.arrived):
            self._changed.clear()
            await self._changed.wait()

    def gentle(self) -> bool:
        """Whether one came first, and then never more than twice as many for each that had arrived."""
        return all(inside <= min(2**answered, RECEIVERS.per_lane) for answered, inside in self.crowds)


@pytest.fixture
async def crowded() -> AsyncIterator[Crowded]:
    """A receiver that is down at first."""
    receiver = Crowded()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


def host(url: str) -> str:
    """A URL's host as deliveries show it."""
    return url.partition("//")[2]


def held(row: Mapping[str, Any]) -> bool:
    """Whether it waits for a target that is known to be down."""
    return bool(row["waitingFor"]) and row["waitingFor"].startswith("its target, which is down")


async def closed(teller: Teller, crowded: Crowded) -> None:
    """Wait until the receiver is known to be down."""
    await teller.until(lambda rows: any(map(held, rows)), target=host(crowded.url), state="pending")


async def test_a_closed_target_spends_no_attempts(teller: Teller, crowded: Crowded, healthy: Receiver) -> None:
    """Once it is known to be down, what comes for it waits untried, and says so; the other receiver has everything."""
    await teller.jobs(MANY, {"url": crowded.url, "schedule": LATER})
    await teller.jobs(MANY, {"url": crowded.url, "schedule": LATER}, {"url": healthy.url})
    await healthy.until(lambda heard: len(heard) == MANY)
    await closed(teller, crowded)
    rows = await teller.rows(target=host(crowded.url))
    untried = [row for row in rows if row["attemptCount"] == 0]

    # What was under way when it closed, and single probes since.
    assert crowded.refused < MANY
    assert len(untried) > MANY
    assert any(map(held, untried))


async def test_a_target_that_comes_back_is_not_trampled(teller: Teller, crowded: Crowded) -> None:
    """One probe first, then twice as many each time, until everything is there, each once."""
    await teller.jobs(MANY, {"url": crowded.url, "schedule": [0, 0.1, 0.1, 3600]})
    await closed(teller, crowded)
    crowded.down = None
    untried = await teller.rows(target=host(crowded.url), state="pending")
    ids = {row["eventId"] for row in untried if row["attemptCount"] == 0}
    await crowded.until_answered(ids.issubset)

    assert crowded.gentle(), crowded.crowds
    assert len(crowded.ids) == len(set(crowded.ids))


async def test_what_is_sent_again_by_filter_goes_at_the_targets_pace(teller: Teller, crowded: Crowded) -> None:
    """To a target that is down all that was exhausted before is sent again as it reopens: one probe first, never more
    at a time than its lane has."""
    crowded.down = 404
    await teller.jobs(MANY, {"url": crowded.url, "schedule": [0]})
    exhausted = await teller.until(lambda rows: len(rows) == MANY, state="exhausted")
    crowded.down = 503
    await teller.jobs(MANY, {"url": crowded.url, "schedule": LATER})
    await closed(teller, crowded)
    crowded.down = None
    done = await teller.post("/v1/deliveries/redeliver", filter={"target": host(crowded.url)})
    await crowded.until_answered({row["eventId"] for row in exhausted}.issubset)

    assert MANY == done["count"]
    assert crowded.gentle(), crowded.crowds


async def test_a_resumed_subscription_is_not_trampled(teller: Teller, crowded: Crowded) -> None:
    """What waited while it was paused goes one first, then more and more."""
    crowded.down = None
    one = await teller.post("/v1/subscriptions", name="ops", url=crowded.url)
    await teller.post(f"/v1/subscriptions/{one['id']}/pause")
    await teller.jobs(MANY)
    await teller.until(lambda rows: len(rows) == MANY, subscription=one["id"])
    before = list(crowded.ids)
    await teller.post(f"/v1/subscriptions/{one['id']}/resume")
    await crowded.until_answered(lambda arrived: len(arrived) >= MANY)

    assert [] == before
    assert crowded.gentle(), crowded.crowds
    assert MANY == len(set(crowded.ids))
