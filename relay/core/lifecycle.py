"""The life of a job, in two functions.

`next_act(job, rules)` says what is to be done with a job that is due. `advance(job, fact, rules, now, via)` is the
only place where a state changes: total over (state, fact), it says what the job is next and when it is due again.

                      ┌──── not sent, unanswered, postponed ───┐
                      ▼                                        │
    accepted ──▶ submitting ──▶ running ──▶ succeeded | failed | canceled | expired
                      │            ▲                           ▲
                      └─▶ uncertain ┴───────────────────────────┘

An unanswered submit is only sent again where that does no harm, or where nobody can be asked about it and the operator
lets it be.

A terminal state is final. A late or repeated fact changes nothing, and that is told: in the job's history where a
callback brought it, else in the log.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from relay.core import facts
from relay.core.facts import Fact, Ref
from relay.core.fixed import fixed
from relay.core.flow import JsonValue
from relay.core.job import CompletedBy, ErrorCode, Intent, Job, JobError, State, VendorCancel
from relay.core.schedule import adaptive_poll, backoff, hinted, net_poll, spread

LAPSES_ALLOWED = 5
"""A row whose holder went silent this many times in a row is suspected of killing it."""
SIGHTINGS_ALLOWED = 5
"""A vendor that does not know the job this many times in a row does not have it."""
SETTLE = 2.0
"""Seconds between an unanswered submit and the first look whether it arrived."""


@fixed
class Rules:
    """What the job's operation and connection allow, as configured now."""

    repeatable: bool = False
    finds: bool = False
    cancels: bool = False
    resubmits: bool = False
    """The connection's `onUnknownSubmit: resubmit`."""
    not_found_grace: float = 30.0


# --- what to do ---


@dataclass(frozen=True, slots=True)
class Submit:
    """Record `SubmitStarted`, then send it to the vendor."""


@dataclass(frozen=True, slots=True)
class Find:
    """Ask the vendor whether an unanswered submit arrived."""


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask the vendor how the job fares."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the vendor to stop the job."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Nothing is to be asked: time or a crash has already said it."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done until somebody says something."""


Act: TypeAlias = Submit | Find | Poll | Cancel | Learn | Rest


def next_act(job: Job, rules: Rules) -> Act:
    """What is to be done with a due job."""
    if job.state.terminal:
        return Rest()
    if job.lapses >= LAPSES_ALLOWED:
        return Learn(facts.Refused(error=_suspect(job)))
    if job.state is State.SUBMITTING:
        # Whoever held it went silent between the start of the submit and its answer.
        return Learn(facts.Unanswered(attempt=job.attempt, error=_silent()))
    if job.overdue and job.intent is not Intent.EXPIRE:
        return Learn(facts.DeadlinePassed())
    if job.state is State.ACCEPTED:
        return Submit()
    if job.state is State.UNCERTAIN:
        return Find() if rules.finds else Learn(facts.NotFound(message="nobody can ask the vendor about it"))
    if job.intent is Intent.EXPIRE:
        if not job.looked:
            return Poll()
        return Cancel() if rules.cancels else Learn(facts.CancelTold(outcome="unsupported"))
    if _told_by_webhook(job) and not job.nudged:
        return Rest()
    return Poll()


# --- what became of it ---


@fixed
class Step:
    """One move: the job's next picture, the seconds until it is due again (None: only at its deadline), and a line
    for its history (None: nothing to tell). `moved` is false where the fact changed nothing but is worth the line."""

    job: Job
    delay: float | None
    what: str | None
    detail: Mapping[str, JsonValue]
    moved: bool = True


@fixed
class _Scene:
    """What every move may look at beside its fact."""

    job: Job
    rules: Rules
    now: float
    via: CompletedBy

    def of(self, job: Job, via: CompletedBy | None = None) -> "_Scene":
        """The same, of the job as it is known by now."""
        return _Scene(job=job, rules=self.rules, now=self.now, via=via or self.via)


def advance(job: Job, fact: Fact, rules: Rules, now: float, via: CompletedBy) -> Step:
    """What the fact makes of the job. `now` is wall-clock, for display; `via` says how the fact came."""
    scene = _Scene(job=job, rules=rules, now=now, via=via)
    # Each move takes the fact type under which it is listed; the table can't say that to a type checker.
    return _ignored(scene, fact) if job.state.terminal else _MOVES[type(fact)](scene, fact)


def _submit_started(scene: _Scene, fact: facts.SubmitStarted) -> Step:
    if scene.job.state is not State.ACCEPTED:
        return _ignored(scene, fact)
    attempt = scene.job.attempt + 1
    job = scene.job.but(state=State.SUBMITTING, attempt=attempt, waiting_for=None)
    return Step(job=job, delay=None, what="job.submitting", detail={"attempt": attempt})


def _submitted(scene: _Scene, fact: facts.Submitted) -> Step:
    """Kept from any attempt: its job exists at the vendor."""
    if scene.job.state is State.RUNNING:
        return _ignored(scene, fact)
    return _now_running(scene, fact.ref, "job.submitted", {"attempt": fact.attempt}, fact.memo)


def _found(scene: _Scene, fact: facts.Found) -> Step:
    if scene.job.state is State.RUNNING:
        return _ignored(scene, fact)
    return _now_running(scene, fact.ref, "job.found", {}, fact.memo)


def _answered(scene: _Scene, fact: facts.Answered) -> Step:
    return _ended(
        scene,
        State.SUCCEEDED,
        result=fact.result,
        vendor_job_id=fact.vendor_job_id or scene.job.vendor_job_id,
        vendor_status=fact.status or scene.job.vendor_status,
        vendor_state=fact.state,
    )


def _refused(scene: _Scene, fact: facts.Refused) -> Step:
    """Of a running job only relay itself can give up: the vendor has taken it, so its no is to another submit."""
    if scene.job.state is State.RUNNING and fact.error.code is not ErrorCode.INTERNAL_ERROR:
        return _ignored(scene, fact)
    return _ended(scene, State.FAILED, error=fact.error)


def _not_sent(scene: _Scene, fact: facts.NotSent) -> Step:
    if scene.job.state is not State.SUBMITTING or fact.attempt != scene.job.attempt:
        return _ignored(scene, fact)
    return _back_to_accepted(scene, "job.not_sent", fact.error, fact.retry_after)


def _unanswered(scene: _Scene, fact: facts.Unanswered) -> Step:
    if scene.job.state is not State.SUBMITTING or fact.attempt != scene.job.attempt:
        return _ignored(scene, fact)
    if scene.rules.repeatable:
        return _back_to_accepted(scene, "job.unanswered", fact.error)
    if scene.rules.finds:
        waiting = f"whether the vendor took the submit: {fact.error.message}"
        job = scene.job.but(state=State.UNCERTAIN, memo=fact.memo, sightings=0, troubles=0, waiting_for=waiting)
        return Step(job=job, delay=SETTLE, what="job.uncertain", detail=_said(fact.error))
    return _undecidable(scene, fact.error)


def _postponed(scene: _Scene, fact: facts.Postponed) -> Step:
    if scene.job.intent is Intent.EXPIRE:
        # A paused connection must not keep an overdue job alive: not now is as good as no answer.
        return _expired(scene, "failed", fact.reason) if scene.job.looked else _after_last_look(scene, fact.reason)
    state = State.ACCEPTED if scene.job.state is State.SUBMITTING else scene.job.state
    job = scene.job.but(state=state, waiting_for=fact.reason)
    news = fact.reason != scene.job.waiting_for
    return Step(job=job, delay=fact.delay, what="job.postponed" if news else None, detail={"reason": fact.reason})


def _not_found(scene: _Scene, fact: facts.NotFound) -> Step:
    """One more sighting of nothing; after enough of them the vendor does not have it."""
    if scene.job.state not in (State.UNCERTAIN, State.RUNNING):
        return _ignored(scene, fact)
    if scene.job.intent is Intent.EXPIRE:
        return _after_last_look(scene, fact.message)
    since_submit = scene.now - (scene.job.submitted_at or scene.job.accepted_at)
    counted = scene.job.state is State.UNCERTAIN or since_submit > scene.rules.not_found_grace
    seen = scene.job.sightings + counted
    if seen >= SIGHTINGS_ALLOWED:
        return _vanished(scene, fact)
    # A nudge outlasts it: where only callbacks bring a look, the vendor may know the job a moment later.
    job = scene.job.but(sightings=seen, polls=scene.job.polls + 1, troubles=0, waiting_for=fact.message)
    return Step(job=job, delay=backoff(seen or 1, base=SETTLE), what="job.not_found", detail={"message": fact.message})


def _still_running(scene: _Scene, fact: facts.StillRunning) -> Step:
    if scene.job.state is not State.RUNNING:
        return _proven(scene, fact)
    if scene.job.intent is Intent.EXPIRE:
        # A callback may be an old one: before it is told to stop, the vendor itself is asked.
        return _ignored(scene, fact) if scene.via == "webhook" else _after_last_look(scene, None)
    job = scene.job.but(
        **_told(scene.job, fact.ref),
        polls=scene.job.polls + 1,
        troubles=0,
        sightings=0,
        nudged=scene.job.nudged and scene.via == "webhook",  # a callback is no look: the one asked for is to come
        vendor_status=fact.status,
        progress=fact.progress,
        waiting_for=_working(scene.job, fact.status),
    )
    detail = {"vendorStatus": fact.status, "progress": fact.progress, "note": fact.note}
    # What is remarkable about a word is told with its first sighting: the history must not grow with every look.
    news = fact.status != scene.job.vendor_status or (fact.note is not None and not scene.job.polls)
    delay = 0.0 if job.nudged else _poll_delay(job)
    return Step(job=job, delay=delay, what="job.running" if news else None, detail=_known(detail))


def _succeeded(scene: _Scene, fact: facts.Succeeded) -> Step:
    if _premature(scene):
        return _ignored(scene, fact)
    told = _told(scene.job, fact.ref, fact.status)
    step = _ended(scene, State.SUCCEEDED, result=fact.result, warnings=fact.warnings, **told)
    return step if fact.note is None else replace(step, detail={**step.detail, "note": fact.note})


def _failed(scene: _Scene, fact: facts.Failed) -> Step:
    if _premature(scene):
        return _ignored(scene, fact)
    told = _told(scene.job, fact.ref, fact.status)
    return _ended(scene, State.FAILED, error=fact.error, result=fact.result, **told)


def _canceled(scene: _Scene, fact: facts.Canceled) -> Step:
    if _premature(scene):
        return _ignored(scene, fact)
    known = scene.of(scene.job.but(**_told(scene.job, fact.ref, fact.status)))
    if known.job.looked:
        # The vendor's callback outran its answer to the cancel of an overdue job.
        return _expired(known, "confirmed", None)
    if known.job.cancel_by:
        known = known.of(known.job.but(vendor_cancel="confirmed"))
    by = "through relay" if known.job.cancel_by else "at the vendor"
    error = JobError(code=ErrorCode.JOB_CANCELED, message=f"the job was canceled {by}", retryable=True)
    return _ended(known, State.CANCELED, error=error, result=fact.result)


def _poll_failed(scene: _Scene, fact: facts.PollFailed) -> Step:
    if scene.job.state not in (State.UNCERTAIN, State.RUNNING):
        return _ignored(scene, fact)
    if scene.job.intent is Intent.EXPIRE:
        return _after_last_look(scene, fact.error.message)
    troubles = scene.job.troubles + 1
    waiting = f"an answer from the vendor: {fact.error.message}"
    job = scene.job.but(troubles=troubles, waiting_for=waiting)
    own = spread(backoff(troubles), job.id, troubles)
    return Step(job=job, delay=hinted(own, fact.retry_after), what="job.poll_failed", detail=_said(fact.error))


def _nudged(scene: _Scene, fact: facts.Nudged) -> Step:
    """Kept while it is uncertain whether the vendor has the job: once found it is looked at."""
    if scene.job.state not in (State.UNCERTAIN, State.RUNNING):
        return _ignored(scene, fact)
    delay = 0.0 if scene.job.state is State.RUNNING else SETTLE
    job = scene.job.but(nudged=True)
    return Step(job=job, delay=delay, what="job.nudged", detail={"reason": fact.reason})


def _cancel_asked(scene: _Scene, fact: facts.CancelAsked) -> Step:
    """A job that was never submitted is canceled at once; a running one goes on until the vendor says so."""
    job = scene.job.but(cancel_by=fact.by)
    if job.state is State.ACCEPTED:
        unsent = _surely_unsent(scene)
        message = "canceled before it was submitted" if unsent else "canceled; an earlier submit of it may have arrived"
        error = JobError(code=ErrorCode.JOB_CANCELED, message=message, retryable=unsent)
        return _ended(scene.of(job, "request"), State.CANCELED, error=error)
    if job.state is not State.RUNNING or fact.outcome is None:
        return _ignored(scene, fact)
    job = job.but(intent=_stronger(job.intent), vendor_cancel=fact.outcome, nudged=True, polls=0)
    return Step(job=job, delay=0.0, what="job.cancel_asked", detail={"by": fact.by, "outcome": fact.outcome})


def _cancel_told(scene: _Scene, fact: facts.CancelTold) -> Step:
    if scene.job.intent is not Intent.EXPIRE:
        return _ignored(scene, fact)
    return _expired(scene, fact.outcome, None)


def _deadline_passed(scene: _Scene, fact: facts.DeadlinePassed) -> Step:
    """Before its submit there is nothing to ask; after it the vendor is asked once more, and to stop."""
    if scene.job.state is State.SUBMITTING or scene.job.intent is Intent.EXPIRE:
        return _ignored(scene, fact)
    if scene.job.state in (State.ACCEPTED, State.UNCERTAIN):
        # An uncertain one is not asked for again: the question may be the same key once more, and so a late submit.
        return _expired(scene, None, scene.job.waiting_for)
    job = scene.job.but(intent=Intent.EXPIRE, looked=False, waiting_for="a last answer before it expires")
    return Step(job=job, delay=0.0, what="job.deadline_passed", detail={})


_MOVES: Mapping[type, Callable[..., Step]] = {
    facts.SubmitStarted: _submit_started,
    facts.Submitted: _submitted,
    facts.Answered: _answered,
    facts.Refused: _refused,
    facts.NotSent: _not_sent,
    facts.Unanswered: _unanswered,
    facts.Postponed: _postponed,
    facts.Found: _found,
    facts.NotFound: _not_found,
    facts.StillRunning: _still_running,
    facts.Succeeded: _succeeded,
    facts.Failed: _failed,
    facts.Canceled: _canceled,
    facts.PollFailed: _poll_failed,
    facts.Nudged: _nudged,
    facts.CancelAsked: _cancel_asked,
    facts.CancelTold: _cancel_told,
    facts.DeadlinePassed: _deadline_passed,
}


# --- the moves' common ground ---


def _ignored(scene: _Scene, fact: Fact) -> Step:
    detail: dict[str, JsonValue] = {"fact": type(fact).__name__, "via": scene.via}
    ref = getattr(fact, "ref", None)
    told = {"vendorStatus": getattr(fact, "status", None), "vendorJobId": ref.id if ref else None}
    return Step(job=scene.job, delay=None, what="job.fact_ignored", detail=detail | _known(told), moved=False)


def _now_running(scene: _Scene, ref: Ref, what: str, detail: Mapping[str, JsonValue], memo: JsonValue = None) -> Step:
    job = scene.job.but(
        **_told(scene.job, ref, ref.status),
        state=State.RUNNING,
        memo=memo,
        submitted_at=scene.now,
        polls=0,
        troubles=0,
        sightings=0,
        waiting_for=_working(scene.job, ref.status),
    )
    delay = 0.0 if job.nudged else _poll_delay(job)
    return Step(job=job, delay=delay, what=what, detail={**detail, "vendorJobId": ref.id})


def _premature(scene: _Scene) -> bool:
    """Whether a callback speaks of a job that relay has not submitted, or is just submitting."""
    if scene.job.state is State.SUBMITTING:
        return scene.via == "webhook"
    return scene.job.state is State.ACCEPTED and scene.job.attempt == 0


def _proven(scene: _Scene, fact: facts.StillRunning) -> Step:
    """The vendor speaks of a job whose submit went unanswered: so it did arrive."""
    if _premature(scene) or fact.ref is None:
        return _ignored(scene, fact)
    return _now_running(scene, replace(fact.ref, status=fact.status), "job.found", {"via": scene.via})


def _surely_unsent(scene: _Scene) -> bool:
    """Whether nothing runs at the vendor, or doing it twice is no harm: `resubmits` is how an unanswered submit
    comes back to be accepted."""
    if scene.job.state is not State.ACCEPTED:
        return False
    return scene.job.attempt == 0 or scene.rules.repeatable or not scene.rules.resubmits


def _back_to_accepted(scene: _Scene, what: str, error: JobError, hint: float | None = None) -> Step:
    """To be submitted again: `job.not_sent` if it surely did not arrive, `job.unanswered` if it may have."""
    troubles = scene.job.troubles + 1
    waiting = f"the vendor to take it: {error.message}"
    job = scene.job.but(state=State.ACCEPTED, troubles=troubles, waiting_for=waiting)
    own = spread(backoff(troubles), job.id, troubles)
    return Step(job=job, delay=hinted(own, hint), what=what, detail=_said(error))


def _undecidable(scene: _Scene, error: JobError) -> Step:
    """Nobody can say whether the submit arrived: the operator's setting decides."""
    if scene.rules.resubmits:
        return _back_to_accepted(scene, "job.unanswered", error)
    message = f"it is unknown whether the vendor took the job: {error.message}"
    unknown = JobError(code=ErrorCode.SUBMIT_OUTCOME_UNKNOWN, message=message, details=error.details)
    return _ended(scene, State.FAILED, error=unknown)


def _vanished(scene: _Scene, fact: facts.NotFound) -> Step:
    if scene.job.state is State.UNCERTAIN:
        error = JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=fact.message)
        return _back_to_accepted(scene, "job.not_sent", error) if fact.decisive else _undecidable(scene, error)
    gone = f"the vendor no longer knows the job {scene.job.vendor_job_id}: {fact.message}"
    return _ended(scene, State.FAILED, error=JobError(code=ErrorCode.JOB_FAILED, message=gone))


def _after_last_look(scene: _Scene, trouble: str | None) -> Step:
    if not scene.rules.cancels:
        return _expired(scene, "unsupported", trouble)
    job = scene.job.but(looked=True)
    return Step(job=job, delay=0.0, what="job.last_look", detail=_known({"trouble": trouble}))


def _expired(scene: _Scene, vendor_cancel: VendorCancel | None, trouble: str | None) -> Step:
    error = JobError(
        code=ErrorCode.DEADLINE_EXCEEDED,
        message=f"not finished within {scene.job.spec.timeout:g} s",
        retryable=_surely_unsent(scene),
        details=_known({"waitedFor": trouble}),
    )
    job = scene.job.but(vendor_cancel=vendor_cancel or scene.job.vendor_cancel)
    return _ended(scene.of(job, "deadline"), State.EXPIRED, error=error)


def _ended(scene: _Scene, state: State, *, error: JobError | None = None, **known: Any) -> Step:
    """`known`: what else is known of the job by now, by the names of its fields."""
    if error is not None and scene.job.vendor_cancel is not None:
        error = error.with_details(vendorCancel=scene.job.vendor_cancel)
    job = scene.job.but(
        state=state,
        finished_at=scene.now,
        completed_by=scene.via,
        error=error,
        progress=None,
        waiting_for=None,
        nudged=False,
        **known,
    )
    detail = _known({"via": scene.via, "vendorStatus": job.vendor_status} | (_said(error) if error else {}))
    return Step(job=job, delay=None, what=f"job.{state}", detail=detail)


def _told(job: Job, ref: Ref | None, status: str | None = None) -> dict[str, Any]:
    """What of the job changes by a vendor's word for it."""
    known: dict[str, Any] = {}
    if ref is not None:
        ids = job.vendor_job_ids if ref.id in job.vendor_job_ids else (ref.id,)
        known |= {"vendor_job_id": ref.id, "vendor_job_ids": ref.ids or ids}
    if status is not None:
        known["vendor_status"] = status
    return known


def _told_by_webhook(job: Job) -> bool:
    """Whether only the vendor's callback is waited for. Once a cancel was asked that is not enough: vendors do not
    call back about every cancel."""
    return job.spec.mode == "webhook" and job.intent is not Intent.CANCEL


def _poll_delay(job: Job) -> float | None:
    if _told_by_webhook(job):
        return None
    if job.spec.poll_interval is not None:
        return job.spec.poll_interval
    under_callback = job.spec.callback and job.intent is not Intent.CANCEL
    return net_poll(job.polls) if under_callback else adaptive_poll(job.polls)


def _working(job: Job, status: str | None) -> str:
    how = "the vendor's callback" if job.spec.callback else "the vendor to finish"
    return f"{how} (it says {status})" if status else how


def _stronger(intent: Intent) -> Intent:
    return intent if intent is Intent.EXPIRE else Intent.CANCEL


def _said(error: JobError) -> dict[str, JsonValue]:
    return {"code": error.code.value, "message": error.message}


def _known(detail: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in detail.items() if value is not None}


def _silent() -> JobError:
    return JobError(
        code=ErrorCode.VENDOR_UNAVAILABLE,
        message="relay was stopped between sending the submit and recording its answer",
        retryable=True,
    )


def _suspect(job: Job) -> JobError:
    message = f"relay was stopped {job.lapses} times in a row while it handled this job, and has given it up"
    return JobError(code=ErrorCode.INTERNAL_ERROR, message=message)
