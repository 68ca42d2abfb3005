"""Work: the one outward act that a due job needs, and the fact that came of it."""

from collections.abc import Mapping
from time import monotonic
from typing import TypeAlias, assert_never

from relay import failpoints
from relay.core import facts
from relay.core.answers import unavailable
from relay.core.facts import Answered, Fact
from relay.core.flow import Flow, NoAnswer, NotLetIn, NotReached, TooLarge, TransportError
from relay.core.job import ErrorCode, Job, JobError, State, VendorCancel
from relay.core.lifecycle import Cancel, Find, Learn, Poll, Rest, Submit, next_act
from relay.core.schedule import hinted
from relay.core.vendor import Account, Operation
from relay.limits import Limit
from relay.log import get_logger
from relay.metrics import Metrics
from relay.ports import FlowFailed, JobMoved, LaneMark, Store, Vendors
from relay.stages.accept import find_target
from relay.stages.callbacks import Callbacks
from relay.stages.loop import Capacity
from relay.stages.record import Recorder, log_context, rules_of

log = get_logger()

MISSING_CONNECTION_DELAY = 30.0
CANCEL_AGAIN_DELAY = 5.0
TARGET_BUSY_DELAY = 0.5
"""Seconds until a cancel looks again at a job whose submit is under way."""
TARGET_AWAITED = 2.0
"""Seconds after which a cancel looks once more for a target that relay does not know: its request may be on its way."""

Asking: TypeAlias = Submit | Find | Poll | Cancel
"""The acts that are conversations with a vendor."""


class Work:
    """Acts on due jobs."""

    def __init__(
        self,
        store: Store,
        vendors: Vendors,
        accounts: Mapping[str, Account],
        callbacks: Callbacks,
        recorder: Recorder,
        metrics: Metrics,
        capacity: Capacity,
    ) -> None:
        self._store = store
        self._vendors = vendors
        self._accounts = accounts
        self._callbacks = callbacks
        self._recorder = recorder
        self._metrics = metrics
        self._hold = capacity.lease
        self._act_timeout = capacity.act_timeout
        self._limit = Limit(capacity.act_timeout)

    async def act(self, job: Job) -> None:
        """Do what is to be done with a job that is leased to this process."""
        account = self._accounts.get(job.spec.connection)
        if account is None and job.spec.target is None and not job.overdue:
            await self._wait_for_connection(job)
            return
        act = next_act(job, rules_of(account, job))
        if isinstance(act, Learn):
            await self._recorder.learn(job, act.fact, "response", heard=False)
        elif isinstance(act, Rest):
            await self._store.record(JobMoved(job=job, lane=_unheard_of(job)))
        elif isinstance(act, Submit) and job.spec.target is not None and job.spec.operation == "cancel":
            await self._cancel_target(job)
        elif account is None:
            await self._wait_for_connection(job)
        elif (operation := account.operation_of(job)) is None:
            await self._recorder.learn(job, _gone(job), "response", heard=False)
        else:
            await self._converse(job, act, account, operation)

    async def go_on(self, job: Job) -> None:
        """Submit a job whose start was recorded with its acceptance; do what is to be done with any other."""
        account = self._accounts.get(job.spec.connection)
        operation = account.operation_of(job) if account is not None else None
        if job.state is State.SUBMITTING and account is not None and operation is not None:
            failpoints.hit("work.after_start")
            await self._ask(job, Submit(), account, operation)
        else:
            await self.act(job)

    # --- with the vendor ---

    async def _converse(self, job: Job, act: Asking, account: Account, operation: Operation) -> None:
        if isinstance(act, Submit):
            failpoints.hit("work.before_start")
            begun = await self._recorder.begin(job, self._hold)
            failpoints.hit("work.after_start")
            if begun is None:
                return
            job = begun
        await self._ask(job, act, account, operation)

    async def _ask(self, job: Job, act: Asking, account: Account, operation: Operation) -> None:
        fact = await self._fact(job, act, account, operation)
        failpoints.hit("work.before_record")
        if isinstance(act, Cancel):
            fact = _told(fact)
        await self._recorder.learn(job, fact, "poll" if isinstance(act, Poll) else "response")

    async def _fact(self, job: Job, act: Asking, account: Account, operation: Operation) -> Fact:
        """What the conversation that the act calls for ends in; never raises for anything that a vendor did."""
        started = monotonic()
        name = type(act).__name__.lower()
        try:
            with self._limit:
                fact = await self._vendors.run(account.connection.name, self._flow(job, act, account, operation))
        except TimeoutError:
            fact = _unheard(job, act, operation, NoAnswer(f"the conversation took longer than {self._act_timeout:g} s"))
        except TransportError as error:
            fact = _unheard(job, act, operation, error)
        except FlowFailed as error:
            log.warning("vendor.flow_failed", **log_context(job), act=name, error=str(error))
            fact = _broken(job, act, error)
        except Exception as error:
            log.exception("vendor.act_failed", **log_context(job), act=name)
            fact = _broken(job, act, FlowFailed(type(error).__name__, sent=True))
        self._observe(job, account, name, fact, monotonic() - started)
        return fact

    def _flow(self, job: Job, act: Asking, account: Account, operation: Operation) -> Flow[Fact]:
        connection = account.connection
        match act:
            case Submit():
                return operation.submit(connection, job, self._callbacks.address(job))
            case Find():
                assert operation.find is not None  # next_act asks only where the rules say so
                return operation.find(connection, job, self._callbacks.address(job))
            case Poll():
                assert operation.poll is not None  # an immediate job has ended with its answer
                return operation.poll(connection, job)
            case Cancel():
                assert operation.cancel is not None  # next_act asks only where the rules say so
                return operation.cancel(connection, job)
            case _:
                assert_never(act)

    def _observe(self, job: Job, account: Account, act: str, fact: Fact, seconds: float) -> None:
        word = type(fact).__name__
        self._metrics.acts.labels(account.connection.name, act, word).inc()
        self._metrics.act_seconds.labels(account.connection.name, act).observe(seconds)
        if isinstance(fact, facts.StillRunning) and fact.note is not None:
            self._metrics.unknown_status.labels(account.vendor.name).inc()
            write = log.debug if job.polls and fact.status == job.vendor_status else log.warning
            write("vendor.unknown_status", **log_context(job), status=fact.status, note=fact.note)
        log.debug("vendor.asked", **log_context(job), act=act, fact=word, seconds=round(seconds, 4))

    async def _wait_for_connection(self, job: Job) -> None:
        """A submit that was cut off stays in doubt until somebody can be asked about it."""
        reason = f"the connection {job.spec.connection!r}, which is no longer configured"
        if job.state is State.SUBMITTING:
            waiting = job.but(waiting_for=reason)
            change = JobMoved(job=waiting, delay=MISSING_CONNECTION_DELAY, lane=_unheard_of(job))
            await self._store.record(change)
            return
        fact = facts.Postponed(reason=reason, delay=MISSING_CONNECTION_DELAY)
        await self._recorder.learn(job, fact, "response", heard=False)

    # --- canceling a relay job ---

    async def _cancel_target(self, job: Job) -> None:
        """No submit is recorded before: a cancel does no harm when it is sent again."""
        assert job.spec.target is not None
        target = await find_target(self._store, job.spec.target)
        fact = await self._canceled(job, target) if target else _without_target(job)
        await self._recorder.learn(job, fact, "response", heard=False)

    async def _canceled(self, job: Job, target: Job) -> Fact:
        """What becomes of the cancel, given its target as it is now."""
        account = self._accounts.get(target.spec.connection)
        if account is not None and job.spec.operation not in account.allowed:
            # The target was not yet known when the cancel was accepted.
            return facts.Refused(error=_forbidden(target))
        if target.cancel_by == job.id:
            return _done(target)  # this cancel was stopped after it had worked
        if target.state.terminal:
            message = f"{target.id} has already ended: {target.state.value}"
            return facts.Refused(error=JobError(code=ErrorCode.ALREADY_FINISHED, message=message))
        if target.state is State.ACCEPTED:
            return await self._canceled_unsent(job, target)
        if target.state is not State.RUNNING:
            return facts.Postponed(reason=f"the submit of {target.id}, which is under way", delay=TARGET_BUSY_DELAY)
        return await self._canceled_at_vendor(job, target, account)

    async def _canceled_unsent(self, job: Job, target: Job) -> Fact:
        moved = await self._recorder.learn(target, facts.CancelAsked(by=job.id), "request", leased=False, heard=False)
        if moved is not None and moved.state is State.CANCELED:
            return _done(moved)
        return facts.Postponed(reason=f"{target.id}, which has just moved on", delay=0.0)

    async def _canceled_at_vendor(self, job: Job, target: Job, account: Account | None) -> Fact:
        operation = account.operation_of(target) if account else None
        if account is None or operation is None or operation.cancel is None:
            message = f"{target.spec.vendor} cannot stop a running {target.spec.action!r}"
            return facts.Refused(error=JobError(code=ErrorCode.UNSUPPORTED_OPERATION, message=message))
        told = _told(await self._fact(target, Cancel(), account, operation))
        if told.outcome == "failed":
            return _not_canceled(told)
        asked = facts.CancelAsked(by=job.id, outcome=told.outcome)
        moved = await self._recorder.learn(target, asked, "request", leased=False, heard=False)
        return _done(moved or target)


def _unheard_of(job: Job) -> LaneMark | None:
    """A probe that told nothing of its lane gives its place back."""
    return LaneMark(stage="work", lane=job.lane, ok=None) if job.probe else None


def _done(target: Job) -> Fact:
    return Answered(
        result={"jobId": target.id, "status": target.state.value},
        vendor_job_id=target.vendor_job_id,
        status=target.vendor_status,
    )


def _not_canceled(told: facts.CancelTold) -> Fact:
    """The vendor did not take the cancel: refused for good, or to be asked again once it is back."""
    error: JobError = told.details["error"]
    if error.code is not ErrorCode.VENDOR_UNAVAILABLE:
        return facts.Refused(error=error)
    delay = hinted(CANCEL_AGAIN_DELAY, told.details["retryAfter"])
    return facts.Postponed(reason=f"the vendor to take the cancel: {error.message}", delay=delay)


def _told(fact: Fact) -> facts.CancelTold:
    """What a vendor's answer to a cancel comes to; an error goes along for who has to report it."""
    if isinstance(fact, Answered):
        outcome: VendorCancel = "confirmed" if fact.state == "canceled" else "asked"
        return facts.CancelTold(outcome=outcome)
    error = getattr(fact, "error", None) or unavailable("the vendor gave no usable answer")
    return facts.CancelTold(
        outcome="failed", details={"error": error, "retryAfter": getattr(fact, "retry_after", None)}
    )


def _unheard(job: Job, act: Asking, operation: Operation, error: TransportError) -> Fact:
    """What a lost conversation means: for a submit it matters whether anything may have arrived."""
    problem = unavailable(str(error))
    if isinstance(error, NotLetIn):
        problem = JobError(code=ErrorCode.VENDOR_AUTH_FAILED, message=str(error), retryable=True)
    if not isinstance(act, Submit):
        return facts.PollFailed(error=problem)
    if isinstance(error, NotLetIn):
        return facts.Refused(error=problem)
    if isinstance(error, TooLarge) and operation.repeatable:
        # Another try would bring the same: nobody has to wait for the deadline to be told.
        return facts.Refused(error=JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=str(error)))
    if isinstance(error, NotReached):
        return facts.NotSent(attempt=job.attempt, error=problem)
    return facts.Unanswered(attempt=job.attempt, error=problem)


def _broken(job: Job, act: Asking, error: FlowFailed) -> Fact:
    problem = JobError(code=ErrorCode.INTERNAL_ERROR, message=f"the vendor's adapter failed: {error}")
    if not isinstance(act, Submit):
        return facts.PollFailed(error=problem)
    if error.sent:
        return facts.Unanswered(attempt=job.attempt, error=problem)
    return facts.Refused(error=problem)


def _gone(job: Job) -> Fact:
    """The vendor lacks the operation now: nothing is begun, and what runs already waits for it to come back."""
    if job.state is not State.ACCEPTED:
        reason = f"the operation {job.spec.action!r}, which {job.spec.vendor} no longer has"
        return facts.Postponed(reason=reason, delay=MISSING_CONNECTION_DELAY)
    message = f"{job.spec.vendor} no longer has the operation {job.spec.action!r}"
    return facts.Refused(error=JobError(code=ErrorCode.UNSUPPORTED_OPERATION, message=message))


def _forbidden(target: Job) -> JobError:
    message = f"'cancel' is not among connections.{target.spec.connection}.operations"
    return JobError(code=ErrorCode.FORBIDDEN_OPERATION, message=message)


def _without_target(job: Job) -> Fact:
    """Messages may overtake each other, as after a restart: who asked for both in order is not told that there is no
    such job. An id that relay has given is known."""
    target = job.spec.target
    assert target is not None
    if target.request_id is not None and job.waiting_for is None:
        reason = f"the request {target.request_id}, of which relay does not know (yet)"
        return facts.Postponed(reason=reason, delay=TARGET_AWAITED)
    name = f"jobId {target.job_id}" if target.job_id else f"requestId {target.request_id}"
    return facts.Refused(error=JobError(code=ErrorCode.UNKNOWN_JOB, message=f"relay has no job with the {name}"))
