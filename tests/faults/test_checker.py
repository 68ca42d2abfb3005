"""The checker finds every breach in a history, and none in a good one."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.history import Asked, History, Letter, Made, Rest, Seen
from tests.faults.checker import check, subjects_of


def event(**changes: Any) -> bytes:
    """An event's bytes."""
    data = {"requestId": "one", "status": "succeeded", "vendorJobId": "7", **changes}
    return json.dumps({"id": "evt_1", "type": "onJobSuccess", "data": data}).encode()


SEEN = Seen(target="events", event_id="evt_1", body=event())
GOOD = History(
    asked=(Asked(request_id="one", subject="100", targets=("events", "/hook")),),
    seen=(SEEN, replace(SEEN, target="/hook"), replace(SEEN, target="/hook", at=SEEN.at + 1)),
    made=(Made(job="7", subject="100", status="Complete"),),
)
SILENT = Asked(request_id="two", subject="200", targets=("events",), confirmed=False)

BREACHES: dict[str, tuple[History, set[str]]] = {
    "never arrived": (replace(GOOD, seen=GOOD.seen[:1]), {"I1"}),
    "never arrived anywhere": (replace(GOOD, seen=()), {"I1"}),
    "two ids": (replace(GOOD, seen=(*GOOD.seen, replace(SEEN, event_id="evt_2"))), {"I2"}),
    "other bytes": (replace(GOOD, seen=(*GOOD.seen, replace(SEEN, body=event(metadata={})))), {"I2"}),
    "two outcomes": (replace(GOOD, seen=(*GOOD.seen, replace(SEEN, body=event(status="failed")))), {"I2", "I4"}),
    "nobody asked": (replace(GOOD, seen=(*GOOD.seen, replace(SEEN, body=event(requestId="three")))), {"I3"}),
    "not the vendor's word": (replace(GOOD, made=(replace(GOOD.made[0], status="Failed"),)), {"I4"}),
    "not the vendor's job": (replace(GOOD, made=(replace(GOOD.made[0], job="8"),)), {"I4"}),
    "success of nothing": (replace(GOOD, made=()), {"I4"}),
    "made twice": (replace(GOOD, made=(*GOOD.made, replace(GOOD.made[0], job="8"))), {"I5"}),
    "still alive": (replace(GOOD, rest=Rest(live_jobs=("job_1 one running",))), {"I6"}),
    "still pending": (replace(GOOD, rest=Rest(pending_deliveries=("dlv_1 events pending",))), {"I6"}),
    "not handled": (replace(GOOD, rest=Rest(waiting_callbacks=("cbk_1",))), {"I6"}),
    "left in a queue": (replace(GOOD, rest=Rest(queued={"relay.requests": 1})), {"I6"}),
    "dead-lettered": (replace(GOOD, letters=(Letter(reason="delivery_limit", body=b"{}"),)), {"I6"}),
    "told": (replace(GOOD, rest=Rest(leaks=("relay.log",))), {"I7"}),
}


@pytest.mark.parametrize(
    "history", [GOOD, History(), replace(GOOD, asked=(*GOOD.asked, SILENT))], ids=["good", "empty", "unconfirmed"]
)
def test_good(history: History) -> None:
    """Events that come more than once, and requests that never arrived, are no breach."""
    assert [] == check(history)


@pytest.mark.parametrize("name", BREACHES)
def test_breach(name: str) -> None:
    """Each breach is told under its promise."""
    history, promises = BREACHES[name]

    assert promises == {breach.partition(" ")[0] for breach in check(history)}


def test_subjects() -> None:
    """The requests that breaches are about can be looked up."""
    assert ["one"] == subjects_of(check(replace(GOOD, seen=())))
