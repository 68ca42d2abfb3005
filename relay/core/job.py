"""A job: what was asked (written once) and how far it has come (moves forward, never back)."""

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from relay.core.fixed import fixed
from relay.core.flow import JsonValue


class State(StrEnum):
    """Where a job stands; the last four are final."""

    ACCEPTED = "accepted"
    SUBMITTING = "submitting"
    UNCERTAIN = "uncertain"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether nothing can change any more."""
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED, State.EXPIRED})


class Intent(StrEnum):
    """What relay wants of a job besides following it."""

    NONE = "none"
    CANCEL = "cancel"
    EXPIRE = "expire"


class ErrorCode(StrEnum):
    """Why something was refused or ended badly; `ADVICE` says what to do about each."""

    INVALID_REQUEST = "invalid_request"
    UNKNOWN_CONNECTION = "unknown_connection"
    UNSUPPORTED_OPERATION = "unsupported_operation"
    FORBIDDEN_OPERATION = "forbidden_operation"
    UNKNOWN_JOB = "unknown_job"
    ALREADY_FINISHED = "already_finished"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    VENDOR_REJECTED = "vendor_rejected"
    VENDOR_UNAVAILABLE = "vendor_unavailable"
    VENDOR_AUTH_FAILED = "vendor_auth_failed"
    SUBMIT_OUTCOME_UNKNOWN = "submit_outcome_unknown"
    JOB_FAILED = "job_failed"
    JOB_CANCELED = "job_canceled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERNAL_ERROR = "internal_error"


ADVICE: Mapping[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: "Correct the field that the error's path names and send it again: its id is still free.",
    ErrorCode.UNKNOWN_CONNECTION: "Name a configured connection (GET /v1/connections), or add it.",
    ErrorCode.UNSUPPORTED_OPERATION: "Ask for one of the operations that the error lists.",
    ErrorCode.FORBIDDEN_OPERATION: "Ask the operator to add it to the connection's `operations`.",
    ErrorCode.UNKNOWN_JOB: "Check the target's jobId or requestId; finished jobs go after the retention.",
    ErrorCode.ALREADY_FINISHED: "Nothing to do: the target has already ended.",
    ErrorCode.IDEMPOTENCY_CONFLICT: "Give a different request a request id of its own.",
    ErrorCode.VENDOR_REJECTED: "Read the vendor's words in the message, correct the parameters, send anew.",
    ErrorCode.VENDOR_UNAVAILABLE: "Send it again under a new id when the vendor is back: nothing ran.",
    ErrorCode.VENDOR_AUTH_FAILED: "Renew the connection's credentials, then send it again.",
    ErrorCode.SUBMIT_OUTCOME_UNKNOWN: "Look at the vendor whether it runs before sending it again.",
    ErrorCode.JOB_FAILED: "The job ran and failed: the message and result hold the vendor's reason.",
    ErrorCode.JOB_CANCELED: "Somebody canceled it, through relay or at the vendor.",
    ErrorCode.DEADLINE_EXCEEDED: "Look at the vendor; raise `completion.timeout` if it needs longer.",
    ErrorCode.INTERNAL_ERROR: "A defect in relay: its log has the trace under the job's id.",
}
"""The one table of error codes: what the reader of each should do."""


@fixed
class JobError:
    """Why a job did not succeed. `retryable`: the same request under a new id may succeed and runs nothing twice."""

    code: ErrorCode
    message: str
    retryable: bool = False
    details: Mapping[str, JsonValue] = field(default_factory=dict)

    def with_details(self, **details: JsonValue) -> "JobError":
        """The same error with further details."""
        return replace(self, details={**self.details, **details})


CompletedBy: TypeAlias = Literal["response", "poll", "webhook", "deadline", "request"]
Mode: TypeAlias = Literal["auto", "poll", "webhook"]
VendorCancel: TypeAlias = Literal["confirmed", "asked", "failed", "unsupported"]


@fixed
class Target:
    """The relay job that a cancel or rerun is about: by its own id, or by its request id."""

    job_id: str | None = None
    request_id: str | None = None


@fixed
class JobSpec:
    """What was asked, checked and with its defaults filled in. Never changes after acceptance.

    `webhooks` are the request's own, in their wire form. Times are Unix seconds.
    """

    request_id: str
    connection: str
    vendor: str
    operation: str
    parameters: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    target: Target | None = None
    reruns: str | None = None
    """The operation that the rerun of a relay job does again."""
    mode: Mode = "poll"
    callback: bool = False
    """Whether relay asks the vendor to call back: `mode` as resolved for this operation and configuration."""
    poll_interval: float | None = None
    timeout: float = 86400.0
    not_before: float | None = None
    webhooks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    correlation_id: str | None = None
    traceparent: str | None = None

    @property
    def action(self) -> str:
        """The vendor's operation that is to be done: the one asked for, or the one that is done again."""
        return self.reruns or self.operation


@fixed(slots=False)
class Job:
    """One job as last recorded. Every change raises `version` and goes through `lifecycle.advance`.

    `lapses` counts the claims in a row whose holder went silent; `overdue` says that its deadline has passed
    by the store's clock; `probe` that its lane was closed and it is the one let through. These come with a claim
    and are no part of what is recorded.
    """

    id: str
    spec: JobSpec
    key: str
    """Idempotency key towards the vendor (a UUID), the same for every attempt."""
    version: int = 1
    state: State = State.ACCEPTED
    intent: Intent = Intent.NONE
    accepted_at: float
    deadline_at: float = 0.0
    """Set by the store, on its own clock."""
    submitted_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    """Submits begun."""
    troubles: int = 0
    """Acts in a row that learned nothing; any answer resets it."""
    sightings: int = 0
    """Times in a row that the vendor did not know the job."""
    polls: int = 0
    nudged: bool = False
    """A callback said: look now."""
    looked: bool = False
    """After its deadline: the vendor was asked once more."""
    vendor_job_id: str | None = None
    vendor_job_ids: tuple[str, ...] = ()
    vendor_status: str | None = None
    vendor_state: str | None = None
    vendor_cancel: VendorCancel | None = None
    memo: JsonValue = field(default=None, repr=False)
    """What the vendor's adapter noted at the submit, for its later conversations; shown to nobody."""
    cancel_by: str | None = None
    """The cancel job that canceled this one, or asked its vendor to."""
    progress: JsonValue = None
    waiting_for: str | None = None
    result: JsonValue = None
    warnings: bool = False
    error: JobError | None = None
    completed_by: CompletedBy | None = None
    lapses: int = 0
    overdue: bool = False
    probe: bool = False

    def but(self, **changes: Any) -> "Job":
        """The same job, but for these fields: `replace` at a tenth of its cost, for every step of a job's way."""
        job = object.__new__(Job)
        told = job.__dict__
        told |= self.__dict__
        told |= changes
        assert len(told) == len(self.__dict__), f"a job has no {changes.keys() - self.__dict__.keys()}"
        return job

    @property
    def lane(self) -> str:
        """The queue it waits in: its connection's."""
        return self.spec.connection or NOWHERE


NOWHERE = "_"
"""The lane and routing word of a job whose connection is unknown: a cancel of a job that does not exist."""


def new_job_id(now: float, entropy: bytes) -> str:
    """`job_` and a ULID: 48 bits of Unix milliseconds, then 80 bits of the given 10 bytes; sorts by time."""
    return "job_" + ulid(now, entropy)


def new_key(entropy: bytes) -> str:
    """A UUID of version 4, of the given 16 bytes."""
    text = entropy.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[entropy[8] >> 4 & 3]}{text[17:20]}-{text[20:]}"


def ulid(now: float, entropy: bytes) -> str:
    """26 characters of Crockford's base 32 that sort by time."""
    number = int(now * 1000) << 80 | int.from_bytes(entropy[:10])
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
