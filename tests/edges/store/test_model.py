"""The store against a picture of it that fits on a page: whatever is done in whatever order, both agree."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relay.core.job import Job, State
from relay.ports import Accepted, Conflict, Recorded, Repeat, Stale
from tests.edges.store.conftest import MakeEngine, SqliteEngine
from tests.edges.store.making import accepted, claim, delivery, ended, moved, new, record

LEASE = 30.0
DEADLINE = 3600.0
REQUESTS = ("one", "two", "three")


class Agreement(RuleBasedStateMachine):
    """Requests, claims, steps good and stale, time, restarts."""

    make_engine: MakeEngine = SqliteEngine

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = type(self).make_engine(Path(self.folder.name))
        self.store = self.run(self.engine.open())
        self.jobs: dict[str, Job] = {}
        self.content: dict[str, str] = {}
        self.due: dict[str, float | None] = {}
        self.leased: set[str] = set()
        self.lapses: dict[str, int] = {}
        self.old: list[Job] = []
        self.notes: dict[str, int] = {}

    def run(self, act: Any) -> Any:
        return self.loop.run_until_complete(act)

    def teardown(self) -> None:
        self.run(self.engine.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    @rule(request_id=st.sampled_from(REQUESTS), content=st.sampled_from(["same", "other"]))
    def ask(self, request_id: str, content: str) -> None:
        outcome = self.run(self.store.accept(new(request_id, fingerprint=content, timeout=DEADLINE)))
        known = self.jobs.get(request_id)
        if known is None:
            assert isinstance(outcome, Accepted)
            self.content[request_id] = content
            self.keep(outcome.job, due=self.engine.now)
            self.lapses[request_id] = self.notes[request_id] = 0
        elif content == self.content[request_id]:
            assert isinstance(outcome, Repeat)
            assert outcome.job == self.as_now(known)
        else:
            assert outcome == Conflict(job_id=known.id)

    @rule(total=st.integers(0, 3))
    def take(self, total: int) -> None:
        claimed = self.run(claim(self.store, total=total, lease=LEASE))
        waiting = sorted((due, name) for name, due in self.due.items() if due is not None and due <= self.engine.now)
        names = [job.spec.request_id for job in claimed.jobs]
        assert len(names) == min(total, len(waiting))
        assert [self.due[name] for name in names] == [due for due, _ in waiting[:total]]
        for job in claimed.jobs:
            name = job.spec.request_id
            self.lapses[name] += name in self.leased
            expected = replace(self.jobs[name], version=self.jobs[name].version + 1, lapses=self.lapses[name])
            assert job == self.as_now(expected)
            self.old.append(self.jobs[name])
            self.keep(job, due=self.engine.now + LEASE)
            self.leased.add(name)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), delay=st.sampled_from([None, 0.0, 10.0, 1e6]))
    def step(self, data: st.DataObject, delay: float | None) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs.values(), key=lambda job: job.id)))
        if job.state.terminal:
            return
        name = job.spec.request_id
        state = data.draw(st.sampled_from([State.SUBMITTING, State.RUNNING]))
        done = self.run(record(self.store, moved(job, state, delay=delay, polls=job.polls + 1)))
        assert done == replace(job, state=state, polls=job.polls + 1, version=job.version + 1, lapses=0)
        self.old.append(job)
        self.notes[name] += 1
        at = self.engine.now + (1e9 if delay is None else delay)
        self.let_go(done, due=min(at, job.deadline_at))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs.values(), key=lambda job: job.id)))
        if job.state.terminal:
            return
        done = self.run(record(self.store, ended(job, delivery(f"d-{job.id}"))))
        self.old.append(job)
        self.notes[job.spec.request_id] += 1
        self.let_go(done, due=None)

    @precondition(lambda self: self.old)
    @rule(data=st.data(), final=st.booleans())
    def come_too_late(self, data: st.DataObject, final: bool) -> None:
        job = data.draw(st.sampled_from(self.old))
        change = ended(job, delivery(), event_id="evt_late") if final else moved(job, polls=99)
        assert self.run(self.store.record(change)) == Stale(job=self.as_now(self.jobs[job.spec.request_id]))

    @rule(seconds=st.sampled_from([1.0, 10.0, LEASE, DEADLINE]))
    def wait(self, seconds: float) -> None:
        self.engine.tick(seconds)

    @rule()
    def restart(self) -> None:
        self.store = self.run(self.engine.reopened())
        for name in self.leased if self.engine.alone else ():
            self.due[name] = self.engine.now

    @rule(count=st.integers(2, 6))
    def race(self, count: int) -> None:
        """Many steps from one picture at the same moment: one of them is recorded."""
        job = self.run(accepted(self.store, timeout=DEADLINE, hold=1e9))

        async def all_at_once() -> list[Any]:
            return await asyncio.gather(*(self.store.record(ended(job)) for _ in range(count)))

        assert sum(isinstance(outcome, Recorded) for outcome in self.run(all_at_once())) == 1

    @invariant()
    def agree(self) -> None:
        for name, job in self.jobs.items():
            assert self.run(self.store.job_by_request(name)) == self.as_now(job)
            assert len(self.run(self.store.history(job.id))) == self.notes[name]
            has_event = self.run(self.store.event(f"evt_{job.id}")) is not None
            has_delivery = self.run(self.store.delivery(f"d-{job.id}")) is not None
            assert (has_event, has_delivery) == (job.state.terminal, job.state.terminal)

    def keep(self, job: Job, due: float | None) -> None:
        self.jobs[job.spec.request_id] = replace(job, overdue=False)
        self.due[job.spec.request_id] = due

    def let_go(self, job: Job, due: float | None) -> None:
        self.keep(job, due)
        self.leased.discard(job.spec.request_id)
        self.lapses[job.spec.request_id] = 0

    def as_now(self, job: Job) -> Job:
        return replace(job, overdue=job.deadline_at <= self.engine.now)


def test_the_store_does_as_its_model_says(make_engine: MakeEngine) -> None:
    """Whatever is asked in whatever order, every answer is the model's, and so is what is kept."""
    examples = 30 if make_engine is SqliteEngine else 8  # each answer of a server takes longer
    run_state_machine_as_test(
        type("OneEngine", (Agreement,), {"make_engine": staticmethod(make_engine)}),
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
