"""Accept: from a request, however it came, to a stored job, or to a refusal that says everything that is wrong.

A message is acknowledged only after its job is committed; while the store is away it waits, unacknowledged.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import orjson
from pydantic import ValidationError

from relay import entropy, failpoints
from relay.core import cloudevents
from relay.core.fixed import fixed
from relay.core.flow import JsonValue, strict_json
from relay.core.job import ErrorCode, Job, JobError, JobSpec, State, Target, new_job_id, new_key
from relay.core.schedule import backoff
from relay.core.vendor import Account, Operation
from relay.log import get_logger
from relay.messages import (
    MOST_COMPLAINTS,
    Complaint,
    EventData,
    EventError,
    JobEvent,
    JobRequest,
    Readable,
    Refusal,
    TargetName,
    complaints_of,
    json_path,
    refuse,
    rfc3339,
)
from relay.metrics import Metrics
from relay.ports import (
    Accepted,
    Ack,
    Act,
    Asked,
    Clock,
    Conflict,
    DeadLetter,
    Disposition,
    Event,
    Incoming,
    NewDelivery,
    NewJob,
    Repeat,
    Reply,
    RequestRefused,
    Store,
    StoreUnavailable,
)
from relay.stages.callbacks import Callbacks
from relay.stages.loop import Loop
from relay.stages.record import exchange_delivery, log_context, reply_delivery, start_of

log = get_logger()

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""A NUL, or half of a surrogate pair."""
_NO_ID = (
    "is absent, and what came in its place (the event's source and id, message_id or Idempotency-Key) "
    "must be 1 to 200 printable characters"
)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,63}")
CheckUrl: TypeAlias = Callable[[str], str | None]
"""Why a URL is not taken, None if it is."""


@fixed
class ReplyPolicy:
    """Where replies may go: `prefixes` of queue names, None for any, empty for none; never to relay's own queues."""

    prefixes: tuple[str, ...] | None = None
    own_queues: frozenset[str] = frozenset()

    def why_not(self, queue: str) -> str | None:
        """Why a reply may not go to this queue, None if it may."""
        if queue in self.own_queues:
            return "replies never go to relay's own queues"
        if self.prefixes is not None and not queue.startswith(self.prefixes):
            allowed = ", ".join(self.prefixes) or "none"
            return f"replies may not go to this queue; allowed prefixes: {allowed} (amqp.replyTo)"
        return None


@fixed
class _Address:
    """Whom a request is for: the connection, its account (None where a cancel does without), and the relay job that it
    names as its target."""

    connection: str
    account: Account | None
    target: Job | None = None


class Accept:
    """Takes requests."""

    def __init__(
        self,
        store: Store,
        accounts: Mapping[str, Account],
        callbacks: Callbacks,
        work: Loop[Job],
        announce_wake: Callable[[], None],
        check_url: CheckUrl,
        replies: ReplyPolicy,
        events_exchange: str | None,
        clock: Clock,
        metrics: Metrics,
        max_bytes: int,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._callbacks = callbacks
        self._work = work
        self._announce_wake = announce_wake
        self._check_url = check_url
        self._replies = replies
        self._events_exchange = events_exchange
        self._clock = clock
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._nameless: set[str] = set()
        self._resuming: set[asyncio.Task[None]] = set()

    async def take(self, asked: Asked) -> Accepted | Repeat:
        """The job that the request became, or already was. Raises Refusal, or StoreUnavailable."""
        raw: Mapping[str, JsonValue] = {}
        try:
            raw = self._parsed(asked)
            outcome = await self._store_job(await self._checked(asked, raw), patient=asked.source == "amqp")
            if isinstance(outcome, Conflict):
                raise await self._conflict(outcome.job_id, asked.connections)
        except Refusal as refusal:
            told = _telling(refusal, _readable(raw, asked))
            self._tell_refused(asked.source, told)
            raise told from refusal
        self._metrics.requests.labels(asked.source, "accepted" if isinstance(outcome, Accepted) else "repeat").inc()
        return outcome

    async def intake(self, message: Incoming) -> Disposition:
        """What is to become of an AMQP message; returns when it is durable. Waits for a store that is away."""
        try:
            asked = _asked(message, self._opened(message))
        except Refusal as refusal:
            return self._unopened(message, refusal)
        troubles = 0
        while True:
            try:
                await self.take(asked)
                return Ack()
            except Refusal as refusal:
                return self._dead_letter(message, asked, refusal)
            except StoreUnavailable as error:
                troubles += 1
                log.warning("store.unavailable", stage="accept", error=str(error))
                await asyncio.sleep(backoff(troubles, base=0.1, cap=5.0))

    # --- from message to job ---

    async def _checked(self, asked: Asked, raw: Mapping[str, JsonValue]) -> NewJob:
        request = self._request(self._canonical(raw))
        request_id = request.request_id or self._fallback(asked)
        address = await self._addressed(request, asked)
        operation = self._operation(request, address)
        again = address.target if request.operation == "rerun" else None
        complaints = [
            *self._bad_parameters(request if again is None else again.spec, operation, address.account),
            *self._bad_webhooks(request),
            *self._bad_completion(request, operation),
            *self._bad_reply(asked),
        ]
        if complaints:
            raise Refusal(ErrorCode.INVALID_REQUEST, complaints)
        now = self._clock()
        spec = self._spec(request, request_id, asked, address, operation)
        limited = _takes_place(address.account, operation)
        job = Job(
            id=new_job_id(now, entropy.draw(10)),
            spec=spec,
            key=new_key(entropy.draw(16)),
            accepted_at=now,
            waiting_for="one of the connection's places at the vendor (maxInFlight)" if limited else None,
        )
        delay = max(0.0, (spec.not_before or 0.0) - now)
        return NewJob(
            job=job,
            start=start_of(job, now) if operation is not None and not limited and not delay else None,
            fingerprint=_fingerprint(raw),
            delay=delay,
            timeout=spec.timeout,
            reply=Reply(queue=asked.reply_to, correlation_id=asked.correlation_id) if asked.reply_to else None,
            reply_delivery=reply_delivery,
            hold=self._work.hold if not limited and not delay else None,
            limited=limited,
            act=_act(asked.by, job, address.target) if asked.by is not None else None,
        )

    async def _conflict(self, job_id: str, seen: frozenset[str] | None) -> Refusal:
        """Which job has the id is told to those who may see it."""
        job = None if seen is None else await self._store.job(job_id)
        hidden = seen is not None and (job is None or job.spec.connection not in seen)
        whose = "another job" if hidden else job_id
        message = f"this request id belongs to {whose}, which was asked for something else"
        return refuse(ErrorCode.IDEMPOTENCY_CONFLICT, "requestId", message, status=409)

    async def _store_job(self, new: NewJob, *, patient: bool) -> Accepted | Repeat | Conflict:
        """`patient` producers wait a moment for a place, so that what comes in bursts is submitted right away."""
        lane = new.job.lane
        reserved = held = False
        if new.hold is not None:
            reserved = await self._work.place(lane) if patient else self._work.reserve(lane)
            new = new if reserved else replace(new, hold=None)
        try:
            failpoints.hit("accept.before_store")
            if new.start is not None:
                failpoints.hit("work.before_start")
            outcome = await self._store.accept(new)
            failpoints.hit("accept.after_store")
            held = isinstance(outcome, Accepted) and outcome.held
        except asyncio.CancelledError:
            if reserved:
                self._see_after(new)
            raise
        finally:
            if reserved and not held:
                self._work.release(lane)
        if not isinstance(outcome, Conflict):
            self._go_on(outcome, held)
        return outcome

    def _see_after(self, new: NewJob) -> None:
        """Who asked is cut off, as by the end of the broker's connection; the job may be recorded all the same, leased
        to this process and its submit begun, so that nobody else would go on with it before it is in doubt."""
        task = asyncio.create_task(self._resume(new), name=f"accept:{new.job.id}")
        self._resuming.add(task)
        task.add_done_callback(self._resuming.discard)

    async def _resume(self, new: NewJob) -> None:
        try:
            # Behind the first, so that it tells what became of that.
            outcome = await self._store.accept(replace(new, hold=None))
        except StoreUnavailable as error:
            log.warning("store.unavailable", stage="accept", row=new.job.id, error=str(error))
            return
        job = outcome.job if isinstance(outcome, Repeat) and outcome.job.id == new.job.id else None
        # A relay job's cancel has no start, and does no harm when it is sent twice.
        leased = job is not None and (job.state is State.SUBMITTING or new.start is None)
        if job is not None and leased and not self._work.stopping:
            self._work.squeeze_in(job.lane)
            self._work.hand(job)
        self._work.wake()

    def _go_on(self, outcome: Accepted | Repeat, held: bool) -> None:
        if held:
            self._work.hand(outcome.job)
        elif isinstance(outcome, Accepted):
            self._work.wake()
        elif outcome.job.state.terminal:
            self._announce_wake()
        what = "job.accepted" if isinstance(outcome, Accepted) else "job.repeated"
        log.info(what, **log_context(outcome.job))

    # --- reading ---

    def _parsed(self, asked: Asked) -> dict[str, JsonValue]:
        """The request as a JSON object."""
        raw = asked.request
        if isinstance(raw, bytes):
            if len(raw) > self._max_bytes:
                raise self._too_large(len(raw))
            try:
                raw = strict_json(raw)
            except (ValueError, RecursionError) as error:
                raise refuse(ErrorCode.INVALID_REQUEST, "", f"not JSON: {error}", status=400) from error
        if not isinstance(raw, dict):
            raise refuse(ErrorCode.INVALID_REQUEST, "", "the request must be a JSON object")
        return raw

    def _canonical(self, raw: Mapping[str, JsonValue]) -> bytes:
        """The request's bytes, the same for the same content."""
        canonical = _sorted(raw)
        if canonical is None:
            raise Refusal(ErrorCode.INVALID_REQUEST, list(islice(_unstorable(raw, ()), MOST_COMPLAINTS)))
        if len(canonical) > self._max_bytes:
            raise self._too_large(len(canonical))
        return canonical

    def _too_large(self, size: int) -> Refusal:
        text = f"the request has {size} bytes; at most {self._max_bytes} are taken"
        return refuse(ErrorCode.INVALID_REQUEST, "", text, status=413)

    def _request(self, canonical: bytes) -> JobRequest:
        try:
            return JobRequest.model_validate_json(canonical, by_alias=True, by_name=False)
        except ValidationError as error:
            raise Refusal(ErrorCode.INVALID_REQUEST, complaints_of(error, JobRequest)) from error

    def _fallback(self, asked: Asked) -> str:
        given = asked.fallback_id
        if given is None:
            self._warn_nameless(asked.producer)
            return f"req_{entropy.draw(12).hex()}"
        if not _is_id(given):
            raise refuse(ErrorCode.INVALID_REQUEST, "requestId", _NO_ID)
        return given

    async def _addressed(self, request: JobRequest, asked: Asked) -> "_Address":
        """The connection that the request is for: its own, or its target's."""
        if request.target is not None:
            return await self._addressed_by(request.target, request, asked)
        name = request.connection or ""
        if asked.connections is not None and name not in asked.connections:
            raise refuse(
                ErrorCode.FORBIDDEN_OPERATION, "connection", f"the token is not for the connection {name!r}", status=403
            )
        return _Address(connection=name, account=self._account(name))

    async def _addressed_by(self, named: TargetName, request: JobRequest, asked: Asked) -> "_Address":
        """The target's connection. A cancel may find its target later, or without its connection; what a token
        is not for does not exist for it."""
        target = await find_target(self._store, named)
        scoped, cancel = asked.connections is not None, request.operation == "cancel"
        if target is None or (asked.connections is not None and target.spec.connection not in asked.connections):
            if scoped or not cancel:
                raise refuse(ErrorCode.UNKNOWN_JOB, "target", "relay has no such job")
            return _Address(connection="", account=None)
        name = target.spec.connection
        if request.connection is not None and request.connection != name:
            raise refuse(ErrorCode.INVALID_REQUEST, "connection", f"the target is of {name!r}: name that, or none")
        account = self._accounts.get(name) if cancel else self._account(name)
        return _Address(connection=name, account=account, target=target)

    def _account(self, name: str) -> Account:
        if name not in self._accounts:
            known = ", ".join(sorted(self._accounts)) or "none"
            raise refuse(ErrorCode.UNKNOWN_CONNECTION, "connection", f"no connection {name!r}; configured are: {known}")
        return self._accounts[name]

    def _operation(self, request: JobRequest, address: "_Address") -> Operation | None:
        """What the vendor is to do; None where a relay job is canceled, which needs no operation of its own."""
        account, target = address.account, address.target
        if account is None:  # only a cancel comes without
            return None
        vendor = account.vendor
        name: str = request.operation
        if name not in account.allowed and (name in vendor.operations or request.target is not None):
            raise _forbidden(name, account)
        if request.target is not None and name == "cancel":
            return None
        if target is not None:
            if target.spec.action == "cancel":
                raise refuse(ErrorCode.UNSUPPORTED_OPERATION, "target", "a cancel can't be run again")
            name = target.spec.action
            if name not in account.allowed:
                raise _forbidden(name, account)
        if name not in vendor.operations:
            message = f"{vendor.name} has no {name!r}; it has: {', '.join(sorted(vendor.operations))}"
            raise refuse(ErrorCode.UNSUPPORTED_OPERATION, "operation", message)
        return vendor.operations[name]

    def _bad_parameters(
        self, asked: JobRequest | JobSpec, operation: Operation | None, account: Account | None
    ) -> Sequence[Complaint]:
        if operation is None or account is None:
            return []
        model = operation.parameters
        try:
            checked = model.model_validate(asked.parameters)
        except ValidationError as error:
            return complaints_of(error, model, "parameters")
        found = [*checked.objections(account.connection.options)]
        found += [(path, why) for path, url in checked.urls() if (why := self._check_url(url))]
        return [Complaint(path=f"parameters.{path}", message=why) for path, why in found]

    def _bad_webhooks(self, request: JobRequest) -> Iterator[Complaint]:
        for number, hook in enumerate(request.webhooks):
            if (fault := self._check_url(hook.url)) is not None:
                yield Complaint(path=f"webhooks[{number}].url", message=fault)
            for path, why in hook.objections():
                yield Complaint(path=f"webhooks[{number}].{path}", message=why)

    def _bad_completion(self, request: JobRequest, operation: Operation | None) -> Sequence[Complaint]:
        if request.completion.mode != "webhook" or (operation and operation.callback and self._callbacks.possible):
            return []
        why = (
            "this operation's vendor cannot call back"
            if self._callbacks.possible
            else "http.publicUrl is not set, so that no vendor can call back"
        )
        return [Complaint(path="completion.mode", message=why)]

    def _bad_reply(self, asked: Asked) -> Sequence[Complaint]:
        why = self._replies.why_not(asked.reply_to) if asked.reply_to else None
        return [Complaint(path="replyTo", message=why)] if why else []

    def _spec(
        self,
        request: JobRequest,
        request_id: str,
        asked: Asked,
        address: "_Address",
        operation: Operation | None,
    ) -> JobSpec:
        completion = request.completion
        can_call = operation is not None and operation.callback is not None and self._callbacks.possible
        target, again = request.target, address.target if request.operation == "rerun" else None
        spec = JobSpec(
            request_id=request_id,
            connection=address.connection,
            vendor=address.account.vendor.name if address.account else "",
            operation=request.operation,
            parameters=again.spec.parameters if again else request.parameters,
            target=Target(job_id=target.job_id, request_id=target.request_id) if target else None,
            reruns=again.spec.action if again else None,
            mode=completion.mode,
            callback=can_call and completion.mode != "poll",
            poll_interval=completion.poll_interval,
            timeout=completion.timeout,
            not_before=request.not_before.timestamp() if request.not_before else None,
            webhooks=tuple(hook.sealed() for hook in request.webhooks),
            metadata=request.metadata,
            correlation_id=asked.correlation_id,
            traceparent=asked.traceparent,
        )
        return spec if again is None else _like(spec, again.spec, request.model_fields_set)

    # --- AMQP ---

    def _unopened(self, message: Incoming, refusal: Refusal) -> DeadLetter:
        """A message that was refused unopened: whoever can be found in it is told all the same."""
        body = message.body if len(message.body) <= self._max_bytes else b""
        asked = _asked(message, cloudevents.glimpse(body, message.content_type, message.headers))
        readable = _readable(asked.request if isinstance(asked.request, dict) else {}, asked)
        refusal = _telling(refusal, readable)
        self._tell_refused("amqp", refusal)
        return self._dead_letter(message, asked, refusal)

    def _opened(self, message: Incoming) -> cloudevents.Envelope:
        if message.unreadable:
            raise Refusal(
                ErrorCode.INVALID_REQUEST,
                [Complaint(path=name, message="the property cannot be read") for name in message.unreadable],
            )
        if len(message.body) > self._max_bytes:
            raise self._too_large(len(message.body))
        try:
            return cloudevents.unwrap(message.body, message.content_type, message.content_encoding, message.headers)
        except cloudevents.Misfit as misfit:
            raise refuse(ErrorCode.INVALID_REQUEST, misfit.path, str(misfit)) from misfit

    def _tell_refused(self, source: str, refusal: Refusal) -> None:
        self._metrics.requests.labels(source, refusal.code.value).inc()
        log.info("request.refused", source=source, code=refusal.code.value, request=refusal.readable.request_id)

    def _warn_nameless(self, producer: str | None) -> None:
        """Once a producer: without any id of its own a redelivered message can't be told from a new one."""
        if producer is not None and producer not in self._nameless and len(self._nameless) < 1000:
            self._nameless.add(producer)
            hint = "set requestId or message_id: without, a message may run twice after a crash"
            log.warning("request.without_message_id", producer=producer, hint=hint)

    def _dead_letter(self, message: Incoming, asked: Asked, refusal: Refusal) -> DeadLetter:
        errors = [complaint.wire() for complaint in refusal.complaints]
        change = self._refused(message, asked, refusal)

        async def tell() -> None:
            if change is not None:
                await self._store.record(change)
                self._announce_wake()

        return DeadLetter(reason=refusal.code.value, errors=errors, then=tell)

    def _refused(self, message: Incoming, asked: Asked, refusal: Refusal) -> RequestRefused | None:
        """The event of a refusal, where anybody can be told; an id that conflicts belongs to a living job. The same
        message, refused for the same reason, is the same event: after a crash nobody is told anew."""
        readable = refusal.readable
        request_id = readable.request_id or _readable_id(asked.fallback_id)
        if not (request_id or message.correlation_id or message.reply_to):
            return None
        named = f"{request_id}\x00{refusal.code.value}\x00".encode()
        stem = hashlib.sha256(named + message.body).hexdigest()[:26].upper()
        deliveries: list[NewDelivery] = []
        if refusal.code is not ErrorCode.IDEMPOTENCY_CONFLICT and self._events_exchange is not None:
            deliveries.append(exchange_delivery(f"dlv_{stem}", self._events_exchange, message.correlation_id))
        if message.reply_to and self._replies.why_not(message.reply_to) is None:
            reply = Reply(queue=message.reply_to, correlation_id=message.correlation_id)
            deliveries.append(reply_delivery(stem, reply))
        if not deliveries:
            return None
        event = refusal_event(f"evt_{stem}", request_id, refusal, asked, self._clock())
        return RequestRefused(
            event=Event(
                id=event.id,
                type=event.type,
                job_id=None,
                connection=_word(readable.connection),
                operation=_word(readable.operation),
                body=event.wire(),
            ),
            deliveries=tuple(deliveries),
        )


def _asked(message: Incoming, found: cloudevents.Envelope) -> Asked:
    return Asked(
        request=found.request,
        fallback_id=found.event_id or message.message_id,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        traceparent=found.traceparent,
        source="amqp",
        producer=message.app_id or message.user_id or f"{message.exchange}/{message.routing_key}",
    )


def _telling(refusal: Refusal, readable: Readable) -> Refusal:
    """The refusal with what could be read of its request."""
    return Refusal(refusal.code, refusal.complaints, readable, status=refusal.status)


async def find_target(store: Store, target: Target | TargetName) -> Job | None:
    """The relay job that a cancel or rerun names."""
    if target.job_id is not None:
        return await store.job(target.job_id)
    return await store.job_by_request(target.request_id or "")


def refusal_event(event_id: str, request_id: str | None, refusal: Refusal, asked: Asked, now: float) -> JobEvent:
    """The event of a refused request: what could be read of it, and null for the rest."""
    readable, at = refusal.readable, rfc3339(now)
    error = JobError(code=refusal.code, message=str(refusal))
    return JobEvent(
        id=event_id,
        type="onJobFailure",
        source="/relay",
        time=at,
        timestamp=at,
        traceparent=asked.traceparent,
        data=EventData(
            job_id=None,
            request_id=request_id,
            connection=readable.connection,
            vendor=readable.vendor,
            operation=readable.operation,
            status=State.FAILED.value,
            completed_by="request",
            error=EventError(
                code=error.code,
                message=error.message,
                retryable=False,
                details={"errors": [complaint.wire() for complaint in refusal.complaints]},
            ),
            refused=True,
            accepted_at=None,
            submitted_at=None,
            finished_at=at,
            duration_seconds=None,
            metadata=dict(readable.metadata),
        ),
    )


def _act(by: str, job: Job, target: Job | None) -> Act:
    """What is kept of who canceled a job, or ran it again."""
    return Act(
        id=f"act_{job.id.removeprefix('job_')}",
        by=by,
        what="jobs.cancel" if job.spec.operation == "cancel" else "jobs.rerun",
        target=target.id if target is not None else None,
        connections=frozenset({job.spec.connection}),
        detail={"jobId": job.id},
    )


def _takes_place(account: Account | None, operation: Operation | None) -> bool:
    """Whether the job will be one of those at the vendor whose number is limited: what is answered at once is not."""
    return (
        account is not None
        and account.max_in_flight is not None
        and operation is not None
        and operation.kind == "tracked"
    )


def _fingerprint(raw: Mapping[str, JsonValue]) -> str:
    content = {key: value for key, value in raw.items() if key != "requestId"}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _readable(raw: Mapping[str, JsonValue], asked: Asked) -> Readable:
    def text(name: str) -> str | None:
        value = raw.get(name)
        return value if isinstance(value, str) and len(value) <= 200 and value.isprintable() else None

    metadata = raw.get("metadata")
    return Readable(
        request_id=_readable_id(text("requestId")) or _readable_id(asked.fallback_id),
        connection=text("connection"),
        operation=text("operation"),
        metadata=metadata if isinstance(metadata, dict) and _sorted(metadata) is not None else {},
    )


def _word(text: str | None) -> str | None:
    """What may be a word of a routing key: whoever binds by the words finds each in its place."""
    return text if text is not None and _WORD.fullmatch(text) else None


def _is_id(text: str) -> bool:
    return text.isprintable() and 1 <= len(text) <= 200


def _readable_id(text: str | None) -> str | None:
    return text if text is not None and _is_id(text) else None


def _sorted(raw: Mapping[str, JsonValue]) -> bytes | None:
    """JSON in one order; None where a string in it cannot be stored."""
    try:
        canonical = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
    # The pattern alone would look at each byte of most.
    return None if b"\\u0000" in canonical and _NUL.search(canonical) else canonical


def _unstorable(value: JsonValue, path: tuple[str | int, ...]) -> Iterator[Complaint]:
    """Where strings stand that nothing can store."""
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield Complaint(path=json_path(path), message="holds a NUL or half of a surrogate pair: nothing stores it")
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        if isinstance(key, str) and _UNSTORABLE.search(key):
            message = "a name in it holds a NUL or half of a surrogate pair: nothing stores it"
            yield Complaint(path=json_path(path), message=message)
        else:
            yield from _unstorable(inner, (*path, key))


def _forbidden(operation: str, account: Account) -> Refusal:
    message = f"{operation!r} is not among connections.{account.connection.name}.operations"
    return refuse(ErrorCode.FORBIDDEN_OPERATION, "operation", message)


def _like(spec: JobSpec, again: JobSpec, given: set[str]) -> JobSpec:
    """A rerun is done as its target was, but for what its own request says."""
    kept: dict[str, JsonValue] = {}
    if "completion" not in given:
        kept |= {"mode": again.mode, "callback": again.callback, "poll_interval": again.poll_interval}
        kept |= {"timeout": again.timeout}
    if "webhooks" not in given:
        kept["webhooks"] = again.webhooks
    if "metadata" not in given:
        kept["metadata"] = again.metadata
    return replace(spec, **kept)
