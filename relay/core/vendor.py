"""What a vendor is to relay: a frozen record of flows. No vendor awaits, opens a session, sleeps, retries or logs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from relay.core.facts import Answered, Fact, NotSent, Refused, Unanswered
from relay.core.flow import Flow, JsonValue, Request, Response
from relay.core.job import ErrorCode, Job, JobError

Kind: TypeAlias = Literal["tracked", "immediate"]


class Parameters(BaseModel):
    """An operation's parameters: the vendor's own request fields in camelCase; unknown ones are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=False, validate_by_alias=True
    )


class Options(BaseModel):
    """A vendor's own connection settings in camelCase; unknown ones are refused. Secrets are SecretStr."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One account at a vendor, as flows see it."""

    name: str
    vendor: str
    base_url: str
    options: Options
    on_unknown_submit: Literal["fail", "resubmit"] = "fail"
    callback_signature: Literal["required", "off"] = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackAddress:
    """Where the vendor is to report this job, and the secret that it signs with. The URL is a secret too."""

    url: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A vendor's HTTP request to relay, as it came. Header names are lower case."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What goes with every request of a connection. `expires_in` is in seconds, None for as long as they work."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires_in: float | None = None


Submit: TypeAlias = Callable[[Connection, Job, CallbackAddress | None], Flow[Fact]]
Ask: TypeAlias = Callable[[Connection, Job], Flow[Fact]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a vendor can be asked to do.

    `submit` starts it (or answers it, when immediate). `find` learns whether an unanswered submit arrived, and may
    send the same idempotency key again; None where the vendor has neither key nor look-up. `repeatable`: doing it
    twice is as good as once. `callback`: the vendor can report its end by itself.
    """

    name: str
    kind: Kind
    parameters: type[Parameters]
    submit: Submit
    find: Submit | None = None
    repeatable: bool = False
    callback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A kind of job system.

    `greeting` changes nothing, and the vendor answers it with 2xx to whom it lets in. `poll` asks how a submitted job
    fares. `cancel` asks to stop it and ends in `Answered` or `Refused`; None where the vendor cannot. `verify` says
    why a callback is not the vendor's, None if it is; its last two arguments are the job's secret and now (Unix
    seconds). `read_callback` turns a verified one into a fact. A poll's 404 within `not_found_grace` seconds of the
    submit is no sighting.
    """

    name: str
    title: str
    options: type[Options]
    operations: Mapping[str, Operation]
    authenticate: Callable[[Connection], Flow[Credentials]]
    greeting: Request
    poll: Ask
    cancel: Ask | None = None
    verify: Callable[[Connection, Callback, str, float], str | None] | None = None
    read_callback: Callable[[Connection, Job, Callback], Flow[Fact]] | None = None
    callback_job_id: Callable[[Callback], str | None] | None = None
    not_found_grace: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A configured connection with its vendor, the operations that may be asked of it, and how many tracked jobs may be
    at the vendor at a time (None: any number)."""

    connection: Connection
    vendor: Vendor
    allowed: frozenset[str]
    max_in_flight: int | None = None


def refusal(response: Response, attempt: int, message: str) -> Fact | None:
    """What an answer to a submit means when it is not a success; None when it is 2xx.

    429, and 503 with Retry-After, were not taken; other 4xx are a no; everything else may have been taken.
    `message` is the vendor's own word on it, already free of secrets.
    """
    if response.ok:
        return None
    hint = retry_after(response)
    if response.status == 429 or (response.status == 503 and hint is not None):
        return NotSent(attempt=attempt, error=unavailable(message), retry_after=hint)
    if response.status in (401, 403):
        return Refused(error=JobError(code=ErrorCode.VENDOR_AUTH_FAILED, message=message, retryable=True))
    if 400 <= response.status < 500 and response.status != 408:
        return Refused(error=JobError(code=ErrorCode.VENDOR_REJECTED, message=message))
    return Unanswered(attempt=attempt, error=unavailable(message))


def unavailable(message: str, **details: JsonValue) -> JobError:
    """The vendor could not be reached, or had nothing usable to say."""
    return JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=message, retryable=True, details=details)


def retry_after(response: Response) -> float | None:
    """The seconds that a Retry-After or x-retry-after header asks for; None without a readable one.

    Only the delay form is read: the date form would need a clock that both sides share.
    """
    for name in ("retry-after", "x-retry-after"):
        text = response.headers.get(name, "").strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return float(text)
    return None


def answered(result: JsonValue, **known: str | None) -> Answered:
    """An immediate operation's answer; see `Answered` for what may be known of the job asked about."""
    return Answered(result=result, **known)
