"""Receive: a vendor's callback becomes a stored row before it is answered, and a fact when its job can take it."""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence

from relay import entropy, failpoints
from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import Flow, TransportError
from relay.core.job import Job, State
from relay.core.lifecycle import LAPSES_ALLOWED
from relay.core.vendor import Account, Callback, Operation, Reporting, Verify
from relay.limits import Limit
from relay.log import get_logger
from relay.metrics import Metrics
from relay.ports import (
    CallbackCame,
    CallbackDone,
    CallbackPostponed,
    Clock,
    FlowFailed,
    Note,
    Store,
    StoredCallback,
    StoreUnavailable,
    StrayCame,
    StraysMatched,
    StraysTurned,
    Unknown,
    Vendors,
    Verdict,
)
from relay.stages.callbacks import Callbacks, Named
from relay.stages.loop import Loop
from relay.stages.record import Recorder, log_context

log = get_logger()

MATCH_EVERY = 1.0
"""Seconds between looks whether a callback that waits for its job can be handed to it."""
STRAYS_KEPT = 7 * 86400.0
"""Seconds that a callback waits for its job to be known."""
DROP_EVERY = 3600.0
AGAIN = "a callback came again"
"""Why a job is looked at: some vendors tell each of its changes in the same words."""
SUBMIT_DELAY = 1.0
"""Seconds after which a callback looks again for the end of its job's submit, should nobody wake it."""


class Receive:
    """Takes callbacks in and handles them."""

    def __init__(
        self,
        store: Store,
        vendors: Vendors,
        accounts: Mapping[str, Account],
        callbacks: Callbacks,
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
        loop: Loop[StoredCallback],
    ) -> None:
        self._store = store
        self._vendors = vendors
        self._accounts = accounts
        self._callbacks = callbacks
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._loop = loop
        self._limit = Limit(loop.capacity.act_timeout)
        self._at_hand: dict[str, Job] = {}
        self._next_drop = 0.0

    def awaited(self, token: str) -> bool:
        """Whether a callback may come with this token."""
        named = self._callbacks.recognise(token)
        return named is not None and named.connection in self._accounts

    def awaited_at(self, connection: str) -> bool:
        """Whether one may come to this connection's fixed URL."""
        account = self._accounts.get(connection)
        return account is not None and bool(account.webhook_secrets and _reportings(account))

    async def take(self, token: str, callback: Callback) -> Verdict:
        """Store a callback, durably, if it is the vendor's. Raises StoreUnavailable."""
        named = self._callbacks.recognise(token)
        account = self._accounts.get(named.connection) if named else None
        if named is None or account is None:
            self._metrics.callbacks.labels("", "unknown").inc()
            return "unknown"
        why = self._why_not(account, named, callback)
        if why is not None:
            await self._turn_away(named, why)
            return "unsigned"
        return await self._keep(named, callback)

    async def take_fixed(self, connection: str, callback: Callback) -> Verdict:
        """Store a callback to a connection's fixed URL, durably, if it is the vendor's: for the job that it names, as
        soon as relay knows that. Raises StoreUnavailable."""
        account = self._accounts.get(connection)
        reportings = _reportings(account) if account else ()
        if account is None or not account.webhook_secrets or not reportings:
            self._metrics.callbacks.labels("", "unknown").inc()
            return "unknown"
        reporting, why = self._signed(account, reportings, callback)
        if reporting is None:
            self._metrics.callbacks.labels(connection, "unsigned").inc()
            log.warning("callback.refused", connection=connection, reason=why)
            return "unsigned"
        vendor_job_id = reporting.job_id(callback)
        if vendor_job_id is None:
            # The vendor's own test of the address is of this kind.
            log.info("callback.ignored", connection=connection, reason="it names no job")
            self._metrics.callbacks.labels(connection, "ignored").inc()
            return "ignored"
        turned = await self._store.record(
            StrayCame(
                id=f"cbk_{entropy.draw(13).hex()}",
                connection=connection,
                vendor_job_id=vendor_job_id,
                digest=_digest(callback),
                callback=callback,
            )
        )
        await self._tell_matched(turned)
        return "stored"

    async def match(self) -> None:
        """For ever: hand callbacks to fixed URLs to their jobs, once these are known."""
        while True:
            await asyncio.sleep(MATCH_EVERY)
            if not any(account.webhook_secrets for account in self._accounts.values()):
                continue
            with contextlib.suppress(StoreUnavailable):
                if await self._store.strays_matched() or self._clock() >= self._next_drop:
                    self._next_drop = self._clock() + DROP_EVERY
                    await self._tell_matched(await self._store.record(StraysMatched(keep=STRAYS_KEPT)))

    async def act(self, stored: StoredCallback) -> None:
        """Turn a stored callback into a fact about its job, or leave it until the job's submit is answered."""
        job = self._at_hand.pop(stored.id, None) or await self._store.job(stored.job_id)
        if job is None:
            return  # dropped meanwhile, and its callbacks with it
        if job.state is State.SUBMITTING:
            await self._store.record(CallbackPostponed(callback=stored, delay=SUBMIT_DELAY))
            return
        *before, fact = await self._facts(job, stored)
        failpoints.hit("receive.before_record")
        for each in before:
            job = await self._recorder.learn(job, each, "webhook", leased=False, heard=False) or job
        moved = await self._recorder.learn(job, fact, "webhook", consumes=stored.id, leased=False, heard=False)
        failpoints.hit("receive.after_record")
        if moved is None:
            await self._store.record(CallbackDone(callback=stored, note=self._late(job, fact)))
        self._metrics.callbacks.labels(job.spec.connection, "late" if moved is None else "applied").inc()

    # --- taking in ---

    def _signed(
        self, account: Account, reportings: Sequence[Reporting], callback: Callback
    ) -> tuple[Reporting | None, str]:
        """By which of the vendor's ways to report the callback is its own; else why it is not."""
        why = "this vendor signs nothing, and a fixed URL takes only what is signed"
        for reporting in reportings:
            for secret in account.webhook_secrets:
                if reporting.verify is None:
                    continue
                objection = reporting.verify(account.connection, callback, secret, self._clock())
                if objection is None:
                    return reporting, ""
                why = objection
        return None, why

    async def _tell_matched(self, turned: StraysTurned) -> None:
        if turned.matched:
            self._loop.wake()
        for job_id in turned.again:
            if (job := await self._store.job(job_id)) is not None:
                await self._look_again(job, AGAIN)
        for connection, vendor_job_id in turned.dropped:
            self._metrics.callbacks.labels(connection, "dropped").inc()
            log.warning("callback.dropped", connection=connection, vendor_job=vendor_job_id, after=STRAYS_KEPT)

    def _why_not(self, account: Account, named: Named, callback: Callback) -> str | None:
        """Why the callback is not the vendor's; with signatures off, the token alone tells."""
        operation = account.vendor.operations.get(named.operation)
        verify = _verification(account, operation)
        if verify is None:
            return None
        secrets = self._callbacks.secrets(named.job_id)
        reasons = [verify(account.connection, callback, secret, self._clock()) for secret in secrets]
        return None if None in reasons else reasons[0]

    async def _turn_away(self, named: Named, why: str) -> None:
        """A good token with a bad signature ends nothing; it only brings the next look forward."""
        self._metrics.callbacks.labels(named.connection, "unsigned").inc()
        log.warning("callback.refused", connection=named.connection, job=named.job_id, reason=why)
        job = await self._store.job(named.job_id)
        if job is not None:
            await self._look_again(job, f"a callback was refused: {why}")

    async def _look_again(self, job: Job, why: str) -> None:
        if job.state is State.RUNNING and not job.nudged:
            await self._recorder.learn(job, facts.Nudged(reason=why), "webhook", leased=False, heard=False)

    async def _keep(self, named: Named, callback: Callback) -> Verdict:
        reserved = self._loop.reserve(named.connection)
        handed = False
        try:
            failpoints.hit("receive.before_store")
            came = CallbackCame(
                id=f"cbk_{entropy.draw(13).hex()}",
                job_id=named.job_id,
                digest=_digest(callback),
                callback=callback,
                hold=self._loop.hold if reserved else None,
            )
            if reserved and await self._applied(came):
                failpoints.hit("receive.after_store")
                return "stored"
            kept = await self._store.record(came)
            failpoints.hit("receive.after_store")
            if isinstance(kept, Unknown):
                return "unknown"
            if kept.stored is not None:
                self._at_hand[kept.stored.id] = kept.job
                self._loop.hand(kept.stored)
                handed = True
            log.debug("callback.stored", **log_context(kept.job), repeat=kept.repeat)
            if kept.repeat:
                await self._look_again(kept.job, AGAIN)
        finally:
            if reserved and not handed:
                self._loop.release(named.connection)
        return "stored"

    async def _applied(self, came: CallbackCame) -> bool:
        """End the job and keep the callback in one record, where the job is at hand and the callback says all itself.
        False, and nothing done, where it is to be stored first: that way takes every callback."""
        job = await self._recorder.awaited(came.job_id)
        account = self._accounts.get(job.spec.connection) if job is not None else None
        if job is None or account is None:
            return False
        operation = account.operation_of(job)
        if operation is None or operation.callback is None or _verification(account, operation) is None:
            return False
        fact = _said(operation.callback.read(account.connection, job, came.callback))
        if fact is None:
            return False
        failpoints.hit("receive.before_record")
        ended = await self._recorder.end(job, fact, came)
        failpoints.hit("receive.after_record")
        if ended:
            self._metrics.callbacks.labels(job.spec.connection, "applied").inc()
        return ended

    # --- handling ---

    async def _facts(self, job: Job, stored: StoredCallback) -> Sequence[Fact]:
        """What is to be learned of a callback, the last being what it comes to."""
        account = self._accounts.get(job.spec.connection)
        if account is None:
            return [facts.Nudged(reason="a callback came while its connection was not configured")]
        if stored.lapses >= LAPSES_ALLOWED:
            return [facts.Nudged(reason=f"relay was stopped {stored.lapses} times in a row while it read a callback")]
        fact = await self._read(job, account, stored.callback)
        proven = _verification(account, account.operation_of(job)) is not None
        return [fact] if proven else _unproven(job, fact)

    async def _read(self, job: Job, account: Account, callback: Callback) -> Fact:
        """What the callback says."""
        operation = account.operation_of(job)
        if operation is None or operation.callback is None:
            return facts.Nudged(reason="this operation's callbacks say nothing by themselves")
        flow = operation.callback.read(account.connection, job, callback)
        try:
            with self._limit:
                return await self._vendors.run(account.connection.name, flow)
        except TimeoutError:
            limit = self._loop.capacity.act_timeout
            return facts.Nudged(reason=f"the callback could not be confirmed within {limit:g} s")
        except TransportError as error:
            return facts.Nudged(reason=f"the callback could not be confirmed: {error}")
        except FlowFailed as error:
            log.warning("vendor.flow_failed", **log_context(job), act="callback", error=str(error))
            return facts.Nudged(reason=f"the callback could not be read: {error}")

    def _late(self, job: Job, fact: Fact) -> Note:
        detail = {"fact": type(fact).__name__, "vendorStatus": getattr(fact, "status", None)}
        return Note(at=self._clock(), what="callback.late", state=job.state.value, detail=detail)


def _reportings(account: Account) -> Sequence[Reporting]:
    """The vendor's ways to report, each once."""
    found: list[Reporting] = []
    for operation in account.vendor.operations.values():
        if operation.callback is not None and operation.callback not in found:
            found.append(operation.callback)
    return found


def _verification(account: Account, operation: Operation | None) -> Verify | None:
    """How a callback is known to be the vendor's; None where its word has to be confirmed."""
    if operation is None or operation.callback is None or account.connection.callback_signature == "off":
        return None
    return operation.callback.verify


def _unproven(job: Job, fact: Fact) -> Sequence[Fact]:
    """What an unsigned callback is good for. Its token was given to the vendor alone, with the submit: so the submit
    arrived, under the id that the callback names. That the job has ended, the vendor itself has to say."""
    if job.state.terminal or not isinstance(fact, facts.Succeeded | facts.Failed | facts.Canceled):
        return [fact]
    look = facts.Nudged(reason=f"an unsigned callback says {fact.status}")
    return [look] if job.state is State.RUNNING else [facts.StillRunning(status=fact.status, ref=fact.ref), look]


def _said(flow: Flow[Fact]) -> Fact | None:
    """What the flow ends in if it needs nobody else for it. One that asks or fails is told of where it is driven."""
    try:
        next(flow)
        flow.close()
    except StopIteration as end:
        fact: Fact = end.value
        return fact
    except Exception:  # noqa: BLE001 - whatever it is, it is raised again there
        return None
    return None


def _digest(callback: Callback) -> str:
    parts = [callback.method.encode(), repr(sorted(callback.query.items())).encode(), callback.body]
    return hashlib.sha256(b"\x00".join(parts)).hexdigest()
