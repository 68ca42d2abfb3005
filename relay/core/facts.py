"""What relay can learn about a job, one frozen value each. `lifecycle.advance` turns them into state."""

from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from relay.core.fixed import fixed
from relay.core.flow import JsonValue
from relay.core.job import JobError, VendorCancel


@fixed
class Ref:
    """A job as the vendor knows it: the id that relay follows, all ids that belong to it, its word for its state."""

    id: str
    ids: tuple[str, ...] = ()
    status: str | None = None


@fixed
class SubmitStarted:
    """A submit is about to begin; recorded before any byte of it leaves."""


@fixed
class Submitted:
    """The vendor has taken the job. `memo` is what its adapter wants to know again when it asks for the job later."""

    attempt: int
    ref: Ref
    memo: JsonValue = None


@fixed
class Answered:
    """An immediate operation is done: `result` is the answer; `status` and `state` tell of the job asked about."""

    result: JsonValue
    vendor_job_id: str | None = None
    status: str | None = None
    state: str | None = None


@fixed
class Refused:
    """The vendor, or relay itself, said no for good."""

    error: JobError


@fixed
class NotSent:
    """The submit surely did not reach the vendor, or the vendor asked to come again later (seconds)."""

    attempt: int
    error: JobError
    retry_after: float | None = None


@fixed
class Unanswered:
    """The submit may have reached the vendor: nobody knows. `memo` is for the look-up, as in Submitted."""

    attempt: int
    error: JobError
    memo: JsonValue = None


@fixed
class Postponed:
    """Not now, and nobody's failure: the reason is shown to who asks what the job waits for. Delay in seconds."""

    reason: str
    delay: float


@fixed
class Found:
    """A look-up shows that an uncertain submit did arrive; `memo` as in Submitted."""

    ref: Ref
    memo: JsonValue = None


@fixed
class NotFound:
    """The vendor does not know the job (yet, or any more).

    `decisive`: this look-up would have shown it, so an unanswered submit that it does not show never arrived.
    """

    message: str = "the vendor does not know the job"
    decisive: bool = False


@fixed
class StillRunning:
    """The vendor is at work, or said a word that relay does not know (`note` says so)."""

    status: str | None
    progress: JsonValue = None
    note: str | None = None
    ref: Ref | None = None


@fixed
class Succeeded:
    """The vendor says that the job ended well. `note` is for its history, such as why the result could not be had."""

    result: JsonValue
    status: str | None = None
    warnings: bool = False
    ref: Ref | None = None
    note: str | None = None


@fixed
class Failed:
    """The vendor says that the job failed."""

    error: JobError
    status: str | None = None
    result: JsonValue = None
    ref: Ref | None = None


@fixed
class Canceled:
    """The vendor says that the job was canceled."""

    status: str | None = None
    result: JsonValue = None
    ref: Ref | None = None


@fixed
class PollFailed:
    """A look at the vendor told nothing. Never fails a job. `answered`: the vendor is well, and only cannot tell (yet)
    what was asked, so that nothing has to wait for it but this job."""

    error: JobError
    retry_after: float | None = None
    answered: bool = False


@fixed
class Nudged:
    """A callback that proves nothing by itself: look now."""

    reason: str


@fixed
class CancelAsked:
    """A cancel job wants this one stopped. `outcome` is what the vendor said to it, None if it was never submitted."""

    by: str
    outcome: VendorCancel | None = None


@fixed
class CancelTold:
    """What became of asking the vendor to stop an overdue job."""

    outcome: VendorCancel
    details: Mapping[str, JsonValue] = field(default_factory=dict)


@fixed
class DeadlinePassed:
    """The job's time is up."""


VendorFact: TypeAlias = Succeeded | Failed | Canceled | StillRunning
Fact: TypeAlias = (
    SubmitStarted
    | Submitted
    | Answered
    | Refused
    | NotSent
    | Unanswered
    | Postponed
    | Found
    | NotFound
    | VendorFact
    | PollFailed
    | Nudged
    | CancelAsked
    | CancelTold
    | DeadlinePassed
)
