"""Requests of every sort, sent while something goes wrong."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from relay.simulators.faults import Fault
from relay.simulators.trifacta import Fate
from tests.e2e.history import PATIENCE, History
from tests.e2e.world import WEBHOOK_KEY, Request, World
from tests.faults.checker import check, subjects_of

BY_POLL = {"mode": "poll", "pollInterval": 0.1}
BY_WEBHOOK = {"mode": "webhook"}
FAILS = Fate(outcome="Failed")

MIX: Sequence[dict[str, Any]] = (
    {"completion": BY_POLL},
    {"completion": BY_WEBHOOK},
    {"completion": BY_POLL, "fate": FAILS},
    {"completion": BY_WEBHOOK, "fate": FAILS},
    {"completion": BY_WEBHOOK, "fate": Fate(calling="early")},
    {"completion": BY_WEBHOOK, "fate": Fate(calling="twice")},
    {"completion": BY_POLL, "fate": Fate(duration=0.0)},
    {"completion": BY_POLL, "fate": Fate(outcome="Canceled")},
)
"""How jobs end, and how relay learns of it."""

HARMED = (*MIX, {"completion": BY_POLL, "fault": Fault(on="submit", harm="lost")})
"""The same, and submits whose answer is lost; relay gives such a vendor a rest, so this takes seconds longer."""


def mixed(world: World, name: str, numbers: range, mix: Sequence[dict[str, Any]], *, replies: bool) -> list[Request]:
    """Requests of every sort: every other one wants a webhook, every third a reply."""
    return [
        world.request(
            f"{name}-{number}",
            webhooks=(world.hook(f"/{name}-{number}", secretKey=WEBHOOK_KEY),) if number % 2 else (),
            reply=world.reply if replies and number % 3 == 0 else None,
            **mix[number % len(mix)],
        )
        for number in numbers
    ]


@contextmanager
def under_load(
    world: World, name: str, published: int = 18, posted: int = 6, mix: Sequence[dict[str, Any]] = MIX
) -> Iterator[None]:
    """Send requests by both ways at once; each is repeated until it is confirmed, at the latest when this ends."""
    by_http = mixed(world, name, range(posted), mix, replies=False)
    by_amqp = mixed(world, name, range(posted, posted + published), mix, replies=True)
    failures: list[BaseException] = []

    def send(way: Any, some: Sequence[Request]) -> None:
        try:
            for request in some:
                way(request)
        except BaseException as error:  # noqa: BLE001 - told below, by the thread that waits
            failures.append(error)

    threads = [
        threading.Thread(target=send, args=(world.publish, by_amqp), daemon=True),
        threading.Thread(target=send, args=(world.post, by_http), daemon=True),
    ]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(3 * PATIENCE)
    assert not failures, failures


def judged(world: World) -> History:
    """Wait until all is at rest; raises AssertionError with what there is to know of every breach."""
    history = world.settle()
    breaches = check(history)
    if breaches:
        world.broken = True
        kept = world.folder / "history.jsonl"
        history.save(kept)
        text = "\n".join([*breaches, f"The whole history is in {kept}", world.explained(subjects_of(breaches)[:5])])
        raise AssertionError(text)
    return history
