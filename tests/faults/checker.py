"""What must hold of every run, whatever happened in it.

I1  every confirmed request has an event at each of its targets
I2  all its events carry one id, one outcome and the same bytes
I3  there is no event of a request that nobody made
I4  the outcome is the vendor's
I5  the vendor has made one job for a request at most
I6  at rest no job lives, nothing waits, and nothing was refused
I7  no secret shows
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from tests.e2e.history import Asked, History, Made, Seen

STATUS = {"Complete": "succeeded", "Failed": "failed", "Canceled": "canceled"}
"""relay's word for each of the vendor's."""


def check(history: History) -> list[str]:
    """Every breach, each in a line; none for a good run."""
    asked = {each.request_id: each for each in history.asked}
    made: defaultdict[str, list[Made]] = defaultdict(list)
    for job in history.made:
        made[job.subject].append(job)
    seen: defaultdict[str, list[Seen]] = defaultdict(list)
    for each in history.seen:
        seen[each.data["requestId"]].append(each)
    return [
        *(line for each in asked.values() if each.confirmed for line in _lost(each, seen[each.request_id])),
        *(line for request_id, events in seen.items() for line in _torn(request_id, events)),
        *(f"I3 {request_id}: an event, and nobody asked" for request_id in seen if request_id not in asked),
        *(line for each in asked.values() for line in _untrue(each, seen[each.request_id], made[each.subject])),
        *(f"I5 {each.request_id}: the vendor made {jobs}" for each in asked.values() if (jobs := _several(each, made))),
        *_unrest(history),
        *(f"I7 {place} shows a secret" for place in history.rest.leaks),
    ]


def _lost(asked: Asked, seen: Iterable[Seen]) -> Iterable[str]:
    there = {each.target for each in seen}
    return (f"I1 {asked.request_id}: no event at {target}" for target in asked.targets if target not in there)


def _torn(request_id: str, seen: Iterable[Seen]) -> Iterable[str]:
    told = {
        "ids": {each.event_id for each in seen} | {each.event["id"] for each in seen},
        "outcomes": {f"{each.event['type']} {each.data['status']}" for each in seen},
        "bodies": {each.body.decode() for each in seen},
    }
    return (f"I2 {request_id}: {len(each)} {what}: {sorted(each)}" for what, each in told.items() if len(each) > 1)


def _untrue(asked: Asked, seen: Iterable[Seen], made: Iterable[Made]) -> Iterable[str]:
    truth = {(STATUS.get(job.status, job.status), job.job) for job in made}
    told = {(each.data["status"], each.data["vendorJobId"]) for each in seen}
    for status, job in sorted(told - truth, key=str):
        if truth or status == "succeeded":
            yield f"I4 {asked.request_id}: told {status} of {job}, but the vendor has {sorted(truth)}"


def _several(asked: Asked, made: Mapping[str, list[Made]]) -> list[str]:
    jobs = [job.job for job in made[asked.subject]]
    return jobs if len(jobs) > 1 else []


def _unrest(history: History) -> Iterable[str]:
    rest = history.rest
    yield from (f"I6 still alive: {job}" for job in rest.live_jobs)
    yield from (f"I6 still pending: {delivery}" for delivery in rest.pending_deliveries)
    yield from (f"I6 not handled: callback {callback}" for callback in rest.waiting_callbacks)
    yield from (f"I6 {count} messages left in {queue}" for queue, count in rest.queued.items())
    yield from (f"I6 {letter.request_id}: dead-lettered, {letter.reason}" for letter in history.letters)


def subjects_of(breaches: Iterable[str]) -> list[str]:
    """The requests that the breaches name."""
    words = (breach.split(": ", 1)[0].split(" ", 1)[1] for breach in breaches if ": " in breach)
    return list(Counter(words))
