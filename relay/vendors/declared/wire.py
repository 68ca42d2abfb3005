"""A declared vendor as its YAML has it: what each field is and does. What is written here is checked for its shape;
expressions, templates and what belongs together are checked when the vendor is made of it (`plans.py`).

JMESPath: https://jmespath.org/specification.html    JSON Schema: https://json-schema.org/draft/2020-12
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from relay.core.flow import JsonValue
from relay.core.vendor import OperationName, Options, Secret

Expr: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000, json_schema_extra={"format": "jmespath"})]
"""A JMESPath expression, asked about an answer's JSON."""


def _plain(value: Any) -> Any:
    """YAML makes other values of some words, from which the word cannot be known again."""
    if isinstance(value, bool | float):
        read = "true or false" if isinstance(value, bool) else "a number with a fraction"
        raise ValueError(f"YAML reads this word as {read}: put it in quotes")  # noqa: TRY004 - as pydantic wants it
    return str(value) if isinstance(value, int) else value


Text: TypeAlias = Annotated[
    str, BeforeValidator(_plain, json_schema_input_type=str | int), Field(json_schema_extra={"format": "template"})
]
"""A text with JMESPath between `${` and `}`; `$${` is the text `${`."""
Status: TypeAlias = Annotated[int, Field(ge=200, le=599)]


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("no header can be called so: letters, digits and - make its name")
    if name.lower() in _OWN_HEADERS:
        raise ValueError("this header goes with every request by itself, and is not to be set")
    return name


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})
HeaderName: TypeAlias = Annotated[
    str, AfterValidator(_header_name), Field(json_schema_extra={"pattern": f"^{_TOKEN.pattern}$"})
]


class Part(BaseModel):
    """A part of a declaration."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class RequestPart(Part):
    """One HTTP request, relative to the connection's `baseUrl`."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: Text
    """Begins with a slash; each value in it is percent-encoded as one segment, or part of one."""
    query: Mapping[str, Text] = {}
    """A value that is one `${…}` and null is left out."""
    headers: Mapping[HeaderName, Text] = {}
    """As `query`."""
    json_: Annotated[JsonValue, Field(alias="json")] = None
    """The body: any JSON, with templates in its strings. A string that is one `${…}` becomes what that is, with its
    type; where that is null, its key is left out."""
    form: Mapping[str, Text] | None = None
    """The body as an urlencoded form, instead of `json`; as `query`."""


Word: TypeAlias = Annotated[str, BeforeValidator(_plain, json_schema_input_type=str | int)]


class StatesPart(Part):
    """The vendor's words for each of relay's states. Any other word ends nothing."""

    queued: tuple[Word, ...] = ()
    running: tuple[Word, ...] = ()
    succeeded: tuple[Word, ...] = ()
    warnings: tuple[Word, ...] = ()
    """Succeeded, with warnings."""
    failed: tuple[Word, ...] = ()
    canceled: tuple[Word, ...] = ()

    def words(self) -> Iterator[tuple[str, str]]:
        """Every word with relay's for it."""
        for name in type(self).model_fields:
            for word in getattr(self, name):
                yield word, name


class SubmitPart(Part):
    """How the operation begins; without `status` beside it, also how it ends."""

    request: RequestPart
    accept: Annotated[tuple[Status, ...], Field(min_length=1)] | None = None
    """Statuses that mean that it was taken; default: any 2xx."""
    job_id: Expr | None = None
    """The vendor's id of the job. An operation with `status` needs it."""
    idempotency_header: HeaderName | None = None
    """The header in which the vendor takes a key: a repeat under the same key starts nothing new."""
    value: Expr = "@"
    """The result of an operation without `status`."""
    state: Expr | None = None
    """The state of the job asked about, for an operation without `status`."""
    map: StatesPart | None = None
    """What the words of `state` mean."""


class FindPart(Part):
    """A look-up that shows whether an unanswered submit arrived. Without one, a submit that has an
    `idempotencyHeader` is sent again under its key."""

    request: RequestPart
    job_id: Expr
    """The job's id, or a list of them: none and several are both no find."""
    decisive: bool = False
    """Whether a submit that the look-up does not show surely never arrived, so that it may be sent again."""


class StatusPart(Part):
    """How the vendor is asked how a job fares."""

    request: RequestPart
    state: Expr
    """The vendor's word."""
    map: StatesPart
    error: Expr | None = None
    """Why a job failed; default: the vendor's own `error`."""
    value: Expr = "@"
    """The result, where no `result` is fetched."""
    progress: Expr | None = None
    not_found_grace: Annotated[float, Field(ge=0, le=86400)] = 30.0
    """Seconds after the submit in which a 404 means that the vendor is not ready to tell."""


class CancelPart(Part):
    """How the vendor is asked to stop a job."""

    request: RequestPart
    accept: Annotated[tuple[Status, ...], Field(min_length=1)] | None = None


class VerifyPart(Part):
    """How a callback is known to be the vendor's."""

    type: Literal["hmacSha256", "hmacSha256Timestamped", "header", "basic", "none"] = "none"
    """`hmacSha256`: of the body, in `header`. `hmacSha256Timestamped`: of `<timestamp>.<body>`; the timestamp is in
    `timestampHeader`, or `header` is `t=<timestamp>,sha256=<hex>`. `header`: the secret itself, in `header`. `basic`:
    in `Authorization`. `none`: the callback only makes relay ask for the status."""
    header: HeaderName | None = None
    timestamp_header: HeaderName | None = None
    """Unix seconds or milliseconds; five minutes off are too much."""
    prefix: str | None = None
    """What stands before the value in `header`, such as `sha256=`."""
    encoding: Literal["hex", "base64"] | None = None
    """Of the signature; default `hex`."""
    secret: Text | None = None
    """A template over `connection`; default: the job's own secret, `${job.callbackSecret}` in the submit."""
    username: Text | None = None
    """For `basic`; default: any."""


class CallbackPart(Part):
    """How the vendor reports a job's end to `${job.callbackUrl}`."""

    verify: VerifyPart = VerifyPart()
    job_id: Expr | None = None
    """The vendor's id of the job."""
    state: Expr | None = None
    """The vendor's word, as in `status.map`."""
    error: Expr | None = None
    """Why it failed; default: that of `status`."""
    value: Expr = "@"
    """The result, where no `result` is fetched."""
    confirm_by_status: bool = False
    """Ask for the status, and let that decide."""


class ResultPart(Part):
    """What is fetched once a job has succeeded."""

    request: RequestPart
    value: Expr = "@"


class OperationPart(Part):
    """One thing that the vendor can be asked."""

    parameters: Mapping[str, Any] | None = None
    """The JSON Schema (2020-12) of the parameters, an object; absent: there are none. Names that it does not know are
    refused unless it says otherwise. `secret: true` marks what is sealed at rest and shown nowhere."""
    submit: SubmitPart
    find: FindPart | None = None
    status: StatusPart | None = None
    """With it the operation is tracked: it ends when the vendor's job does."""
    cancel: CancelPart | None = None
    callback: CallbackPart | None = None
    result: ResultPart | None = None
    repeatable: bool | None = None
    """Whether doing it twice is as good as once; default: whether its submit is a GET."""


class AuthPart(Part):
    """What goes with every request. The values are templates over `connection`."""

    type: Literal["none", "bearer", "basic", "apiKey", "oauth2ClientCredentials"] = "none"
    token: Text | None = None
    """`bearer`."""
    username: Text | None = None
    """`basic`."""
    password: Text | None = None
    """`basic`."""
    place: Annotated[Literal["header", "query"] | None, Field(alias="in")] = None
    """`apiKey`; default `header`."""
    name: str | None = None
    """`apiKey`: the header or query field."""
    value: Text | None = None
    """`apiKey`."""
    token_url: Text | None = None
    """`oauth2ClientCredentials`: a whole URL, or a path below `baseUrl`."""
    client_id: Text | None = None
    client_secret: Text | None = None
    scope: Text | None = None
    audience: Text | None = None
    client_auth: Literal["form", "basic"] | None = None
    """`oauth2ClientCredentials`: where id and secret are sent; default `form`."""


class GreetingPart(Part):
    """A request that changes nothing and is answered with 2xx to whom the vendor lets in, for `relay check`."""

    request: RequestPart


class Declaration(Part):
    """A vendor without code: its requests, and how its answers are read."""

    title: str | None = None
    """How it is called in texts; default: its name."""
    auth: AuthPart = AuthPart()
    headers: Mapping[HeaderName, Text] = {}
    """Headers of every request; templates over `connection`."""
    error: Expr | None = None
    """The vendor's words in a failed answer; default: `error`, `message` and the like."""
    greeting: GreetingPart | None = None
    operations: Annotated[Mapping[OperationName, OperationPart], Field(min_length=1)]


# --- a connection's settings ---


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Setting: TypeAlias = Annotated[Secret, BeforeValidator(_text, json_schema_input_type=str | int)]


class DeclaredOptions(Options):
    """A connection's settings: those that the declaration's templates name, all of them secrets."""

    # As for parameters: there is no source to look for.
    model_config = ConfigDict(use_attribute_docstrings=False)

    def texts(self) -> dict[str, str]:
        """Each that is set, by its name."""
        read = {info.alias or name: getattr(self, name) for name, info in type(self).model_fields.items()}
        return {name: secret.get_secret_value() for name, secret in read.items() if secret is not None}


def options_of(settings: Mapping[str, bool]) -> type[DeclaredOptions]:
    """The model of a connection's settings; those that are true must be set."""
    fields: dict[str, Any] = {
        f"setting_{number}": (Setting, Field(alias=name, description="a secret; needed"))
        if needed
        else (Setting | None, Field(default=None, alias=name, description="a secret; may be left out"))
        for number, (name, needed) in enumerate(settings.items())
    }
    return create_model("Settings", __base__=DeclaredOptions, **fields)
