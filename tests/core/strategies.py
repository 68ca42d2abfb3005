"""Jobs and facts: plain ones to start from, and all that Hypothesis may make of them."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from relay.core import facts
from relay.core.facts import Fact, Ref
from relay.core.job import ErrorCode, Intent, Job, JobError, JobSpec, State
from relay.core.lifecycle import Rules

ACCEPTED_AT = 1_800_000_000.0
NOW = ACCEPTED_AT + 60.0
REF = Ref(id="11", status="QUEUED")
MODES = ("auto", "poll", "webhook")
OUTCOMES = ("confirmed", "asked", "failed", "unsupported")
LIVING = tuple(state for state in State if not state.terminal)
ENDED = tuple(state for state in State if state.terminal)


def an_error(message: str = "no route to host", **fields: Any) -> JobError:
    """Why something did not work."""
    plain: dict[str, Any] = {"code": ErrorCode.VENDOR_UNAVAILABLE, "message": message, "retryable": True}
    return JobError(**plain | fields)


def a_spec(**fields: Any) -> JobSpec:
    """A request for a run."""
    plain: dict[str, Any] = {
        "request_id": "nightly-1",
        "connection": "datameer-prod",
        "vendor": "datameer",
        "operation": "run",
    }
    return JobSpec(**plain | fields)


def a_job(state: State = State.ACCEPTED, *, spec: JobSpec | None = None, **fields: Any) -> Job:
    """A job as it is in that state, when nothing odd has happened on its way."""
    plain: dict[str, Any] = {
        "id": "job_1",
        "spec": spec or a_spec(),
        "key": "6f1c8d1e-0000-4000-8000-000000000001",
        "state": state,
        "accepted_at": ACCEPTED_AT,
        "attempt": 0 if state is State.ACCEPTED else 1,
    }
    if state is State.RUNNING:
        plain |= {"submitted_at": ACCEPTED_AT + 1, "vendor_job_id": "11", "vendor_job_ids": ("11",)}
    if state.terminal:
        plain |= {"finished_at": ACCEPTED_AT + 30, "completed_by": "poll"}
    return Job(**plain | fields)


def one_of_each(attempt: int = 1) -> list[Fact]:
    """Every fact once."""
    return [
        facts.SubmitStarted(),
        facts.Submitted(attempt=attempt, ref=REF),
        facts.Answered(result={"ok": True}),
        facts.Refused(error=an_error()),
        facts.NotSent(attempt=attempt, error=an_error()),
        facts.Unanswered(attempt=attempt, error=an_error()),
        facts.Postponed(reason="the connection is paused", delay=5.0),
        facts.Found(ref=REF),
        facts.NotFound(),
        facts.StillRunning(status="RUNNING", ref=REF),
        facts.Succeeded(result={"rows": 3}, status="COMPLETED"),
        facts.Failed(error=an_error(), status="ERROR"),
        facts.Canceled(status="CANCELED"),
        facts.PollFailed(error=an_error()),
        facts.Nudged(reason="an unsigned callback"),
        facts.CancelAsked(by="job_2", outcome="asked"),
        facts.CancelTold(outcome="confirmed"),
        facts.DeadlinePassed(),
    ]


# --- whatever there may be ---

words = st.sampled_from(["QUEUED", "RUNNING", "COMPLETED", "a word that nobody knows", ""])
refs = st.builds(
    Ref, id=st.sampled_from(["11", "12"]), ids=st.sampled_from([(), ("11", "12")]), status=st.none() | words
)
errors = st.builds(an_error, code=st.sampled_from(ErrorCode))
results = st.sampled_from([None, {}, {"rows": 3}, "text", [1, None]])
attempts = st.integers(0, 4)
hints = st.none() | st.floats() | st.integers(-10, 10**9).map(float)
delays = st.floats(0.0, 3600.0)

any_fact: st.SearchStrategy[Fact] = st.one_of(
    st.builds(facts.SubmitStarted),
    st.builds(facts.Submitted, attempt=attempts, ref=refs),
    st.builds(facts.Answered, result=results, vendor_job_id=st.sampled_from([None, "12"])),
    st.builds(facts.Refused, error=errors),
    st.builds(facts.NotSent, attempt=attempts, error=errors, retry_after=hints),
    st.builds(facts.Unanswered, attempt=attempts, error=errors),
    st.builds(facts.Postponed, reason=words, delay=delays),
    st.builds(facts.Found, ref=refs),
    st.builds(facts.NotFound, decisive=st.booleans()),
    st.builds(facts.StillRunning, status=st.none() | words, note=st.none() | words, ref=st.none() | refs),
    st.builds(facts.Succeeded, result=results, status=st.none() | words, ref=st.none() | refs),
    st.builds(facts.Failed, error=errors, status=st.none() | words, ref=st.none() | refs),
    st.builds(facts.Canceled, status=st.none() | words, ref=st.none() | refs),
    st.builds(facts.PollFailed, error=errors, retry_after=hints),
    st.builds(facts.Nudged, reason=words),
    st.builds(facts.CancelAsked, by=st.just("job_2"), outcome=st.none() | st.sampled_from(OUTCOMES)),
    st.builds(facts.CancelTold, outcome=st.sampled_from(OUTCOMES)),
    st.builds(facts.DeadlinePassed),
)

any_rules = st.builds(
    Rules,
    repeatable=st.booleans(),
    finds=st.booleans(),
    cancels=st.booleans(),
    resubmits=st.booleans(),
    not_found_grace=st.sampled_from([0.0, 30.0]),
)
any_via = st.sampled_from(["response", "poll", "webhook", "deadline", "request"])
any_spec = st.builds(
    a_spec,
    mode=st.sampled_from(MODES),
    callback=st.booleans(),
    poll_interval=st.none() | st.floats(0.1, 3600.0),
)


@st.composite
def any_job(draw: st.DrawFn) -> Job:
    """A job in any state, with any intent and counts, whether or not it could have come to it."""
    job = a_job(draw(st.sampled_from(State)), spec=draw(any_spec))
    return replace(
        job,
        intent=draw(st.sampled_from(Intent)),
        attempt=draw(attempts),
        troubles=draw(st.integers(0, 10_000)),
        sightings=draw(st.integers(0, 10)),
        polls=draw(st.integers(0, 10_000)),
        lapses=draw(st.integers(0, 10)),
        nudged=draw(st.booleans()),
        looked=draw(st.booleans()),
        overdue=draw(st.booleans()),
        cancel_by=draw(st.sampled_from([None, "job_2"])),
        vendor_cancel=draw(st.none() | st.sampled_from(OUTCOMES)),
    )


json_texts = st.text(st.characters(exclude_categories=()), max_size=12)
"""Any text that JSON can write, NUL and lone surrogates among it."""
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | json_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_texts, inner, max_size=4),
    max_leaves=8,
)
