"""What may stand behind the `?`: one model for each listing, so that a wrong name or value is told by name."""

import base64
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import orjson
from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from relay.core.job import State
from relay.core.vendor import OperationName
from relay.edges.web.problems import unprocessable
from relay.messages import Complaint, complaints_of
from relay.ports import ActFilter, ActName, DeliveryFilter, DeliveryState, EventName, JobFilter, Page

Q = TypeVar("Q", bound=BaseModel)
T = TypeVar("T")

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt][\d:.]+([Zz]|[+-]\d\d:\d\d)")


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters only")
    return text


def _written_out(value: object) -> object:
    """The library takes a number for a time, too: a mistyped `since` would mean everything since 1970."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        return value
    raise ValueError("must be a time such as 2026-11-21T20:00:00Z; in a URL the + of an offset is written %2B")


Time = Annotated[AwareDatetime, BeforeValidator(_written_out, json_schema_input_type=AwareDatetime)]
Cursor = Annotated[str, Field(max_length=1000)]
Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]


class Query(BaseModel):
    """Parameters of a request; unknown ones are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class PageQuery(Query):
    """Which page of a listing."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: Cursor | None = None
    """`next` of the page before."""


class WholeQuery(Query):
    """The same of what the settings hold: few enough for one page."""

    limit: Annotated[int, Field(ge=1, le=200)] | None = None
    """All unless given."""
    cursor: Cursor | None = None
    """`next` of the page before."""


class StrayQuery(PageQuery):
    """Which callbacks to list."""

    connection: Word | None = None


class JobChoice(Query):
    """Which jobs are meant: those of which all of this is true."""

    state: State | None = None
    connection: Word | None = None
    vendor: Word | None = None
    operation: OperationName | None = None
    request_id: Word | None = None
    vendor_job_id: Word | None = None
    correlation_id: Word | None = None
    error_code: Word | None = None
    metadata: dict[Word, Word] = {}
    """Given as `metadata.<key>=<value>` in a query."""
    since: Time | None = None
    """RFC 3339: not older than this."""
    until: Time | None = None
    """RFC 3339: older than this."""

    def filter(self, seen: frozenset[str] | None) -> JobFilter:
        """As the store takes it; `seen` are the connections that the caller may see."""
        return JobFilter(
            state=self.state.value if self.state else None,
            connection=self.connection,
            vendor=self.vendor,
            operation=self.operation,
            request_id=self.request_id,
            vendor_job_id=self.vendor_job_id,
            correlation_id=self.correlation_id,
            error_code=self.error_code,
            metadata=self.metadata,
            since=_seconds(self.since),
            until=_seconds(self.until),
            connections=seen,
        )


class JobQuery(JobChoice, PageQuery):
    """Which jobs to list."""


class DeliveryTraits(Query):
    """What deliveries are like, whenever they were made."""

    state: DeliveryState | None = None
    undelivered: bool = False
    """Every state but `delivered`."""
    job_id: Word | None = None
    subscription: Word | None = None
    """A subscription's id."""
    target: Word | None = None
    """The host of a URL, or the name of a queue or exchange."""
    event: EventName | None = None
    connection: Word | None = None


class DeliveryChoice(DeliveryTraits):
    """Which deliveries are meant: those of which all of this is true."""

    since: Time | None = None
    """RFC 3339: not made before this."""
    until: Time | None = None
    """RFC 3339: made before this."""

    def filter(self, seen: frozenset[str] | None) -> DeliveryFilter:
        """As the store takes it; `seen` are the connections that the caller may see."""
        return DeliveryFilter(
            state=self.state,
            undelivered=self.undelivered,
            job_id=self.job_id,
            subscription=self.subscription,
            target=self.target,
            event=self.event,
            connection=self.connection,
            since=_seconds(self.since),
            until=_seconds(self.until),
            connections=seen,
        )


class DeliveryQuery(DeliveryChoice, PageQuery):
    """Which deliveries to list."""


class ActQuery(PageQuery):
    """Which acts to list."""

    by: Word | None = None
    """The name of a token."""
    what: ActName | None = None
    target: Word | None = None
    """The id of a job, a delivery or a subscription, or a connection's name."""
    since: Time | None = None
    """RFC 3339: not done before this."""
    until: Time | None = None
    """RFC 3339: done before this."""

    def filter(self, seen: frozenset[str] | None) -> ActFilter:
        """As the store takes it; `seen` are the connections that the caller may see."""
        return ActFilter(
            by=self.by,
            what=self.what,
            target=self.target,
            since=_seconds(self.since),
            until=_seconds(self.until),
            connections=seen,
        )


class IncludeQuery(Query):
    """What to add to a delivery."""

    include: Literal["body"] | None = None
    """`body`: the event itself."""


def read_query(request: web.Request, model: type[Q]) -> Q:
    """The request's parameters. Raises Wrong (422) that names each that is wrong."""
    given: dict[str, object] = {}
    metadata: dict[str, str] = {}
    twice = []
    for name, value in request.query.items():
        into: dict[str, object] | dict[str, str] = metadata if name.startswith("metadata.") else given
        key = name.removeprefix("metadata.")
        if key in into:
            twice.append(Complaint(path=name, message="is given more than once"))
        into[key] = value
    if twice:
        raise unprocessable(twice)
    try:
        return model.model_validate(given | ({"metadata": metadata} if metadata else {}))
    except ValidationError as error:
        raise unprocessable(complaints_of(error, model)) from error


async def page_of(listing: Awaitable[Page], query: PageQuery) -> Page:
    """The page that was asked for. Raises Wrong (422) where its cursor is none that a listing gave."""
    try:
        return await listing
    except (ValueError, OverflowError) as error:
        if query.cursor is None:
            raise
        raise unprocessable([Complaint(path="cursor", message=str(error))]) from error


def page_by_name(
    items: Iterable[T], name_of: Callable[[T], str], query: PageQuery | WholeQuery
) -> tuple[Sequence[T], str | None]:
    """The page of what is listed by name, and the cursor of the next one: that goes on behind a name, though what had
    it is gone. Raises Wrong (422) where the cursor is none that a listing gave."""
    after = _name_in(query.cursor)
    left = sorted((one for one in items if after is None or name_of(one) > after), key=name_of)
    page = left[: query.limit]
    return page, _cursor(name_of(page[-1])) if len(left) > len(page) else None


def _cursor(name: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([name])).decode().rstrip("=")


def _name_in(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        (name,) = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError):
        name = None
    if not isinstance(name, str):
        message = "is none that this listing gave: leave it out to start at the first"
        raise unprocessable([Complaint(path="cursor", message=message)])
    return name


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
