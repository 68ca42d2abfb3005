"""What is known of a vendor's room beside its flows: recorded exchanges, and enough of its words to ask the rest."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from relay.core.facts import Fact
from relay.core.flow import Flow, Request, Response, TransportError
from relay.core.job import Job, JobSpec, State
from relay.core.vendor import Callback, CallbackAddress, Connection, Reporting, Vendor

Answer: TypeAlias = Response | TransportError

VENDOR_JOB = "961247"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A conversation as it was recorded: each request with its answer, and the fact that it ends in."""

    name: str
    flow: Callable[[], Flow[Any]]
    exchanges: Sequence[tuple[Request, Answer]]
    ends_in: Fact


@dataclass(frozen=True, kw_only=True)
class Room:
    """A vendor's room. Its options hold at least one secret; all that must never be shown are in `secrets`."""

    vendor: Vendor
    options: Mapping[str, Any]
    """Valid connection settings, as an operator writes them."""
    bad_options: Sequence[Mapping[str, Any]] = ()
    secrets: Sequence[str]
    parameters: Mapping[str, Mapping[str, Any]]
    """Valid parameters for each operation."""
    words: Mapping[str, type[Fact]]
    """Every documented status, and the fact that it becomes."""
    poll_answer: Callable[[str], Response]
    """What the vendor answers to a poll of a job with this status."""
    failed_answer: Response | None = None
    """What the vendor answers to whoever asks, after a callback, why a job failed."""
    callback: Callable[[str, str, float], Callback] | None = None
    """The vendor's callback for VENDOR_JOB with this status, signed with this secret at this time."""
    recorded: Sequence[Recorded] = field(default=())
    token_service: Callable[[Request], Answer] = field(default=lambda _: Response(status=200, body=b"{}"))
    """What those answer who give out the credentials."""
    signs_body: bool = True
    """Whether the vendor's signature of a callback covers the body."""
    signs_time: bool = True
    """Whether it covers the time, so that an old one is refused."""
    vendor_job: str = VENDOR_JOB
    """What the vendor's own id of a running job looks like."""

    @property
    def name(self) -> str:
        """The vendor's name."""
        return self.vendor.name

    def connection(self, base_url: str = "https://vendor.test", **options: Any) -> Connection:
        """A connection with the room's options and those given over them."""
        return Connection(
            name=self.name,
            vendor=self.name,
            base_url=base_url,
            options=self.vendor.options.model_validate({**self.options, **options}),
        )

    def job(self, operation: str = "run", parameters: Mapping[str, Any] | None = None, **changes: Any) -> Job:
        """A job in the midst of its first submit, with the changes given."""
        spec = JobSpec(
            request_id="r-1",
            connection=self.name,
            vendor=self.name,
            operation=operation,
            parameters=self.parameters[operation] if parameters is None else parameters,
        )
        begun = {"key": KEY, "state": State.SUBMITTING, "attempt": 1, "accepted_at": ACCEPTED_AT}
        return Job(id="job_1", spec=spec, **{**begun, **changes})

    def running(self, operation: str = "run", **changes: Any) -> Job:
        """A job that the vendor is at work on."""
        known = {"state": State.RUNNING, "vendor_job_id": self.vendor_job, "vendor_job_ids": (self.vendor_job,)}
        return self.job(operation, **{**known, **changes})

    def poll(self, job: Job) -> Flow[Fact]:
        """The conversation that asks how the job fares."""
        poll = self.vendor.operations[job.spec.action].poll
        assert poll is not None
        return poll(self.connection(), job)

    @property
    def reporting(self) -> Reporting:
        """How the vendor reports the end of a run by itself."""
        reporting = self.vendor.operations["run"].callback
        assert reporting is not None
        return reporting


ACCEPTED_AT = 1_795_000_000.0
KEY = "5ac0a9d4-6c1f-4a56-9a3e-0f6f4b1d9f00"
CALLBACK = CallbackAddress(url="https://relay.test/v1/callbacks/unguessable-token", secret="callback-signing-secret")  # noqa: S106 - opens nothing


class Unplayed(Exception):
    """A flow asks something else than what was recorded, or without an end."""


def play(flow: Flow[Any], exchanges: Sequence[tuple[Request, Answer]]) -> Any:
    """Give the flow its recorded answers; what it asks must be what was asked then, no more and no less. Raises
    Unplayed."""
    left = list(exchanges)

    def answer(request: Request) -> Answer:
        if not left:
            raise Unplayed(f"after the recorded exchanges it still asks: {_shown(request)}")
        recorded, said = left.pop(0)
        if request != recorded:
            raise Unplayed(f"it asks\n    {_shown(request)}\ninstead of\n    {_shown(recorded)}")
        return said

    end = drive(flow, answer)
    if left:
        raise Unplayed(f"it ends without asking {_shown(left[0][0])}")
    return end


def _shown(request: object) -> str:
    """A request with all that it says: the secrets of a room are made up."""
    if not isinstance(request, Request):
        return str(request)
    bare = Request(method=request.method, path=request.path)
    said = {each.name: getattr(request, each.name) for each in fields(request)}
    more = (f" {name}={value!r}" for name, value in said.items() if value != getattr(bare, name))
    return f"{request.method} {request.path}{''.join(more)}"


def drive(flow: Flow[Any], answer: Callable[[Request], Answer], most: int = 50) -> Any:
    """Let one function answer whatever the flow asks, until it ends. Raises Unplayed if it does not."""
    try:
        request = next(flow)
        for _ in range(most):
            said = answer(request)
            request = flow.throw(said) if isinstance(said, TransportError) else flow.send(said)
    except StopIteration as end:
        return end.value
    raise Unplayed(f"it asks {most} times without an end: {request}")


def now() -> float:
    """The time that callbacks are signed at."""
    return time.time()
