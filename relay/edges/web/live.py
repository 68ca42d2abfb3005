"""The live view: events as they are committed, and deliveries as they change, as server-sent events.

One look at the store serves all who follow the same feed, and only while somebody does: at once when this process has
committed something, within a second for other relays. Each listener reads on from where it is, a page at a time and
only when its client has taken what came before, so that a slow one waits for itself alone; who stands where another
does shares its page. Nothing else is kept in memory: where a client is cut off, its last id says where to go on.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Generic, TypeVar

import orjson
import structlog
from aiohttp import web
from pydantic import Field

from relay.core.flow import JsonValue
from relay.core.vendor import OperationName
from relay.edges.web.auth import Caller
from relay.edges.web.doors import Doors
from relay.edges.web.problems import RETRY_AFTER, Wrong, unprocessable
from relay.edges.web.queries import DeliveryTraits, Query, Word, read_query
from relay.edges.web.route import READ, Call, Route
from relay.edges.web.views import DeliveryRow, delivery_row
from relay.edges.web.waiting import waits
from relay.messages import Complaint
from relay.ports import Event, EventName, FeedMark, FeedName, FeedPage, Followed, Store, StoreUnavailable

log = structlog.get_logger()

T = TypeVar("T")

LOOK = 1.0
"""Seconds between looks for what other relays have committed."""
PACE = 0.02
"""Seconds between looks at most, however much is committed here."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the stream for dead."""
MOST_LISTENERS = 200
"""Streams at a time: they must not take the connections that requests and callbacks come by."""
SHARED_PAGES = 4

_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
_RETRY = b"retry: 2000\n\n"
_EVENTS_DROPPED = (
    "events that came after this id were kept no longer (`retention`): GET /v1/jobs lists the jobs that are left"
)
_CHANGES_DROPPED = (
    "changes that came after this id were kept no longer: GET /v1/deliveries lists how deliveries stand now"
)
_NEVER_GIVEN = "this id was never given here: the database has another past, and the stream begins with what comes next"


class StreamQuery(Query):
    """Where to go on."""

    last_event_id: str | None = None
    """The id after which to go on, for clients that cannot send the header `Last-Event-ID`, which goes before."""


class EventQuery(StreamQuery):
    """Which events to follow: those of which all of this is true."""

    connection: Word | None = None
    operation: OperationName | None = None
    event: EventName | None = None
    metadata: dict[Word, Word] = Field(default_factory=dict)
    """Given as `metadata.<key>=<value>`: what the job's metadata hold."""

    def wants(self, event: Event, caller: Caller) -> bool:
        """Whether this one is to be told to this caller."""
        return (
            caller.sees(event.connection)
            and self.connection in (None, event.connection)
            and self.operation in (None, event.operation)
            and self.event in (None, event.type)
            and (not self.metadata or self.metadata.items() <= _metadata(event).items())
        )


class ChangeQuery(DeliveryTraits, StreamQuery):
    """Which deliveries to follow: those of which all of this is true once they have changed."""

    def wants(self, row: DeliveryRow, caller: Caller) -> bool:
        """Whether this one is to be told to this caller."""
        return (
            caller.sees(row.connection)
            and self.state in (None, row.state)
            and not (self.undelivered and row.state == "delivered")
            and self.job_id in (None, row.job_id)
            and self.subscription in (None, row.subscription)
            and self.target in (None, row.target)
            and self.event in (None, row.event)
            and self.connection in (None, row.connection)
        )


class Listener:
    """One stream: where its client is in taking it."""

    def __init__(self, request: web.Request, patience: float) -> None:
        self._request = request
        self._patience = patience
        self._sending = False
        self.woken = asyncio.Event()

    async def send(self, answer: web.StreamResponse, chunk: bytes) -> None:
        """Return once there is room for more. Raises ConnectionError where the client is gone, or takes nothing."""
        self._sending = True
        try:
            async with asyncio.timeout(self._patience):
                await answer.write(chunk)
        except TimeoutError:
            self._cut_off()
            raise ConnectionAbortedError("the client takes nothing") from None
        finally:
            self._sending = False

    async def rest(self, seconds: float) -> None:
        """Return when it is woken, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()

    def end(self) -> None:
        """Let it end now; one that waits for its client is cut off, and its client comes again."""
        self.woken.set()
        if self._sending:
            self._cut_off()

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


class Feed(Generic[T]):
    """What is followed, for all who follow it. `read` gives the page after a position, up to another; `framed` is an
    item as it is sent; `dropped` says in words where to look for what is kept no longer."""

    def __init__(
        self,
        name: FeedName,
        store: Store,
        read: Callable[[int, int], Awaitable[FeedPage[T]]],
        framed: Callable[[Followed[T]], bytes],
        dropped: str,
    ) -> None:
        self._name = name
        self._store = store
        self._read = read
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._pages: dict[int, asyncio.Future[FeedPage[T]]] = {}
        self.framed = framed
        self.dropped = dropped
        self.mark = FeedMark()

    @contextmanager
    def followed(self, listener: Listener) -> Iterator[None]:
        """For as long as this lasts, wake the listener whenever there is something new."""
        self._listeners.add(listener)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name=f"live-{self._name}")
        try:
            yield
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._watching is not None:
                self._watching.cancel()
                self._watching = None
                self._pages.clear()

    async def look(self) -> FeedMark:
        """How far it can be followed now. Raises StoreUnavailable."""
        async with self._looking:
            before, self.mark = self.mark, await self._store.mark_feed(self._name, self.mark)
            if self.mark != before:
                self._pages.clear()
                for listener in self._listeners:
                    listener.woken.set()
            return self.mark

    async def page(self, position: int) -> FeedPage[T] | None:
        """The page after a position, from memory where somebody else has just read it; None while the store is away."""
        reading = self._pages.get(position)
        if reading is None:
            while len(self._pages) >= SHARED_PAGES:
                del self._pages[next(iter(self._pages))]
            reading = asyncio.ensure_future(self._read(position, self.mark.settled))
            self._pages[position] = reading
        try:
            return await asyncio.shield(reading)
        except Exception as error:
            # Whoever comes next reads anew: what ailed it may have passed.
            if self._pages.get(position) is reading:
                del self._pages[position]
            if isinstance(error, StoreUnavailable):
                return None
            raise

    async def _watch(self) -> None:
        """Look whenever something may have come."""
        heard = asyncio.Event()
        with self._store.hearing(self._name, heard.set):
            while True:
                heard.clear()
                unsettled = await self._looked()
                await asyncio.sleep(PACE)
                if not unsettled:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await heard.wait()

    async def _looked(self) -> bool:
        """Whether something was seen that is not settled: then it soon will be."""
        try:
            mark = await self.look()
        except StoreUnavailable as error:
            log.warning("store.unavailable", stage="live", error=str(error))
        except Exception:
            log.exception("live.look_failed", feed=self._name)
        else:
            return mark.settled < mark.newest
        return False


class Live:
    """All streams. `patience` is the seconds in which a client must take what was sent."""

    def __init__(self, doors: Doors, *, patience: float, heartbeat: float = HEARTBEAT) -> None:
        self._patience = patience
        self._heartbeat = heartbeat
        self._listeners: set[Listener] = set()
        self._closed = False
        self.events = Feed(
            "events",
            doors.store,
            doors.store.events_after,
            _event_frame,
            _EVENTS_DROPPED,
        )
        self.deliveries = Feed(
            "deliveries",
            doors.store,
            lambda position, upto: _rows_after(doors, position, upto),
            _delivery_frame,
            _CHANGES_DROPPED,
        )

    @contextmanager
    def listening(self, request: web.Request, feed: Feed[T]) -> Iterator[Listener]:
        """A place among those who listen. Raises Wrong (503) where there is none."""
        if self._closed or len(self._listeners) >= MOST_LISTENERS:
            why = "relay is stopping" if self._closed else f"{MOST_LISTENERS} streams are open, and no more are served"
            raise Wrong(503, "too_many_streams", why, headers={"Retry-After": str(RETRY_AFTER)})
        listener = Listener(request, self._patience)
        self._listeners.add(listener)
        try:
            with feed.followed(listener):
                yield listener
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """End every stream."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    async def told(
        self, listener: Listener, feed: Feed[T], position: int | None, wants: Callable[[T], bool]
    ) -> AsyncGenerator[bytes, None]:
        """What is to be sent, from after this position or from now on, until the end of relay."""
        loop = asyncio.get_running_loop()
        named, gap = position is not None, 0
        if position is None:
            position = feed.mark.newest
        yield _RETRY
        sent = loop.time()
        while not self._closed:
            listener.woken.clear()
            chunk, more = b"", False
            if position > feed.mark.newest:
                chunk, position = _gap(feed.mark.newest, _NEVER_GIVEN), feed.mark.newest
            elif position < feed.mark.settled:
                page = await feed.page(position)
                if page is not None:
                    if page.dropped > max(position, gap):
                        chunk, gap = _gap(position, feed.dropped), page.dropped
                    chunk += b"".join(feed.framed(each) for each in page.items if wants(each.item))
                    position, more = page.position, True
            elif not named and position == feed.mark.settled:
                # What was in the middle of its commit has ended: all that is committed from now on stands behind this.
                chunk, named = _place(position), True
            silence = loop.time() - sent
            if not chunk and silence >= self._heartbeat:
                chunk = b": nothing new\n" + (_place(position) if named else b"\n")
            if chunk:
                yield chunk
                sent = loop.time()
            elif not more:
                pause = self._heartbeat - silence
                await listener.rest(pause if position >= feed.mark.settled else min(pause, LOOK))


LIVE = web.AppKey("live", Live)


async def follow_events(call: Call) -> web.StreamResponse:
    """Events as they are committed."""
    query = read_query(call.request, EventQuery)
    feed = call.request.app[LIVE].events
    return await _follow(call, feed, query, lambda event: query.wants(event, call.caller))


async def follow_deliveries(call: Call) -> web.StreamResponse:
    """Deliveries as they change."""
    query = read_query(call.request, ChangeQuery)
    feed = call.request.app[LIVE].deliveries
    return await _follow(call, feed, query, lambda row: query.wants(row, call.caller))


async def _follow(call: Call, feed: Feed[T], query: StreamQuery, wants: Callable[[T], bool]) -> web.StreamResponse:
    """A stream, from after the last id that the client has, or from now on.

    An id that is older than what is left is answered with what is left, after an event `gap` that says so; so is one
    that was never given, as after the database was restored, with what comes next.
    """
    position = _last_event_id(call.request, query)
    if call.request.method == "HEAD":
        return web.Response(headers=_HEADERS)
    live = call.request.app[LIVE]
    with live.listening(call.request, feed) as listener:
        await feed.look()
        answer = web.StreamResponse(headers=_HEADERS)
        await answer.prepare(call.request)
        try:
            async with aclosing(live.told(listener, feed, position, wants)) as chunks:
                async for chunk in chunks:
                    await listener.send(answer, chunk)
        except ConnectionError:
            raise
        except Exception as error:
            log.exception("live.stream_failed", by=call.caller.name)
            raise ConnectionAbortedError("the answer has begun: no problem can be told") from error
    return answer


def _last_event_id(request: web.Request, query: StreamQuery) -> int | None:
    given = request.headers.get("Last-Event-ID") or query.last_event_id
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise unprocessable([Complaint(path="lastEventId", message="must be an id that this stream gave")])
    return int(given)


def _metadata(event: Event) -> dict[str, str]:
    """The job's metadata; a value that is no text counts as its JSON."""
    told: dict[str, JsonValue] = orjson.loads(event.body)["data"].get("metadata") or {}
    return {key: value if isinstance(value, str) else orjson.dumps(value).decode() for key, value in told.items()}


async def _rows_after(doors: Doors, position: int, upto: int) -> FeedPage[DeliveryRow]:
    """Deliveries that have changed, as they are listed."""
    page = await doors.store.deliveries_after(position, upto)
    waiting = await waits(doors, [each.item for each in page.items])
    rows = [(each.position, delivery_row(each.item, waiting.get(each.item.id))) for each in page.items]
    return FeedPage(
        items=tuple(Followed(position=position, item=row) for position, row in rows),
        position=page.position,
        dropped=page.dropped,
    )


def _event_frame(each: Followed[Event]) -> bytes:
    """An event; its bytes are JSON on one line."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (each.position, each.item.type.encode(), each.item.body)


def _delivery_frame(each: Followed[DeliveryRow]) -> bytes:
    return b"id: %d\nevent: delivery\ndata: %s\n\n" % (each.position, each.item.model_dump_json().encode())


def _place(position: int) -> bytes:
    """Where the stream is, without an event: a client that is cut off goes on from there."""
    return b"id: %d\n\n" % position


def _gap(position: int, detail: str) -> bytes:
    told = orjson.dumps({"after": str(position), "detail": detail})
    return b"id: %d\nevent: gap\ndata: %s\n\n" % (position, told)


_RESUMES = {"Last-Event-ID": "Go on after the event with this id."}

ROUTES = (
    Route(
        method="GET",
        path="/v1/events",
        handle=follow_events,
        summary=(
            "Follow events live as they are committed, as server-sent events. The header `Last-Event-ID` goes on after "
            "that id and misses nothing; an event `gap` tells where retention has dropped what came after it."
        ),
        scopes=READ,
        query=EventQuery,
        answers={
            200: (
                "`text/event-stream`: of each event its `id`, its type as `event`, and as `data` the same JSON that "
                "goes to webhooks. Without `Last-Event-ID` it begins with what comes next."
            )
        },
        media="text/event-stream",
        headers=_RESUMES,
        problems=(401, 403, 422, 503),
    ),
    Route(
        method="GET",
        path="/v1/deliveries/changes",
        handle=follow_deliveries,
        summary=(
            "Follow deliveries live as they are made, tried, ended and sent again, as server-sent events. The header "
            "`Last-Event-ID` goes on after that id and misses no delivery's last standing; an event `gap` tells where "
            "what came after it is kept no longer."
        ),
        scopes=READ,
        query=ChangeQuery,
        answers={
            200: (
                "`text/event-stream`: an event `delivery` with an `id` for each change, and as `data` the delivery as "
                "it is listed. Changes that come close together are told as one. Without `Last-Event-ID` it begins "
                "with what comes next."
            )
        },
        media="text/event-stream",
        headers=_RESUMES,
        problems=(401, 403, 422, 503),
    ),
)
