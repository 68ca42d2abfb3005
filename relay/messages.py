"""The public wire contract: what producers send, what receivers get, and how a refusal is worded.

JSON is camelCase, Python snake_case. Times are RFC 3339 in UTC with a Z, durations seconds as numbers.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    field_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay.core import signature
from relay.core.fixed import fixed
from relay.core.flow import JsonValue
from relay.core.job import CompletedBy, ErrorCode, Job, JobError, Mode, State
from relay.core.template import Unfillable, json_in
from relay.core.vendor import OperationName

EventType: TypeAlias = Literal["onJobSuccess", "onJobFailure"]
EndState: TypeAlias = Literal["succeeded", "failed", "canceled", "expired"]
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""What a request may call a time: beyond, deadlines could no longer be written as dates."""
MOST_COMPLAINTS = 50
"""Things wrong with one request that are told; who sends more of them reads the first."""
MOST_LOOKED_AT = 10_000
"""Things wrong with one request of which each is written out, to find the first: of more, their number is told."""
LONGEST_NAME = 100
"""Characters of a field's name that are told; of a longer one, its beginning."""
RESULT_CAP = 256 * 1024
"""A larger result, as JSON in bytes, is left out of the event and read at /v1/jobs/{jobId}/result."""


class Message(BaseModel):
    """A part of the wire contract."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,
    )


# --- the request ---


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters only")
    return text


RequestId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
ConnectionName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding"})


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("is not a header name")
    if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
        raise ValueError("is set by relay itself")
    return name


def _header_value(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain line breaks or other control characters")
    return value


def _upper(value: JsonValue) -> JsonValue:
    return value.upper() if isinstance(value, str) else value


Method: TypeAlias = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]
_ANY_CASE = "|".join("".join(f"[{letter}{letter.lower()}]" for letter in word) for word in get_args(Method))
_AnyCase: TypeAlias = Annotated[str, Field(pattern=f"^({_ANY_CASE})$")]


Schedule: TypeAlias = Annotated[
    tuple[Annotated[float, Field(ge=0, le=31 * 86400)], ...],
    Field(min_length=1, max_length=100),
]


class Receiver(Message):
    """A URL that is told how jobs ended, and how. The field names are those of the vendors' own webhooks."""

    url: Annotated[str, Field(max_length=4096, repr=False)]
    method: Annotated[Method, BeforeValidator(_upper, json_schema_input_type=_AnyCase)] = "POST"
    trigger_event: Literal["onJobSuccess", "onJobFailure", "onJobDone"] = "onJobDone"
    body: JsonValue = Field(
        default=None, repr=False, description="Object or string with tokens; absent: the whole event."
    )
    headers: dict[Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]] = Field(
        default_factory=dict, repr=False
    )
    ssl_verification: bool = True
    signature: Literal["standard", "timestamped", "body"] = "standard"
    signature_header: Annotated[str, AfterValidator(_header_name)] = "X-Webhook-Signature"
    timeout: float = Field(default=20.0, gt=0, le=60)
    schedule: Schedule | None = Field(
        default=None, description="Delays before each attempt, seconds; absent: those of relay's settings."
    )
    retry_on: Literal["any", "transient"] = "any"

    @model_validator(mode="after")
    def _fillable(self) -> Self:
        if self.body is not None and not isinstance(self.body, dict | str):
            raise ValueError("body must be an object or a string")
        return self

    def wants(self, event: EventType) -> bool:
        """Whether its trigger is this event."""
        return self.trigger_event in (event, "onJobDone")

    def objections(self) -> Iterator[tuple[str, str]]:
        """Why it is not taken though it has its form, each after its path. Of what was taken before, nothing is refused
        any more: so these are no part of the model."""
        if isinstance(self.body, str):
            try:
                json_in(self.body)
            except Unfillable as error:
                yield "body", f"it is JSON, but none that can be filled in: {error}"
            except ValueError:
                pass  # plain text
        names = Counter(map(str.lower, self.headers)) if self.headers else {}
        for name in self.headers:
            if names[name.lower()] > 1:
                yield f"headers.{name}", "stands more than once: a header's name is the same in any case"


class Webhook(Receiver):
    """A URL that is told how this one job ended."""

    name: str | None = Field(default=None, max_length=200)
    secret_key: SecretStr | None = Field(default=None, json_schema_extra={"secret": True})

    def objections(self) -> Iterator[tuple[str, str]]:
        """The receiver's, and a key that is none."""
        yield from super().objections()
        if self.secret_key is not None and (why := self._no_key(self.secret_key.get_secret_value())) is not None:
            yield "secretKey", why

    def _no_key(self, secret: str) -> str | None:
        """Why nobody can sign with it, or anybody could."""
        if not secret:
            return "it is empty: anybody could sign with it"
        if self.signature == "standard":
            try:
                signature.standard_key(secret)
            except signature.BadKey as error:
                return str(error)
        return None

    @field_serializer("secret_key", when_used="json")
    def _mask(self, secret: SecretStr | None) -> str | None:
        return None if secret is None else "***"

    def sealed(self) -> dict[str, Any]:
        """Its wire form with the secret in the clear: for the vault only."""
        wire: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        if self.secret_key is not None:
            wire["secretKey"] = self.secret_key.get_secret_value()
        return wire

    @classmethod
    def unsealed(cls, wire: Mapping[str, Any]) -> Self:
        """The reverse of `sealed`."""
        return cls.model_validate(wire, strict=False)


class Standing(Receiver):
    """A URL that is told of every job that matches: empty lists match all, `metadata` a job that has all of these."""

    connections: tuple[ConnectionName, ...] = Field(default=(), max_length=200)
    operations: tuple[OperationName, ...] = Field(default=(), max_length=200)
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=50)


class SubscriptionRequest(Standing):
    """A subscription as it is asked for. Its signing secret is made by relay."""

    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]

    def wire(self) -> dict[str, Any]:
        """What is not as by default, as JSON."""
        told: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return told


SubscriptionPatch = create_model(
    "SubscriptionPatch",
    __base__=Message,
    __doc__="What is to change of a subscription: each field given is replaced, null sets it back; headers are merged.",
    **{name: (field.annotation | None, None) for name, field in SubscriptionRequest.model_fields.items()},  # type: ignore[operator, call-overload]
)


class Completion(Message):
    """How the end of the job is learned, and by when. Seconds."""

    mode: Mode = "auto"
    timeout: float = Field(default=86400.0, gt=0, le=366 * 86400)
    poll_interval: float | None = Field(default=None, ge=0.1, le=86400)


class TargetName(Message):
    """The relay job that the request is about: exactly one of the two."""

    job_id: str | None = Field(default=None, max_length=64)
    request_id: RequestId | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.job_id is None) == (self.request_id is None):
            raise ValueError("give either jobId or requestId")
        return self


_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _dated(value: JsonValue) -> JsonValue:
    """Digits alone would be taken for Unix seconds: 20261121 for a day in 1970."""
    if not (isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value))):
        raise ValueError("Input should be a valid datetime, such as 2026-11-21T20:00:00Z")
    return value


NotBefore: TypeAlias = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST, strict=False), BeforeValidator(_dated)]


class JobRequest(Message):
    """A request for one operation on one connection."""

    request_id: RequestId | None = None
    connection: ConnectionName | None = None
    operation: OperationName = "run"
    parameters: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    completion: Completion = Field(default_factory=Completion)
    not_before: NotBefore | None = None
    webhooks: tuple[Webhook, ...] = Field(default=(), max_length=50)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    target: TargetName | None = None

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if self.target is not None and self.operation not in ("cancel", "rerun"):
            raise ValueError("target goes with the operations cancel and rerun only")
        if self.target is not None and self.parameters:
            raise ValueError("give either target or parameters")
        if self.target is None and self.connection is None:
            raise ValueError("connection is required")
        return self


# --- the event ---


class SubscriptionData(Message):
    """How a subscription fares: it has failed `since` then, and so many deliveries wait for it."""

    subscription_id: str
    name: str
    host: str
    since: str
    last_error: str | None
    undelivered: int


class SubscriptionEvent(Message):
    """A subscription began to fail, was disabled, or recovered; or, to itself alone, a test. CloudEvents 1.0."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: Literal["subscription.failing", "subscription.disabled", "subscription.recovered", "subscription.test"]
    source: Literal["/relay"] = "/relay"
    subject: str
    time: str
    timestamp: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: SubscriptionData

    def wire(self) -> bytes:
        """The event's bytes."""
        return self.model_dump_json().encode()


class EventError(Message):
    """Why the job did not succeed."""

    code: ErrorCode
    message: str
    retryable: bool
    details: dict[str, JsonValue]


class EventData(Message):
    """What is known of the job at its end; a refused request has null for what could not be read of it."""

    job_id: str | None
    request_id: str | None
    connection: str | None
    vendor: str | None
    operation: str | None
    status: EndState
    warnings: bool = False
    completed_by: CompletedBy
    vendor_job_id: str | None = None
    vendor_job_ids: tuple[str, ...] = ()
    vendor_status: str | None = None
    vendor_state: str | None = None
    result: JsonValue = None
    result_truncated: bool = False
    error: EventError | None
    refused: bool = False
    accepted_at: str | None
    submitted_at: str | None
    finished_at: str
    duration_seconds: float | None
    metadata: dict[str, JsonValue]


class JobEvent(Message):
    """The terminal event: CloudEvents 1.0 in structured JSON, also a Standard Webhooks payload."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: EventType
    source: str
    subject: str | None = None
    time: str
    timestamp: str
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    data: EventData

    def wire(self) -> bytes:
        """The event's bytes; absent attributes are left out, as CloudEvents wants it, and null data stays."""
        absent = {name for name in ("subject", "traceparent") if getattr(self, name) is None}
        return self.model_dump_json(exclude=absent).encode()


def type_of(job: Job) -> EventType:
    """What the event of a job that has ended is called."""
    return "onJobSuccess" if job.state is State.SUCCEEDED else "onJobFailure"


def event_of(job: Job, result: JsonValue, *, truncated: bool) -> dict[str, Any]:
    """The one event of a job that has ended, as JSON has it: what `JobEvent` describes. Its id follows from the job's.

    Written out, for every job that ends has one and a model takes ten times as long.
    """
    if job.finished_at is None or job.completed_by is None:
        raise ValueError(f"{job.id} has not ended")
    spec, error = job.spec, job.error
    finished = rfc3339(job.finished_at)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": "evt_" + job.id.removeprefix("job_"),
        "type": type_of(job),
        "source": f"/relay/connections/{spec.connection}" if spec.connection else "/relay",
        "subject": job.id,
        "time": finished,
        "timestamp": finished,
        "datacontenttype": "application/json",
    }
    if spec.traceparent is not None:
        event["traceparent"] = spec.traceparent
    event["data"] = {
        "jobId": job.id,
        "requestId": spec.request_id,
        "connection": spec.connection or None,
        "vendor": spec.vendor or None,
        "operation": spec.operation,
        "status": job.state.value,
        "warnings": job.warnings,
        "completedBy": job.completed_by,
        "vendorJobId": job.vendor_job_id,
        "vendorJobIds": job.vendor_job_ids,
        "vendorStatus": job.vendor_status,
        "vendorState": job.vendor_state,
        "result": result,
        "resultTruncated": truncated,
        "error": None if error is None else _error(error),
        "refused": False,
        "acceptedAt": rfc3339(job.accepted_at),
        "submittedAt": None if job.submitted_at is None else rfc3339(job.submitted_at),
        "finishedAt": finished,
        "durationSeconds": round(max(0.0, job.finished_at - job.accepted_at), 3),
        "metadata": spec.metadata,
    }
    return event


def _error(error: JobError) -> dict[str, JsonValue]:
    return {
        "code": error.code.value,
        "message": error.message,
        "retryable": error.retryable,
        "details": dict(error.details),
    }


def rfc3339(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC, milliseconds and a Z."""
    seconds, thousandths = divmod(round(at * 1e6) // 1000, 1000)
    return f"{_to_the_second(seconds)}.{thousandths:03d}Z"


@lru_cache(64)
def _to_the_second(at: int) -> str:
    """Nearly all times that are written are of the last few seconds."""
    return datetime.fromtimestamp(at, UTC).isoformat()[:-6]


# --- refusals ---


@fixed
class Complaint:
    """One thing that is wrong with a request: where (a JSON path, empty for the whole) and what."""

    path: str
    message: str

    def wire(self) -> dict[str, str]:
        """As `{path, message}`."""
        return {"path": self.path, "message": self.message}


@fixed
class Readable:
    """What could be read of a refused request, for its event; None for the rest."""

    request_id: str | None = None
    connection: str | None = None
    vendor: str | None = None
    operation: str | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


class Refusal(Exception):
    """A request that relay will not take, for good: its code and every complaint."""

    def __init__(
        self, code: ErrorCode, complaints: Sequence[Complaint], readable: Readable | None = None, *, status: int = 422
    ) -> None:
        self.complaints = tuple(complaints[:MOST_COMPLAINTS])
        super().__init__("; ".join(f"{c.path}: {c.message}" if c.path else c.message for c in self.complaints))
        self.code = code
        self.readable = readable or Readable()
        self.status = status
        """The HTTP status that says it."""


def refuse(code: ErrorCode, path: str, message: str, *, status: int = 422) -> Refusal:
    """A refusal with one complaint."""
    return Refusal(code, [Complaint(path=path, message=message)], status=status)


def complaints_of(
    error: ValidationError, model: type[BaseModel], prefix: str = "", *, also: type[BaseModel] | None = None
) -> list[Complaint]:
    """A validation error in the sender's terms: JSON paths, unknown fields with the nearest known one. `also` is a
    model whose fields stand beside the model's own."""
    if error.error_count() > MOST_LOOKED_AT:
        return [Complaint(path=prefix, message=f"{error.error_count()} things in it are wrong")]
    details = error.errors(include_url=False, include_input=False)[:MOST_COMPLAINTS]
    return [_complaint(detail, model, prefix, also) for detail in details]


class Problem(Message):
    """An error over HTTP (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[dict[str, str], ...] = ()


def _complaint(detail: ErrorDetails, model: type[BaseModel], prefix: str, also: type[BaseModel] | None) -> Complaint:
    path = json_path([part for part in detail["loc"] if part != "[key]"], prefix)
    if detail["type"] == "extra_forbidden":
        *around, name = detail["loc"]
        known = _fields_at(model, around) + (_fields_at(also, ()) if also and not around else [])
        return Complaint(path=path, message=_unknown_field(_short(str(name)), known))
    return Complaint(path=path, message=_WANTED.get(detail["type"], detail["msg"].removeprefix("Value error, ")))


_WANTED: Mapping[str, str] = dict.fromkeys(("tuple_type", "list_type"), "Input should be a list") | dict.fromkeys(
    ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), "Input should be an object"
)
"""What was wanted, where the library says it in Python's words."""


def json_path(parts: Iterable[str | int], prefix: str = "") -> str:
    """`webhooks[0].url` of its parts."""
    path = prefix
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{_short(part)}" if path else _short(part)
    return path


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def _unknown_field(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}" if known else ""
    return f"unknown field{hint}"


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The wire names of the fields of the model that stands at this place; none if that is no model."""
    here: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        fields = {wire_name(name, f): f for name, f in getattr(here, "model_fields", {}).items()}
        if part not in fields:
            continue  # the tag of a union, or a dictionary's key
        here = _model_in(fields[part].annotation)
    return [wire_name(name, f) for name, f in getattr(here, "model_fields", {}).items()]


def wire_name(name: str, field: FieldInfo) -> str:
    """How a model's field is written."""
    return field.serialization_alias or field.alias or name


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
