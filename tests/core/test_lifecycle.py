"""The life of a job: what is done next, what becomes of each fact, and that every life ends once."""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from relay.core import facts
from relay.core.facts import Fact, Ref
from relay.core.job import CompletedBy, ErrorCode, Intent, Job, State
from relay.core.lifecycle import (
    LAPSES_ALLOWED,
    SETTLE,
    SIGHTINGS_ALLOWED,
    Act,
    Cancel,
    Find,
    Learn,
    Poll,
    Rest,
    Rules,
    Step,
    Submit,
    advance,
    next_act,
)
from tests.core.strategies import (
    ACCEPTED_AT,
    ENDED,
    LIVING,
    MODES,
    NOW,
    OUTCOMES,
    REF,
    a_job,
    a_spec,
    an_error,
    any_fact,
    any_job,
    any_rules,
    any_spec,
    any_via,
    one_of_each,
    refs,
    words,
)

PLAIN = Rules()
FINDS = Rules(finds=True)
CANCELS = Rules(cancels=True)
MAY_FOLLOW: Mapping[State, set[State]] = {
    State.ACCEPTED: {State.ACCEPTED, State.SUBMITTING, State.RUNNING, *ENDED},
    State.SUBMITTING: {State.SUBMITTING, State.ACCEPTED, State.UNCERTAIN, State.RUNNING, *ENDED},
    State.UNCERTAIN: {State.UNCERTAIN, State.ACCEPTED, State.RUNNING, *ENDED},
    State.RUNNING: {State.RUNNING, *ENDED},
    **{state: {state} for state in ENDED},
}


def after(job: Job, *learned: Fact, rules: Rules = PLAIN, via: CompletedBy = "poll", now: float = NOW) -> Step:
    """The step that the last of these facts makes, one after the other."""
    for fact in learned:
        step = advance(job, fact, rules, now, via)
        job = step.job
    return step


def expiring(**fields: Any) -> Job:
    """A running job whose deadline has passed."""
    return a_job(State.RUNNING, intent=Intent.EXPIRE, overdue=True, **fields)


# --- any fact in any state ---


def test_every_fact_has_a_move() -> None:
    """`advance` is total: each fact type, in each state, intent and mode, makes a step and raises nothing."""
    for state, intent, mode, fact in product(State, Intent, MODES, one_of_each()):
        job = a_job(state, intent=intent, spec=a_spec(mode=mode))

        assert isinstance(advance(job, fact, PLAIN, NOW, "poll"), Step)


def test_no_fact_type_is_left_out() -> None:
    """The facts that these tests go through are all there are."""
    assert {type(fact) for fact in one_of_each()} == set(get_args(facts.Fact))


@given(any_job(), any_fact, any_rules, any_via)
@settings(max_examples=400)
def test_whatever_comes_is_a_lawful_step(job: Job, fact: Fact, rules: Rules, via: CompletedBy) -> None:
    """Any fact in any state leads to a state that may follow, with a finite delay that is not negative."""
    step = advance(job, fact, rules, NOW, via)

    assert step.job.state in MAY_FOLLOW[job.state]
    assert step.delay is None or (math.isfinite(step.delay) and step.delay >= 0)
    assert step.what is None or step.what.startswith("job.")
    assert step.moved or (step.job is job and step.delay is None)


@given(any_job(), any_rules)
@settings(max_examples=300)
def test_an_act_fits_its_job(job: Job, rules: Rules) -> None:
    """relay never asks a vendor what it can't answer, nor about a job that it does not have."""
    match next_act(job, rules):
        case Poll():
            assert (job.state, job.vendor_job_id) == (State.RUNNING, "11")
        case Cancel():
            assert (job.state, job.vendor_job_id, rules.cancels) == (State.RUNNING, "11", True)
        case Find():
            assert (job.state, rules.finds) == (State.UNCERTAIN, True)
        case Submit():
            assert (job.state, job.overdue and job.intent is not Intent.EXPIRE) == (State.ACCEPTED, False)
        case Learn(fact):
            assert advance(job, fact, rules, NOW, "poll").moved


@pytest.mark.parametrize("state", ENDED)
def test_an_ended_job_stays_as_it_ended(state: State) -> None:
    """A terminal state is final: no fact changes anything of the job, and each is told."""
    job = a_job(state)

    for fact in one_of_each():
        step = advance(job, fact, PLAIN, NOW, "webhook")

        assert (job, False, "job.fact_ignored") == (step.job, step.moved, step.what)
        assert type(fact).__name__ == step.detail["fact"]


def test_what_was_ignored_names_the_vendors_job() -> None:
    """The history of an ended job names a vendor's job that came to light too late, so that it can be looked for."""
    step = after(a_job(State.EXPIRED), facts.Submitted(attempt=1, ref=REF), via="response")

    assert {"fact": "Submitted", "via": "response", "vendorJobId": "11"} == step.detail


def test_what_was_ignored_names_the_vendors_word() -> None:
    """A contradiction after the end is told with the vendor's own word."""
    step = after(a_job(State.SUCCEEDED), facts.Failed(error=an_error(), status="ERROR"), via="webhook")

    assert {"fact": "Failed", "via": "webhook", "vendorStatus": "ERROR"} == step.detail


@pytest.mark.parametrize("state", ENDED)
def test_nothing_is_done_with_an_ended_job(state: State) -> None:
    """An ended job rests, even if it is overdue and has lapsed."""
    assert Rest() == next_act(a_job(state, overdue=True, lapses=9), PLAIN)


# --- submitting ---


def test_an_accepted_job_is_submitted() -> None:
    """What is accepted and due is submitted."""
    assert Submit() == next_act(a_job(), PLAIN)


def test_starting_a_submit_counts_it() -> None:
    """The attempt counts submits, and is raised before the submit leaves."""
    step = after(a_job(attempt=2, waiting_for="the vendor"), facts.SubmitStarted())

    assert (State.SUBMITTING, 3, None) == (step.job.state, step.job.attempt, step.job.waiting_for)
    assert (None, "job.submitting", {"attempt": 3}) == (step.delay, step.what, step.detail)


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCERTAIN, State.RUNNING])
def test_no_submit_starts_twice(state: State) -> None:
    """Only an accepted job can start a submit."""
    assert not after(a_job(state), facts.SubmitStarted()).moved


def test_a_taken_submit_runs() -> None:
    """The vendor's answer makes the job run, under the vendor's id and word."""
    ref = Ref(id="11", ids=("11", "12"), status="QUEUED")
    step = after(a_job(State.SUBMITTING, troubles=3, sightings=2), facts.Submitted(attempt=1, ref=ref))

    job = step.job
    assert (State.RUNNING, "11", ("11", "12"), "QUEUED") == (
        job.state, job.vendor_job_id, job.vendor_job_ids, job.vendor_status,
    )  # fmt: skip
    assert (NOW, 0, 0, 0) == (job.submitted_at, job.troubles, job.sightings, job.polls)
    assert "the vendor to finish (it says QUEUED)" == job.waiting_for
    assert ("job.submitted", {"attempt": 1, "vendorJobId": "11"}) == (step.what, step.detail)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.SUBMITTING, State.UNCERTAIN])
def test_a_late_submitted_is_kept(state: State) -> None:
    """The answer to an earlier submit counts as long as no other is followed: its job exists at the vendor."""
    step = after(a_job(state, attempt=3), facts.Submitted(attempt=1, ref=REF))

    assert (State.RUNNING, "11") == (step.job.state, step.job.vendor_job_id)


@pytest.mark.parametrize("fact", [facts.Submitted(attempt=1, ref=Ref(id="99")), facts.Found(ref=Ref(id="99"))])
def test_a_second_vendor_job_is_told_not_followed(fact: Fact) -> None:
    """A running job keeps its vendor's id; another one is told in its history."""
    step = after(a_job(State.RUNNING), fact)

    assert (False, "11", "99") == (step.moved, step.job.vendor_job_id, step.detail["vendorJobId"])


def test_an_answer_ends_an_immediate_operation() -> None:
    """An immediate operation succeeds with the vendor's answer as its result."""
    fact = facts.Answered(result={"jobs": []}, vendor_job_id="7", status="RUNNING", state="running")
    job = after(a_job(State.SUBMITTING), fact, via="response").job

    assert (State.SUCCEEDED, {"jobs": []}, "response", NOW) == (
        job.state, job.result, job.completed_by, job.finished_at,
    )  # fmt: skip
    assert ("7", "RUNNING", "running") == (job.vendor_job_id, job.vendor_status, job.vendor_state)


def test_an_answer_that_tells_nothing_of_the_vendors_job_forgets_nothing() -> None:
    """What was known of the vendor's job stays known."""
    job = after(a_job(State.SUBMITTING, vendor_job_id="7", vendor_status="OK"), facts.Answered(result={})).job

    assert ("7", "OK") == (job.vendor_job_id, job.vendor_status)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.SUBMITTING, State.UNCERTAIN])
def test_a_refusal_ends_the_job(state: State) -> None:
    """A no for good fails a job that does not run yet, with the reason given."""
    error = an_error("no such file", code=ErrorCode.VENDOR_REJECTED)
    step = after(a_job(state), facts.Refused(error=error), via="response")

    assert (State.FAILED, error, "job.failed") == (step.job.state, step.job.error, step.what)
    assert {"via": "response", "code": "vendor_rejected", "message": "no such file"} == step.detail


def test_a_refused_second_submit_does_not_end_a_running_job() -> None:
    """The late no to one submit says nothing of the job that another one started."""
    refused = facts.Refused(error=an_error(code=ErrorCode.VENDOR_REJECTED))

    assert not after(a_job(State.RUNNING, attempt=2), refused, via="response").moved


@pytest.mark.parametrize("state", LIVING)
def test_a_job_that_silences_its_holders_ends(state: State) -> None:
    """A job whose holders fell silent some times in a row ends as an internal error instead of killing the next."""
    job = a_job(state, lapses=LAPSES_ALLOWED)
    act = next_act(job, FINDS)
    assert isinstance(act, Learn)
    error = after(job, act.fact).job.error

    assert error is not None
    assert (ErrorCode.INTERNAL_ERROR, False) == (error.code, error.retryable)
    assert "5 times in a row" in error.message


@pytest.mark.parametrize("state", LIVING)
def test_a_few_lapses_are_borne(state: State) -> None:
    """One lapse less, and the job goes on."""
    act = next_act(a_job(state, lapses=LAPSES_ALLOWED - 1), FINDS)

    assert not isinstance(act, Learn) or not isinstance(act.fact, facts.Refused)


def test_what_was_not_sent_is_sent_again() -> None:
    """A submit that surely did not arrive goes back to be submitted, after a delay."""
    step = after(a_job(State.SUBMITTING), facts.NotSent(attempt=1, error=an_error("refused")))

    assert (State.ACCEPTED, 1, 1) == (step.job.state, step.job.attempt, step.job.troubles)
    assert "the vendor to take it: refused" == step.job.waiting_for
    assert ("job.not_sent", {"code": "vendor_unavailable", "message": "refused"}) == (step.what, step.detail)
    assert Submit() == next_act(step.job, PLAIN)


def test_submits_back_off() -> None:
    """Delays between submits that were not sent double to a minute, give or take a fifth."""
    expected = (1, 2, 4, 8, 16, 32, 60, 60)

    for troubles, own in enumerate(expected):
        step = after(a_job(State.SUBMITTING, troubles=troubles), facts.NotSent(attempt=1, error=an_error()))

        assert own * 0.8 <= (step.delay or 0) <= own * 1.2


@pytest.mark.parametrize(("hint", "delay"), [(120.0, 120.0), (86400.0, 86400.0), (1e9, 86400.0), (math.inf, 86400.0)])
def test_retry_after_is_honoured_to_a_day(hint: float, delay: float) -> None:
    """The vendor's Retry-After counts, up to a day, for submits and for polls."""
    not_sent = facts.NotSent(attempt=1, error=an_error(), retry_after=hint)
    poll_failed = facts.PollFailed(error=an_error(), retry_after=hint)

    assert delay == after(a_job(State.SUBMITTING), not_sent).delay
    assert delay == after(a_job(State.RUNNING), poll_failed).delay


@pytest.mark.parametrize("hint", [0.0, -5.0, math.nan])
def test_a_retry_after_never_hurries(hint: float) -> None:
    """A Retry-After shorter than relay's own delay, or none at all, changes nothing."""
    hinted = after(a_job(State.SUBMITTING), facts.NotSent(attempt=1, error=an_error(), retry_after=hint))
    plain = after(a_job(State.SUBMITTING), facts.NotSent(attempt=1, error=an_error()))

    assert plain.delay == hinted.delay


@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize("fact", [facts.NotSent, facts.Unanswered])
def test_another_attempts_outcome_is_ignored(fact: type, attempt: int) -> None:
    """What became of another attempt says nothing of this one."""
    step = after(a_job(State.SUBMITTING, attempt=2), fact(attempt=attempt, error=an_error()), rules=FINDS)

    assert not step.moved


@pytest.mark.parametrize("state", [State.ACCEPTED, State.UNCERTAIN, State.RUNNING])
@pytest.mark.parametrize("fact", [facts.NotSent, facts.Unanswered])
def test_an_attempts_outcome_counts_only_while_it_submits(fact: type, state: State) -> None:
    """The outcome of an attempt that is over changes nothing."""
    assert not after(a_job(state, attempt=1), fact(attempt=1, error=an_error()), rules=FINDS).moved


# --- an unanswered submit ---


def test_a_lapsed_submit_is_unanswered() -> None:
    """A job found in the middle of its submit was left there: nobody knows what became of it."""
    job = a_job(State.SUBMITTING, attempt=4)
    act = next_act(job, PLAIN)

    assert isinstance(act, Learn)
    assert isinstance(act.fact, facts.Unanswered)
    assert (4, ErrorCode.VENDOR_UNAVAILABLE) == (act.fact.attempt, act.fact.error.code)


def test_a_lapsed_submit_is_looked_into_even_if_overdue() -> None:
    """The deadline does not hide that a submit went unanswered."""
    act = next_act(a_job(State.SUBMITTING, overdue=True), PLAIN)

    assert isinstance(act, Learn)
    assert isinstance(act.fact, facts.Unanswered)


def test_what_can_be_looked_up_is() -> None:
    """Where the vendor can be asked, an unanswered submit is uncertain, and looked for after it had time to settle."""
    step = after(
        a_job(State.SUBMITTING, troubles=4, sightings=4), facts.Unanswered(attempt=1, error=an_error()), rules=FINDS
    )

    assert (State.UNCERTAIN, SETTLE, 0, 0) == (step.job.state, step.delay, step.job.sightings, step.job.troubles)
    assert "whether the vendor took the submit: no route to host" == step.job.waiting_for
    assert ("job.uncertain", "no route to host") == (step.what, step.detail["message"])
    assert Find() == next_act(step.job, FINDS)


def test_an_unanswered_submit_fails_where_nobody_can_tell() -> None:
    """Without a look-up the job ends as unknown, and promises nothing of a retry."""
    error = an_error("timed out", details={"seconds": 30})
    job = after(a_job(State.SUBMITTING), facts.Unanswered(attempt=1, error=error)).job

    assert job.error is not None
    assert (State.FAILED, ErrorCode.SUBMIT_OUTCOME_UNKNOWN, False) == (job.state, job.error.code, job.error.retryable)
    assert ("it is unknown whether the vendor took the job: timed out", {"seconds": 30}) == (
        job.error.message, job.error.details,
    )  # fmt: skip


@pytest.mark.parametrize("rules", [Rules(repeatable=True), Rules(repeatable=True, finds=True), Rules(resubmits=True)])
def test_an_unanswered_submit_is_repeated_where_it_may_be(rules: Rules) -> None:
    """What does no harm twice, or what the operator lets be submitted again, is submitted again; its history says that
    nobody answered, not that it was not sent."""
    step = after(a_job(State.SUBMITTING), facts.Unanswered(attempt=1, error=an_error()), rules=rules)

    assert (State.ACCEPTED, "job.unanswered") == (step.job.state, step.what)
    assert step.delay is not None


@given(any_rules, any_spec)
def test_an_unanswered_submit_is_never_repeated_in_silence(rules: Rules, spec: Any) -> None:
    """Only what does no harm twice, or the operator's leave where nobody can be asked, brings another submit."""
    step = after(a_job(State.SUBMITTING, spec=spec), facts.Unanswered(attempt=1, error=an_error()), rules=rules)

    allowed = rules.repeatable or (rules.resubmits and not rules.finds)
    assert allowed == (step.job.state is State.ACCEPTED)


def test_a_lookup_comes_before_the_operators_leave_to_resubmit() -> None:
    """Where the vendor can be asked it is asked, even if the operator lets unknown submits be repeated."""
    rules = Rules(finds=True, resubmits=True)
    step = after(a_job(State.SUBMITTING), facts.Unanswered(attempt=1, error=an_error()), rules=rules)

    assert State.UNCERTAIN == step.job.state


def test_what_is_found_runs() -> None:
    """A look-up that shows the job makes it run."""
    step = after(a_job(State.UNCERTAIN), facts.Found(ref=REF), rules=FINDS)

    assert (State.RUNNING, "job.found", {"vendorJobId": "11"}) == (step.job.state, step.what, step.detail)


def test_lookups_go_on_before_they_decide() -> None:
    """One look-up that shows nothing decides nothing: there are five, with growing delays, and answers end troubles."""
    job = a_job(State.UNCERTAIN, troubles=3)
    delays = []
    for _ in range(SIGHTINGS_ALLOWED - 1):
        step = after(job, facts.NotFound(message="not there", decisive=True), rules=FINDS)
        delays.append(step.delay)
        job = step.job

    assert (State.UNCERTAIN, [2, 4, 8, 16], 0) == (job.state, delays, job.troubles)
    assert ("job.not_found", "not there") == (step.what, job.waiting_for)


@pytest.mark.parametrize(("decisive", "what"), [(True, "job.not_sent"), (False, "job.unanswered")])
def test_a_new_submit_tells_whether_the_last_one_may_have_arrived(decisive: bool, what: str) -> None:
    """Not sent is only what a look-up would have shown."""
    uncertain = a_job(State.UNCERTAIN, sightings=SIGHTINGS_ALLOWED - 1)
    step = after(uncertain, facts.NotFound(decisive=decisive), rules=Rules(finds=True, resubmits=True))

    assert (State.ACCEPTED, what) == (step.job.state, step.what)


def test_only_a_decisive_lookup_brings_a_new_submit() -> None:
    """After the last look-up, only one that would have shown the job lets it be submitted again."""
    job = a_job(State.UNCERTAIN, sightings=SIGHTINGS_ALLOWED - 1)
    decisive = after(job, facts.NotFound(decisive=True), rules=FINDS).job
    vague = after(job, facts.NotFound(), rules=FINDS).job
    allowed = after(job, facts.NotFound(), rules=Rules(finds=True, resubmits=True)).job

    assert (State.ACCEPTED, State.FAILED, State.ACCEPTED) == (decisive.state, vague.state, allowed.state)
    assert vague.error is not None
    assert ErrorCode.SUBMIT_OUTCOME_UNKNOWN == vague.error.code


def test_without_a_lookup_an_uncertain_job_is_decided_at_last() -> None:
    """An uncertain job whose vendor has lost its look-up since comes to an end all the same."""
    job = a_job(State.UNCERTAIN)
    for _ in range(SIGHTINGS_ALLOWED):
        act = next_act(job, PLAIN)
        assert isinstance(act, Learn)
        job = after(job, act.fact).job

    assert job.error is not None
    assert (State.FAILED, ErrorCode.SUBMIT_OUTCOME_UNKNOWN) == (job.state, job.error.code)


def test_a_callback_proves_that_the_submit_arrived() -> None:
    """A vendor that speaks of an uncertain job has it."""
    running = facts.StillRunning(status="RUNNING", ref=REF)
    step = after(a_job(State.UNCERTAIN), running, via="webhook")

    assert (State.RUNNING, "11", "RUNNING") == (step.job.state, step.job.vendor_job_id, step.job.vendor_status)
    assert {"via": "webhook", "vendorJobId": "11"} == step.detail


def test_a_callback_without_an_id_proves_nothing_to_follow() -> None:
    """Still running, but under no id: there would be nothing to poll."""
    assert not after(a_job(State.UNCERTAIN), facts.StillRunning(status="RUNNING"), via="webhook").moved


@pytest.mark.parametrize(
    ("fact", "state"),
    [
        (facts.Succeeded(result={}), State.SUCCEEDED),
        (facts.Failed(error=an_error()), State.FAILED),
        (facts.Canceled(), State.CANCELED),
    ],
)
@pytest.mark.parametrize("job", [a_job(State.UNCERTAIN), a_job(State.ACCEPTED, attempt=1), a_job(State.RUNNING)])
def test_a_callback_ends_what_was_submitted(job: Job, fact: Fact, state: State) -> None:
    """The vendor's word ends a job that was submitted, answered or not."""
    ended = after(job, fact, via="webhook").job

    assert (state, "webhook") == (ended.state, ended.completed_by)


@pytest.mark.parametrize(
    "fact",
    [
        facts.Succeeded(result={}),
        facts.Failed(error=an_error()),
        facts.Canceled(),
        facts.StillRunning(status="R", ref=REF),
    ],
)
@pytest.mark.parametrize("job", [a_job(), a_job(State.SUBMITTING)])
def test_a_callback_waits_for_the_submits_answer(job: Job, fact: Fact) -> None:
    """A callback changes nothing while the submit is on its way, and none is believed before it."""
    assert not after(job, fact, via="webhook").moved


def test_a_submit_may_be_answered_with_the_end() -> None:
    """An answer to the submit itself that tells the end, ends the job."""
    job = after(a_job(State.SUBMITTING), facts.Succeeded(result={"rows": 3}, ref=REF), via="response").job

    assert (State.SUCCEEDED, "11", "response") == (job.state, job.vendor_job_id, job.completed_by)


# --- not now ---


def test_a_postponed_submit_goes_back() -> None:
    """A submit that was put off before it left goes back to be submitted; the reason is shown."""
    step = after(a_job(State.SUBMITTING), facts.Postponed(reason="the connection is paused", delay=7.0))

    assert (State.ACCEPTED, 7.0, "the connection is paused") == (step.job.state, step.delay, step.job.waiting_for)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.UNCERTAIN, State.RUNNING])
def test_a_postponed_job_stays_where_it_is(state: State) -> None:
    """Not now is nobody's failure: nothing is counted."""
    job = a_job(state)
    step = after(job, facts.Postponed(reason="paused", delay=7.0))

    assert replace(job, waiting_for="paused") == step.job
    assert ("job.postponed", {"reason": "paused"}) == (step.what, step.detail)


# --- following a running job ---


@pytest.mark.parametrize("mode", ["auto", "poll"])
def test_a_running_job_is_polled(mode: str) -> None:
    """Outside the webhook mode a running job that is due is polled."""
    assert Poll() == next_act(a_job(State.RUNNING, spec=a_spec(mode=mode)), PLAIN)


def cadence(job: Job, polls: int) -> list[float | None]:
    """The delays after the submit's answer and after each of so many polls."""
    step = after(job, facts.Submitted(attempt=1, ref=REF))
    delays = [step.delay]
    for _ in range(polls):
        step = after(step.job, facts.StillRunning(status="RUNNING"))
        delays.append(step.delay)
    return delays


def test_polling_adapts() -> None:
    """Polls come after 1 s, growing by half to 30 s."""
    expected = [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625, 17.0859375, 25.62890625, 30.0, 30.0]

    assert expected == cadence(a_job(State.SUBMITTING), 10)


def test_polling_is_a_slow_net_under_callbacks() -> None:
    """Where the vendor calls back, polls come after 30 s, growing by half to 5 min."""
    expected = [30.0, 45.0, 67.5, 101.25, 151.875, 227.8125, 300.0, 300.0]

    assert expected == cadence(a_job(State.SUBMITTING, spec=a_spec(mode="auto", callback=True)), 7)


@pytest.mark.parametrize("callback", [True, False])
def test_a_given_poll_interval_is_used_as_given(callback: bool) -> None:
    """`pollInterval` needs no reason and does not grow."""
    spec = a_spec(mode="auto", callback=callback, poll_interval=0.7)

    assert [0.7, 0.7, 0.7] == cadence(a_job(State.SUBMITTING, spec=spec), 2)


WEBHOOK = a_spec(mode="webhook", callback=True)


def test_the_webhook_mode_rests() -> None:
    """With callbacks only, a running job is due at its deadline alone, and nobody is asked before."""
    assert [None, None] == cadence(a_job(State.SUBMITTING, spec=WEBHOOK), 1)
    assert Rest() == next_act(a_job(State.RUNNING, spec=WEBHOOK), PLAIN)


def test_a_nudge_wakes_the_webhook_mode_once() -> None:
    """A callback that proves nothing brings one look; when it shows a running job, relay rests again."""
    nudged = after(a_job(State.RUNNING, spec=WEBHOOK), facts.Nudged(reason="bad signature"))
    looked = after(nudged.job, facts.StillRunning(status="RUNNING"))

    assert (0.0, "job.nudged", {"reason": "bad signature"}) == (nudged.delay, nudged.what, nudged.detail)
    assert (Poll(), Rest()) == (next_act(nudged.job, PLAIN), next_act(looked.job, PLAIN))


def test_a_callback_that_shows_a_running_job_is_not_the_look_that_was_asked_for() -> None:
    """Callbacks may overtake each other: after one that brings a look, one that tells of a running job takes none."""
    nudged = after(a_job(State.RUNNING, spec=WEBHOOK), facts.Nudged(reason="bad signature"))
    told = after(nudged.job, facts.StillRunning(status="RUNNING"), via="webhook")

    assert (0.0, Poll()) == (told.delay, next_act(told.job, PLAIN))


@pytest.mark.parametrize("mode", ["auto", "webhook"])
def test_a_cancel_that_was_asked_is_followed_by_polling(mode: str) -> None:
    """Vendors do not call back about every cancel, so its outcome is looked for at once and then as if by poll."""
    job = a_job(State.RUNNING, spec=a_spec(mode=mode, callback=True), polls=9)
    asked = after(job, facts.CancelAsked(by="job_c", outcome="asked"), via="request")
    looked = after(asked.job, facts.StillRunning(status="RUNNING"))

    assert (0.0, Poll(), 1.5, Poll()) == (
        asked.delay, next_act(asked.job, PLAIN), looked.delay, next_act(looked.job, PLAIN),
    )  # fmt: skip


def test_the_ids_of_a_job_are_not_forgotten() -> None:
    """A callback that names the one id that relay follows takes no other away."""
    job = a_job(State.RUNNING, vendor_job_id="11", vendor_job_ids=("11", "12"))

    assert ("11", "12") == after(job, facts.Succeeded(result={}, ref=Ref(id="11")), via="webhook").job.vendor_job_ids


@pytest.mark.parametrize("fact", [facts.PollFailed(error=an_error()), facts.NotFound()])
def test_a_nudge_lasts_until_the_vendor_has_told(fact: Fact) -> None:
    """A look that told nothing of the job is taken again, in the webhook mode too."""
    step = after(a_job(State.RUNNING, spec=WEBHOOK, nudged=True), fact)

    assert step.delay is not None
    assert Poll() == next_act(step.job, PLAIN)


def test_a_nudge_is_not_lost_while_uncertain() -> None:
    """A callback that comes while the submit is in doubt brings a look as soon as the job is found."""
    nudged = after(a_job(State.UNCERTAIN, spec=WEBHOOK), facts.Nudged(reason="unsigned"), rules=FINDS)
    found = after(nudged.job, facts.Found(ref=REF), rules=FINDS)

    assert (SETTLE, Find()) == (nudged.delay, next_act(nudged.job, FINDS))
    assert (0.0, Poll()) == (found.delay, next_act(found.job, FINDS))


@pytest.mark.parametrize("state", [State.ACCEPTED, State.SUBMITTING])
def test_a_nudge_before_the_submit_is_nothing(state: State) -> None:
    """There is nothing to look at before a submit has been made."""
    assert not after(a_job(state), facts.Nudged(reason="unsigned")).moved


def test_an_answer_that_it_runs_clears_what_was_in_doubt() -> None:
    """A look that shows the job ends troubles, sightings and the nudge, and keeps word and progress."""
    job = a_job(State.RUNNING, troubles=3, sightings=4, polls=2, nudged=True)
    step = after(job, facts.StillRunning(status="RUNNING", progress={"percent": 40}, ref=Ref(id="12")))

    expected = replace(
        job, troubles=0, sightings=0, polls=3, nudged=False, vendor_status="RUNNING", progress={"percent": 40},
        vendor_job_id="12", vendor_job_ids=("12",), waiting_for="the vendor to finish (it says RUNNING)",
    )  # fmt: skip
    assert expected == step.job
    assert ("job.running", {"vendorStatus": "RUNNING", "progress": {"percent": 40}}) == (step.what, step.detail)


def test_the_same_word_again_is_no_news() -> None:
    """The history has a line only where the vendor's word changes."""
    assert after(a_job(State.RUNNING, vendor_status="R"), facts.StillRunning(status="R")).what is None


def test_who_waits_for_a_callback_says_so() -> None:
    """`waitingFor` names the callback, and no word where the vendor gave none."""
    job = after(a_job(State.SUBMITTING, spec=WEBHOOK), facts.Submitted(attempt=1, ref=Ref(id="11"))).job

    assert "the vendor's callback" == job.waiting_for


@given(words)
def test_an_unknown_word_never_ends_a_job(word: str) -> None:
    """A word that relay does not know leaves the job running, and the history notes it once."""
    fact = facts.StillRunning(status=word, note="relay does not know this word")
    job = a_job(State.RUNNING, vendor_status=word)
    step = after(job, fact)
    again = after(step.job, fact)

    assert (State.RUNNING, "job.running") == (step.job.state, step.what)
    assert "relay does not know this word" == step.detail["note"]
    assert (State.RUNNING, None) == (again.job.state, again.what)


@given(any_rules, any_spec, st.lists(st.builds(facts.PollFailed, error=st.just(an_error())), min_size=1, max_size=40))
def test_failed_polls_never_fail_a_job(rules: Rules, spec: Any, failures: list[Fact]) -> None:
    """However many polls fail before the deadline, the job goes on, at most 72 s apart."""
    step = after(a_job(State.RUNNING, spec=spec), *failures, rules=rules)

    assert (State.RUNNING, len(failures)) == (step.job.state, step.job.troubles)
    assert 0 < (step.delay or 0) <= 72


def test_a_failed_poll_says_what_is_waited_for() -> None:
    """`waitingFor` and the history give the trouble."""
    step = after(a_job(State.UNCERTAIN), facts.PollFailed(error=an_error("timed out")))

    assert "an answer from the vendor: timed out" == step.job.waiting_for
    assert ("job.poll_failed", {"code": "vendor_unavailable", "message": "timed out"}) == (step.what, step.detail)


@pytest.mark.parametrize("fact", [facts.PollFailed(error=an_error()), facts.NotFound()])
@pytest.mark.parametrize("state", [State.ACCEPTED, State.SUBMITTING])
def test_a_stale_look_is_ignored(state: State, fact: Fact) -> None:
    """A look's outcome says nothing of a job that is not looked at."""
    assert not after(a_job(state), fact).moved


def test_a_vanished_job_fails() -> None:
    """A vendor that does not know a running job five times in a row does not have it any more."""
    job = a_job(State.RUNNING, sightings=SIGHTINGS_ALLOWED - 1)
    error = after(job, facts.NotFound(message="404")).job.error

    assert error is not None
    assert (ErrorCode.JOB_FAILED, "the vendor no longer knows the job 11: 404") == (error.code, error.message)


def test_a_sighting_in_between_starts_the_count_anew() -> None:
    """Only unknown times in a row count."""
    missing = [facts.NotFound()] * (SIGHTINGS_ALLOWED - 1)
    job = after(a_job(State.RUNNING), *missing, facts.StillRunning(status="R"), *missing).job

    assert (State.RUNNING, SIGHTINGS_ALLOWED - 1) == (job.state, job.sightings)


def test_just_after_the_submit_unknown_is_no_sighting() -> None:
    """Within the vendor's grace a 404 is looked into again, and not counted."""
    job = a_job(State.RUNNING, submitted_at=NOW - 30.0)
    within = after(job, *[facts.NotFound()] * 20)
    later = after(job, facts.NotFound(), now=NOW + 0.1)

    assert (State.RUNNING, 0, 2.0) == (within.job.state, within.job.sightings, within.delay)
    assert 1 == later.job.sightings


# --- the end ---


def test_success_keeps_what_the_vendor_told() -> None:
    """Result, warnings, word and id are the vendor's; nothing is waited for any more."""
    job = a_job(State.RUNNING, progress={"percent": 99}, waiting_for="the vendor", nudged=True)
    step = after(
        job, facts.Succeeded(result={"rows": 3}, status="COMPLETED", warnings=True, ref=Ref(id="11", ids=("11", "12")))
    )

    expected = replace(
        job, state=State.SUCCEEDED, finished_at=NOW, completed_by="poll", result={"rows": 3}, warnings=True,
        vendor_status="COMPLETED", vendor_job_ids=("11", "12"), progress=None, waiting_for=None, nudged=False,
    )  # fmt: skip
    assert expected == step.job
    assert (None, "job.succeeded", {"via": "poll", "vendorStatus": "COMPLETED"}) == (step.delay, step.what, step.detail)


def test_failure_keeps_what_the_vendor_told() -> None:
    """A failed job has the vendor's reason and its last answer."""
    error = an_error("division by zero", code=ErrorCode.JOB_FAILED)
    job = after(a_job(State.RUNNING), facts.Failed(error=error, status="ERROR", result={"log": "…"}, ref=REF)).job

    assert (State.FAILED, error, "ERROR", {"log": "…"}) == (job.state, job.error, job.vendor_status, job.result)


def test_a_word_that_was_not_said_replaces_none() -> None:
    """An end without a word keeps the word before it."""
    assert "R" == after(a_job(State.RUNNING, vendor_status="R"), facts.Succeeded(result={})).job.vendor_status


def test_canceled_at_the_vendor() -> None:
    """A job that somebody canceled at the vendor says so, and nothing of a cancel of ours."""
    job = after(a_job(State.RUNNING), facts.Canceled(status="STOPPED", result={"partial": True}, ref=REF)).job

    assert job.error is not None
    assert (State.CANCELED, ErrorCode.JOB_CANCELED, {}) == (job.state, job.error.code, job.error.details)
    assert ("the job was canceled at the vendor", {"partial": True}) == (job.error.message, job.result)


# --- canceling ---


def test_an_accepted_job_is_canceled_at_once() -> None:
    """What was never submitted ends with the request to cancel it, and may be sent again."""
    job = after(a_job(), facts.CancelAsked(by="job_2"), via="poll").job

    assert job.error is not None
    assert (State.CANCELED, "request", "job_2") == (job.state, job.completed_by, job.cancel_by)
    assert ("canceled before it was submitted", True) == (job.error.message, job.error.retryable)


@pytest.mark.parametrize(
    ("attempt", "rules", "retryable"),
    [
        (0, Rules(resubmits=True), True),
        (1, Rules(resubmits=True), False),
        (1, Rules(resubmits=True, repeatable=True), True),
        (1, Rules(), True),
    ],
)
@pytest.mark.parametrize("fact", [facts.CancelAsked(by="job_2"), facts.DeadlinePassed()])
def test_no_retry_is_promised_where_a_submit_may_have_arrived(
    fact: Fact, attempt: int, rules: Rules, retryable: bool
) -> None:
    """`retryable` says that nothing runs twice: not so between two submits of which the first went unanswered."""
    error = after(a_job(attempt=attempt), fact, rules=rules).job.error

    assert error is not None
    assert retryable is error.retryable


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCERTAIN])
def test_a_cancel_waits_for_the_submits_answer(state: State) -> None:
    """In the middle of a submit nothing is canceled: the cancel job asks again."""
    assert not after(a_job(state), facts.CancelAsked(by="job_2", outcome="asked")).moved


def test_a_running_job_is_not_canceled_without_its_vendor() -> None:
    """A cancel that did not reach the vendor changes nothing."""
    assert not after(a_job(State.RUNNING), facts.CancelAsked(by="job_2")).moved


def test_a_running_job_goes_on_until_the_vendor_says() -> None:
    """A cancel at the vendor brings a look at once; only the vendor's word ends the job, as canceled through relay."""
    asked = after(a_job(State.RUNNING, spec=WEBHOOK), facts.CancelAsked(by="job_2", outcome="asked"))
    canceled = after(asked.job, facts.Canceled()).job

    assert (State.RUNNING, Intent.CANCEL, 0.0, "asked") == (
        asked.job.state, asked.job.intent, asked.delay, asked.job.vendor_cancel,
    )  # fmt: skip
    assert ("job.cancel_asked", {"by": "job_2", "outcome": "asked"}) == (asked.what, asked.detail)
    assert Poll() == next_act(asked.job, PLAIN)
    assert canceled.error is not None
    assert ("the job was canceled through relay", {"vendorCancel": "confirmed"}) == (
        canceled.error.message, canceled.error.details,
    )  # fmt: skip


def test_a_canceled_job_may_still_end_otherwise() -> None:
    """A job that was quicker than its cancel succeeds; one that fails tells of the cancel."""
    asked = after(a_job(State.RUNNING), facts.CancelAsked(by="job_2", outcome="asked")).job
    succeeded = after(asked, facts.Succeeded(result={})).job
    failed = after(asked, facts.Failed(error=an_error())).job

    assert (State.SUCCEEDED, None) == (succeeded.state, succeeded.error)
    assert failed.error is not None
    assert {"vendorCancel": "asked"} == failed.error.details


def test_a_cancel_confirmed_after_the_deadline_says_so() -> None:
    """A cancel that the last look finds done is confirmed, not merely asked."""
    job = after(
        a_job(State.RUNNING), facts.CancelAsked(by="job_2", outcome="asked"), facts.DeadlinePassed(), facts.Canceled()
    ).job

    assert job.error is not None
    assert (State.CANCELED, {"vendorCancel": "confirmed"}) == (job.state, job.error.details)


# --- the deadline ---


@pytest.mark.parametrize("state", [State.ACCEPTED, State.UNCERTAIN, State.RUNNING])
def test_the_deadline_is_learned_first(state: State) -> None:
    """An overdue job learns that it is, before anything else is done with it."""
    assert Learn(facts.DeadlinePassed()) == next_act(a_job(state, overdue=True), FINDS)


@pytest.mark.parametrize(("state", "retryable"), [(State.ACCEPTED, True), (State.UNCERTAIN, False)])
def test_what_does_not_run_expires_at_once(state: State, retryable: bool) -> None:
    """Before the vendor's answer there is nobody to ask: the job expires, saying what it waited for."""
    job = a_job(state, waiting_for="the vendor to take it: refused", spec=a_spec(timeout=7200.0))
    ended = after(job, facts.DeadlinePassed()).job

    assert ended.error is not None
    assert (State.EXPIRED, "deadline", ErrorCode.DEADLINE_EXCEEDED) == (
        ended.state,
        ended.completed_by,
        ended.error.code,
    )
    assert ("not finished within 7200 s", retryable) == (ended.error.message, ended.error.retryable)
    assert {"waitedFor": "the vendor to take it: refused"} == ended.error.details


def test_the_deadline_waits_for_the_submits_answer() -> None:
    """In the middle of a submit the deadline changes nothing; its answer comes first."""
    assert not after(a_job(State.SUBMITTING), facts.DeadlinePassed()).moved


def test_the_deadline_passes_once() -> None:
    """The second time it says nothing new: a look that was had is not forgotten."""
    assert not after(expiring(looked=True), facts.DeadlinePassed()).moved


@pytest.mark.parametrize("mode", MODES)
def test_a_running_job_is_asked_once_more(mode: str) -> None:
    """After the deadline the vendor is asked at once, in every mode."""
    step = after(a_job(State.RUNNING, spec=a_spec(mode=mode), overdue=True), facts.DeadlinePassed())

    assert (State.RUNNING, Intent.EXPIRE, 0.0, "job.deadline_passed") == (
        step.job.state, step.job.intent, step.delay, step.what,
    )  # fmt: skip
    assert Poll() == next_act(step.job, CANCELS)


def test_a_callback_is_no_last_look() -> None:
    """One that tells of a running job may be old: an overdue job's vendor is asked before it is told to stop."""
    job = expiring()
    step = after(job, facts.StillRunning(status="RUNNING"), rules=CANCELS, via="webhook")

    assert (job, False) == (step.job, step.moved)
    assert Poll() == next_act(step.job, CANCELS)


@pytest.mark.parametrize(
    ("fact", "state"),
    [
        (facts.Succeeded(result={}), State.SUCCEEDED),
        (facts.Failed(error=an_error()), State.FAILED),
        (facts.Canceled(), State.CANCELED),
    ],
)
def test_the_last_look_may_find_the_end(fact: Fact, state: State) -> None:
    """A job that had ended by its last look ends as it did."""
    assert state == after(expiring(), fact).job.state


NO_END = [
    (facts.StillRunning(status="R"), None),
    (facts.PollFailed(error=an_error("timed out"), retry_after=500.0), "timed out"),
    (facts.NotFound(message="404"), "404"),
    (facts.Postponed(reason="paused", delay=60.0), "paused"),
]


@pytest.mark.parametrize(("fact", "trouble"), NO_END)
def test_after_the_last_look_the_vendor_is_told_to_stop(fact: Fact, trouble: str | None) -> None:
    """Whatever the last look tells short of an end, the vendor is then asked to stop the job."""
    step = after(expiring(), fact, rules=CANCELS)

    assert (State.RUNNING, True, 0.0, "job.last_look") == (step.job.state, step.job.looked, step.delay, step.what)
    assert ({"trouble": trouble} if trouble else {}) == step.detail
    assert Cancel() == next_act(step.job, CANCELS)


@pytest.mark.parametrize(("fact", "trouble"), NO_END)
def test_without_a_cancel_the_last_look_ends_it(fact: Fact, trouble: str | None) -> None:
    """Where the vendor can't be told to stop, the job expires with its last look and says so."""
    job = after(expiring(), fact).job

    assert job.error is not None
    details = {"vendorCancel": "unsupported"} | ({"waitedFor": trouble} if trouble else {})
    assert (State.EXPIRED, details) == (job.state, job.error.details)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_expiry_tells_what_became_of_the_cancel(outcome: Any) -> None:
    """`vendorCancel` says what the vendor made of being told to stop; no retry is promised."""
    job = after(expiring(looked=True), facts.CancelTold(outcome=outcome), via="response", rules=CANCELS).job

    assert job.error is not None
    assert (State.EXPIRED, "deadline", {"vendorCancel": outcome}, False) == (
        job.state, job.completed_by, job.error.details, job.error.retryable,
    )  # fmt: skip


def test_a_paused_connection_does_not_keep_an_overdue_job() -> None:
    """Where the vendor can't be told to stop now, the job expires all the same."""
    job = after(expiring(looked=True), facts.Postponed(reason="paused", delay=60.0), rules=CANCELS).job

    assert job.error is not None
    assert (State.EXPIRED, {"vendorCancel": "failed", "waitedFor": "paused"}) == (job.state, job.error.details)


def test_a_vendor_that_has_lost_its_cancel_is_not_asked() -> None:
    """If the vendor can no longer cancel when it is time to, the job expires and says so."""
    act = next_act(expiring(looked=True), PLAIN)

    assert Learn(facts.CancelTold(outcome="unsupported")) == act


def test_the_callback_of_our_own_cancel_expires_the_job() -> None:
    """A vendor that reports the stop before it answers to it has confirmed it: the job expired, nobody canceled it."""
    job = after(expiring(looked=True), facts.Canceled(status="STOPPED"), via="webhook", rules=CANCELS).job

    assert job.error is not None
    assert (State.EXPIRED, "deadline", "STOPPED", {"vendorCancel": "confirmed"}) == (
        job.state, job.completed_by, job.vendor_status, job.error.details,
    )  # fmt: skip


def test_a_cancel_told_is_heard_only_after_the_deadline() -> None:
    """Before its deadline no job expires."""
    assert not after(a_job(State.RUNNING, intent=Intent.CANCEL), facts.CancelTold(outcome="confirmed")).moved


def test_expiry_outranks_cancel() -> None:
    """A cancel that comes after the deadline does not call the expiry off."""
    job = after(expiring(looked=True), facts.CancelAsked(by="job_2", outcome="asked")).job

    assert (Intent.EXPIRE, True) == (job.intent, job.looked)


# --- whole lives ---

submit_answers = st.sampled_from(
    [
        facts.Unanswered(attempt=1, error=an_error()),
        facts.NotSent(attempt=1, error=an_error()),
        facts.Postponed(reason="paused", delay=5.0),
        facts.Submitted(attempt=1, ref=REF),
    ]
)
submit_ends = st.sampled_from(
    [
        facts.Answered(result={}),
        facts.Refused(error=an_error(code=ErrorCode.VENDOR_REJECTED)),
        facts.Succeeded(result={}, ref=REF),
    ]
)
vendor_words = st.one_of(
    st.builds(facts.StillRunning, status=words, ref=st.none() | refs, note=st.none() | words),
    st.builds(facts.Succeeded, result=st.just({})),
    st.builds(facts.Failed, error=st.just(an_error())),
    st.builds(facts.Canceled),
)
troubles = st.sampled_from(
    [
        facts.PollFailed(error=an_error(), retry_after=90.0),
        facts.NotFound(),
        facts.NotFound(decisive=True),
        facts.Postponed(reason="paused", delay=5.0),
    ]
)
find_answers = st.builds(facts.Found, ref=refs) | troubles
still_running = st.builds(facts.StillRunning, status=words, note=st.none() | words)
poll_answers = still_running | troubles | vendor_words
cancel_answers = st.builds(facts.CancelTold, outcome=st.sampled_from(OUTCOMES)) | st.just(
    facts.Postponed(reason="paused", delay=5.0)
)
callbacks = vendor_words | st.builds(facts.Nudged, reason=st.just("unsigned"))


class Life(RuleBasedStateMachine):
    """A job among vendors that answer, err, fall silent and call back as they please, and holders that die.

    `in_doubt` is true from a submit that nobody has answered until a decisive look-up shows that it never arrived.
    """

    def __init__(self) -> None:
        super().__init__()
        self.job = a_job()
        self.allowed = PLAIN
        self.submits = 0
        self.ends = 0
        self.in_doubt = False
        self.finally_: Mapping[type, Fact | None] = {}

    @initialize(
        spec=any_spec,
        rules=any_rules,
        submit=submit_answers | st.none(),
        find=troubles | st.none(),
        poll=troubles | st.none() | st.just(facts.StillRunning(status="R")),
        cancel=cancel_answers | st.none(),
    )
    def begin(
        self, spec: Any, rules: Rules, submit: Fact | None, find: Fact | None, poll: Fact | None, cancel: Fact | None
    ) -> None:
        self.job = a_job(spec=spec)
        self.allowed = rules
        self.finally_ = {Submit: submit, Find: find, Poll: poll, Cancel: cancel}

    @property
    def living(self) -> bool:
        return not self.job.state.terminal

    def learn(self, fact: Fact, via: CompletedBy) -> bool:
        """Hold the promises of one step; whether it moved the job."""
        before, step = self.job, advance(self.job, fact, self.allowed, NOW, via)
        assert step.job.state in MAY_FOLLOW[before.state]
        assert step.job.attempt == before.attempt + (step.moved and isinstance(fact, facts.SubmitStarted))
        assert step.job.attempt == self.submits
        assert step.delay is None or (math.isfinite(step.delay) and step.delay >= 0)
        assert step.moved or step.job is before
        assert step.job.state is not State.RUNNING or step.job.vendor_job_id
        if step.job.state.terminal and not before.state.terminal:
            self.ends += 1
            assert step.job.finished_at is not None
            assert (step.job.error is None) == (step.job.state is State.SUCCEEDED)
        if step.moved:
            self.in_doubt |= isinstance(fact, facts.Unanswered)
            self.in_doubt &= not (isinstance(fact, facts.NotFound) and fact.decisive)
            step = replace(step, job=replace(step.job, lapses=0))
        self.job = step.job
        return step.moved

    def act(self, answers: Mapping[type, Fact | None]) -> None:
        """Do what is due. Where the answer is None, or nothing to the job, its holder stays silent: a lapse."""
        act: Act = next_act(self.job, self.allowed)
        if isinstance(act, Learn):
            assert self.learn(act.fact, "poll")
            return
        if isinstance(act, Rest):
            return
        assert not isinstance(act, Cancel) or self.allowed.cancels
        assert not isinstance(act, Find) or self.allowed.finds
        if isinstance(act, Submit):
            assert not self.in_doubt or self.allowed.repeatable or self.allowed.resubmits
            self.submits += 1
            self.learn(facts.SubmitStarted(), "response")
        answer = answers[type(act)]
        if answer is not None and hasattr(answer, "attempt"):
            answer = replace(cast(Any, answer), attempt=self.job.attempt)
        if answer is None or not self.learn(answer, "response" if isinstance(act, Submit) else "poll"):
            self.job = replace(self.job, lapses=self.job.lapses + 1)

    @rule(
        submit=submit_answers | st.none(),
        find=find_answers | st.none(),
        poll=poll_answers | st.none(),
        cancel=cancel_answers | st.none(),
    )
    def due(self, submit: Fact | None, find: Fact | None, poll: Fact | None, cancel: Fact | None) -> None:
        self.act({Submit: submit, Find: find, Poll: poll, Cancel: cancel})

    @precondition(lambda self: self.job.state is not State.ACCEPTED or self.submits == 0)
    @rule(fact=callbacks)
    def callback(self, fact: Fact) -> None:
        self.learn(fact, "webhook")

    @precondition(lambda self: self.job.state is State.ACCEPTED)
    @rule(fact=submit_ends)
    def answered_at_once(self, fact: Fact) -> None:
        self.act({Submit: fact})

    @precondition(lambda self: self.submits > 1)
    @rule(fact=submit_answers, back=st.integers(1, 3))
    def late_answer(self, fact: Fact, back: int) -> None:
        if isinstance(fact, facts.NotSent | facts.Unanswered):
            assert not self.learn(replace(fact, attempt=self.job.attempt - back), "response")
        elif isinstance(fact, facts.Submitted):
            self.learn(replace(fact, attempt=self.job.attempt - back), "response")

    @precondition(lambda self: self.job.attempt > 1 or self.job.state is State.RUNNING)
    @rule(outcome=st.none() | st.sampled_from(OUTCOMES))
    def cancel(self, outcome: Any) -> None:
        accepted = self.job.state is State.ACCEPTED
        self.learn(facts.CancelAsked(by="job_2", outcome=outcome), "request")
        assert not accepted or self.job.state is State.CANCELED

    @precondition(lambda self: self.job.state in (State.SUBMITTING, State.RUNNING))
    @rule()
    def deadline(self) -> None:
        self.job = replace(self.job, overdue=True)

    @precondition(lambda self: self.job.state in (State.UNCERTAIN, State.RUNNING))
    @rule(rules=any_rules)
    def configure(self, rules: Rules) -> None:
        self.allowed = rules

    def teardown(self) -> None:
        """Once overdue every life ends, however its vendor goes on, in no more steps than a few lapses take."""
        if self.living:
            self.job = replace(self.job, overdue=True)
        for _ in range(4 * LAPSES_ALLOWED):
            self.act(self.finally_)

        assert (self.job.state.terminal, self.ends) == (True, 1)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=300, stateful_step_count=20)


def test_grace_is_counted_from_acceptance_where_no_submit_was_noted() -> None:
    """A job that runs without a noted submit still gets its vendor's grace."""
    job = a_job(State.RUNNING, submitted_at=None)

    assert (0, 1) == (
        after(job, facts.NotFound(), now=ACCEPTED_AT + 30).job.sightings,
        after(job, facts.NotFound(), now=ACCEPTED_AT + 31).job.sightings,
    )
