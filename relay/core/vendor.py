"""What a vendor is to relay: a frozen record of flows. No vendor awaits, opens a session, sleeps, retries or logs."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainValidator, SecretStr
from pydantic.alias_generators import to_camel

from relay.core.facts import Fact
from relay.core.fixed import fixed
from relay.core.flow import Flow, JsonValue, Request, Response
from relay.core.job import Job

Kind: TypeAlias = Literal["tracked", "immediate"]
OperationName: TypeAlias = Literal[
    "run",
    "rerun",
    "runFlow",
    "runDeployment",
    "runSequence",
    "publish",
    "watch",
    "status",
    "lastStatus",
    "history",
    "listRunning",
    "details",
    "cancel",
    "enable",
    "disable",
    "archive",
    "reset",
    "delete",
]
OPERATIONS: tuple[str, ...] = get_args(OperationName)
"""Every word that a vendor can be asked with: one vocabulary for all of them."""


class Parameters(BaseModel):
    """An operation's parameters: the vendor's own request fields in camelCase; unknown ones are refused.

    What is sent are the parameters as they were given: the model checks them, and says what they may be.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    def urls(self) -> Iterable[tuple[str, str]]:
        """Every URL that relay is to fetch, after its path in the parameters (`sqlfiles[0].url`)."""
        return ()

    def objections(self, options: "Options") -> Iterable[tuple[str, str]]:  # noqa: ARG002 - for who overrides it
        """Why these parameters will not do with these settings of a connection, each after its path."""
        return ()


class VendorObject(BaseModel):
    """An object in the vendor's own spelling; fields that are not documented pass as they are."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


def is_id(value: JsonValue) -> bool:
    """Whether the value can be the id of something at the vendor: a whole number or a plain word. It may become part
    of a path, so nothing that could lead elsewhere is one."""
    return type(value) in (int, str) and _ID.fullmatch(str(value)) is not None


def is_other(told: JsonValue, asked: str) -> bool:
    """Whether an answer that tells this id or name is about something else than was asked for. One that tells none is
    not; neither case nor leading zeros make another of it."""
    return told is not None and _plainly(str(told)) != _plainly(asked)


def _plainly(text: str) -> str:
    return text.strip().lower().lstrip("0")


_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def _vendor_id(value: Any) -> int | str:
    if is_id(value):
        return value  # type: ignore[no-any-return]
    raise ValueError("an id is a whole number, or a text of letters, digits, '_' and '-'")


VendorId: TypeAlias = Annotated[int | str, PlainValidator(_vendor_id, json_schema_input_type=int | str)]
"""An id at the vendor, kept as given."""


def _header_safe(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isprintable():
        raise ValueError("it is empty, or holds a line break or another unprintable character")
    return secret


Secret: TypeAlias = Annotated[SecretStr, AfterValidator(_header_safe)]
"""A secret that can go into a header."""


class Options(BaseModel):
    """A vendor's own connection settings in camelCase; unknown ones are refused. Secrets are SecretStr."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


@fixed
class Connection:
    """One account at a vendor, as flows see it."""

    name: str
    vendor: str
    base_url: str
    options: Options
    on_unknown_submit: Literal["fail", "resubmit"] = "fail"
    callback_signature: Literal["required", "off"] = "required"


@fixed
class CallbackAddress:
    """Where the vendor is to report this job, and the secret that it signs with. The URL is a secret too."""

    url: str = field(repr=False)
    secret: str = field(repr=False)


@fixed
class Callback:
    """A vendor's HTTP request to relay, as it came. Header names are lower case."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@fixed
class Login:
    """What there is to authenticate with, besides the connection's settings.

    `now` is in Unix seconds. `kept` is what the last credentials left to be kept, by whichever relay; None at first,
    and for vendors that keep nothing. `refused`: the vendor has just refused the credentials in use, so what was kept
    of them will not do.
    """

    now: float
    kept: Mapping[str, JsonValue] | None = field(default=None, repr=False)
    refused: bool = False


@fixed
class Credentials:
    """What goes with every request of a connection. `expires_in` is in seconds, None for as long as they work.

    `form` fields go with requests that have a form. `keep` is for the next `Login.kept`, sealed at rest and shared by
    all relays on the store: for tokens that rotate.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires_in: float | None = None
    keep: Mapping[str, JsonValue] | None = field(default=None, repr=False)


Submit: TypeAlias = Callable[[Connection, Job, CallbackAddress | None], Flow[Fact]]
Ask: TypeAlias = Callable[[Connection, Job], Flow[Fact]]
Verify: TypeAlias = Callable[[Connection, Callback, str, float], str | None]


@fixed
class Reporting:
    """How a vendor reports the end of a job by itself.

    `verify` says why a callback is not the vendor's, None if it is; its last two arguments are the job's secret and
    now (Unix seconds). None where the vendor signs nothing: then its word is confirmed by a poll before it counts.
    `read` turns a callback into a fact. `job_id` is the vendor's id of the job that a callback is about, None if it
    names none.
    """

    read: Callable[[Connection, Job, Callback], Flow[Fact]]
    job_id: Callable[[Callback], str | None]
    verify: Verify | None = None


@fixed
class Operation:
    """One thing that a vendor can be asked to do.

    `submit` starts it, or answers it, where it is immediate. `find` learns whether an unanswered submit arrived, and
    may send the same idempotency key again; None where the vendor has neither key nor look-up. `poll` asks how a
    submitted job fares; with it the operation is tracked. `cancel` asks to stop it and ends in `Answered` or `Refused`;
    None where the vendor cannot. `callback`: how the vendor reports its end, None where it does not. `repeatable`:
    doing it twice is as good as once. A poll's 404 within `not_found_grace` seconds of the submit is no sighting.
    """

    name: str
    parameters: type[Parameters]
    submit: Submit
    find: Submit | None = None
    poll: Ask | None = None
    cancel: Ask | None = None
    callback: Reporting | None = None
    repeatable: bool = False
    not_found_grace: float = 30.0

    @property
    def kind(self) -> Kind:
        """Whether it ends when the vendor's job ends, or with the vendor's answer."""
        return "immediate" if self.poll is None else "tracked"


def unauthorized(response: Response) -> bool:
    """Whether the vendor no longer takes the credentials: its status is 401."""
    return response.status == 401


@fixed
class Vendor:
    """A kind of job system.

    `authenticate` learns what goes with every request; it may ask token services elsewhere, and raises NotLetIn where
    those refuse. `greeting` is a request that changes nothing, and which the vendor answers with 2xx to whom it lets
    in; a text says what this connection lacks for it, None that the vendor has none. `unauthorized` tells an answer
    after which new credentials are to be fetched, once. `remembers`: whether a connection's credentials have something
    to keep.
    """

    name: str
    title: str
    options: type[Options]
    operations: Mapping[str, Operation]
    authenticate: Callable[[Connection, Login], Flow[Credentials]]
    greeting: Callable[[Connection], Request | str | None]
    unauthorized: Callable[[Response], bool] = unauthorized
    remembers: Callable[[Connection], bool] = lambda _: False


@fixed
class Account:
    """A configured connection with its vendor, the operations that may be asked of it, and how many tracked jobs may be
    at the vendor at a time (None: any number)."""

    connection: Connection
    vendor: Vendor
    allowed: frozenset[str]
    max_in_flight: int | None = None
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Keys of the callbacks to its fixed URL, the current one first; without any it has no such URL."""

    def operation_of(self, job: Job) -> Operation | None:
        """What the job does at the vendor; None where the vendor has no such operation (any more)."""
        return self.vendor.operations.get(job.spec.action)
