"""relay and all that it talks to, for real: a broker, a stand-in vendor, receivers, producers and consumers."""

import http.client
import json
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml

from relay.simulators.faults import Fault
from relay.simulators.trifacta import Fate
from tests.e2e.history import PATIENCE, Asked, History, Letter, Notebook, Rest, Seen
from tests.e2e.messages import DEAD_LETTERS, Listener, Producer, declare, depth, remove
from tests.e2e.processes import Nursery, Process, relay_serve, started
from tests.e2e.surroundings import VENDOR_TOKEN, Surroundings
from tests.ports import free_port

CONNECTION = "tri"
NARROW = "narrow"
"""A connection to the same vendor that only runs recipes."""
EVENTS = "events"
WEBHOOK_KEY = "whsec_Y2FuYXJ5LXdlYmhvb2sta2V5LTdkMWY0YTg4"
CANARIES = (VENDOR_TOKEN.encode(), WEBHOOK_KEY.removeprefix("whsec_").encode(), b"canary-webhook-key-7d1f4a88")
"""Secrets that relay is given: they must never be seen but where they belong."""
CALM = 2
"""Looks in a row, a second apart, that find relay at rest: what has not arrived by then never will."""
LOOK = 0.02
"""Seconds between looks at what nobody tells of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What relay's HTTP interface answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to run a recipe that no other request has. `reply` is a queue; `content` is laid over the request."""

    id: str
    recipe: int
    completion: Mapping[str, Any] = field(default_factory=lambda: {"mode": "poll", "pollInterval": 0.1})
    webhooks: tuple[Mapping[str, Any], ...] = ()
    reply: str | None = None
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> dict[str, Any]:
        """The request as producers write it."""
        return {
            "requestId": self.id,
            "connection": CONNECTION,
            "operation": "run",
            "parameters": {"wrangledDataset": {"id": self.recipe}},
            "completion": dict(self.completion),
            "webhooks": [dict(hook) for hook in self.webhooks],
            **self.content,
        }


class World:
    """One relay and its surroundings. `start` begins it, as often as it ends; everything else goes on meanwhile.

    With a nursery relay starts faster; without, it is the command line that operators use. `settings` are laid over
    relay's configuration.
    """

    def __init__(
        self,
        folder: Path,
        amqp_url: str,
        nursery: Nursery | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.amqp_url = amqp_url
        self.notebook = Notebook()
        self.surroundings = Surroundings(self.notebook)
        self.vendor, self.receiver = self.surroundings.vendor, self.surroundings.receiver
        self.config = folder / "relay.yaml"
        self.database = folder / "relay.db"
        self.relays: list[Process] = []
        self.broken = False
        """Whether a promise was found broken."""
        self._nursery = nursery
        self._settings = settings or {}
        self._own = f"t{uuid.uuid4().hex[:8]}"
        self.requests, self.events, self.dead_letters = (
            f"{self._own}.{name}" for name in ("requests", "events", "dead-letters")
        )
        self.reply = f"{self._own}.reply"
        self.port = free_port()
        self._recipes = iter(range(100_000, 1_000_000))
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.surroundings)
            stack.callback(self._remove)
            declare(self.amqp_url, self.reply)
            self._write_config()
            self.producer = Producer(self.amqp_url, self.requests)
            stack.callback(self.producer.close)
            queues = {self.events: EVENTS, self.reply: self.reply, self.dead_letters: DEAD_LETTERS}
            self._listener = Listener(self.amqp_url, queues, self.notebook)
            stack.callback(self._end_relays)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # --- relay ---

    @property
    def relay(self) -> Process:
        """The relay that was started last."""
        return self.relays[-1]

    def start(self, environment: Mapping[str, str] | None = None, command: Sequence[str] = ()) -> Process:
        """Start relay; it takes requests when this returns."""
        relay = self.launch(environment, command).until_started()
        relay.until_logged("amqp.consumer_started")
        if len(self.relays) == 1:
            self._listener.start()
            self._closing.callback(self._listener.stop)
        return relay

    def launch(self, environment: Mapping[str, str] | None = None, command: Sequence[str] = ()) -> Process:
        """Start relay, without waiting; one that runs is killed."""
        self._end_relays()
        log = self.folder / "relay.log"
        if self._nursery is not None and not command:
            relay = self._nursery.started(self.config, log, environment)
        else:
            relay = started(command or relay_serve(self.config), log, environment)
        self.relays.append(relay)
        return relay

    def stop(self) -> int:
        """Ask relay to stop, and wait until it has; the exit code."""
        self.relay.tell(signal.SIGTERM)
        return self.relay.wait()

    # --- requests ---

    def request(
        self, id: str | None = None, *, fate: Fate | None = None, fault: Fault | None = None, **more: Any
    ) -> Request:
        """A request of a recipe of its own, whose fate, and what befalls its requests at the vendor, may be said."""
        recipe = next(self._recipes)
        if fate is not None:
            self.vendor.fates[str(recipe)] = fate
        if fault is not None:
            self.vendor.faults.add(fault.model_copy(update={"subject": str(recipe)}))
        return Request(id=id or f"request-{recipe}", recipe=recipe, **more)

    def hook(self, path: str, **more: Any) -> dict[str, Any]:
        """A webhook to the receiver; the path is its name in the history."""
        return {"url": f"{self.receiver.url}{path}", **more}

    def publish(self, request: Request, properties: Mapping[str, Any] | None = None, body: bytes | None = None) -> None:
        """Ask by AMQP; returns when the broker has confirmed it."""
        self._going_out(request)
        own = {"message_id": request.id, "content_type": "application/json"}
        own |= {"reply_to": request.reply, "correlation_id": f"c-{request.id}"} if request.reply else {}
        key = f"{CONNECTION}.run"
        self.producer.publish(body or json.dumps(request.json).encode(), key, {**own, **(properties or {})})
        self.notebook.confirmed(request.id)

    def post(self, request: Request) -> Answer:
        """Ask by HTTP, again and again until it is answered, as clients should."""
        self._going_out(request)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self.http("POST", "/v1/jobs", request.json)
            except (OSError, http.client.HTTPException):
                answer = Answer(status=503, headers={}, body=b"")
            if answer.status in (200, 202):
                self.notebook.confirmed(request.id)
                return answer
            assert answer.status == 503, answer.body
            assert time.monotonic() < deadline, "relay does not answer"
            time.sleep(LOOK)

    def _going_out(self, request: Request) -> None:
        urls = (str(hook["url"]).removeprefix(self.receiver.url) for hook in request.webhooks)
        targets = (EVENTS, *urls, *([request.reply] if request.reply else ()))
        subject = str(request.recipe)
        self.notebook.asked(Asked(request_id=request.id, subject=subject, targets=targets, confirmed=False))

    def http(self, method: str, path: str, content: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request to relay's HTTP interface; bytes go under their own headers, other content as JSON."""
        bare = isinstance(content, bytes) or content is None
        body = content if bare else json.dumps(content).encode()
        own = {} if bare else {"Content-Type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, {**own, **(headers or {})})
            response = connection.getresponse()
            return Answer(status=response.status, headers=dict(response.getheaders()), body=response.read())

    def job(self, request_id: str) -> Any:
        """A job as relay shows it."""
        found = self.http("GET", f"/v1/jobs?requestId={request_id}").json["items"]
        return self.http("GET", f"/v1/jobs/{found[0]['jobId']}").json

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait for what nobody tells of; what it came to."""
        deadline = time.monotonic() + PATIENCE
        while not (result := holds()):
            assert time.monotonic() < deadline, f"{what}\n{self.relay.tail()}"
            time.sleep(LOOK)
        return result

    def until_state(self, request_id: str, *states: str) -> Any:
        """Wait until a job is in one of these states; the job."""

        def there() -> Any:
            found = self.http("GET", f"/v1/jobs?requestId={request_id}").json["items"]
            return found[0] if found and found[0]["state"] in states else None

        return self.until(there, f"{request_id} never was {' or '.join(states)}")

    # --- what came of them ---

    def event(self, request_id: str, target: str = EVENTS) -> Seen:
        """Wait for a request's event at a target; the first that came."""

        def there(history: History) -> list[Seen]:
            return [seen for seen in history.seen if seen.target == target and _is_of(seen, request_id)]

        assert self.notebook.until(lambda history: bool(there(history))), self.explained([request_id])
        return there(self.notebook.history())[0]

    def letter(self, holds: Callable[[Letter], bool]) -> Letter:
        """Wait for a dead letter."""
        found = self.notebook.until(lambda history: any(map(holds, history.letters)))
        assert found, f"no such dead letter\n{self.relay.tail()}"
        return next(filter(holds, self.notebook.history().letters))

    def settle(self) -> History:
        """Wait until all that is due has arrived and nothing moves, or nothing moves any more, or too long."""
        deadline = time.monotonic() + PATIENCE
        arrived, calm = False, 0
        while not (arrived and calm) and calm < CALM and time.monotonic() < deadline:
            arrived = self.notebook.until_all_arrived(LOOK if arrived else 1.0)
            calm = calm + 1 if (rest := self._rest()) == Rest() else 0
        rest = replace(rest, leaks=tuple(self._leaks()))
        return replace(self.notebook.history(), made=self.surroundings.made(), rest=rest)

    def _rest(self) -> Rest:
        with closing(self._reading()) as reading:
            live = [
                " ".join(row) for row in reading.execute("SELECT id, request_id, state FROM job WHERE ended IS NULL")
            ]
            pending = [
                " ".join(row) for row in reading.execute("SELECT id, host, state FROM delivery WHERE state = 'pending'")
            ]
            callbacks = [row[0] for row in reading.execute("SELECT id FROM callback WHERE due IS NOT NULL")]
        queued = depth(self.amqp_url, self.requests, self.events, self.dead_letters, self.reply)
        return Rest(
            live_jobs=tuple(live),
            pending_deliveries=tuple(pending),
            waiting_callbacks=tuple(callbacks),
            queued={queue: count for queue, count in queued.items() if count},
        )

    def _leaks(self) -> Iterable[str]:
        """Every place where a secret is found that must not be there."""
        files = [file for file in self.folder.iterdir() if file != self.config and file.is_file()]
        places = [(file.name, file.read_bytes()) for file in files]
        places += [
            (f"event at {seen.target}", seen.body + repr(seen.headers).encode())
            for seen in self.notebook.history().seen
        ]
        return sorted({place for place, content in places for canary in CANARIES if canary in content})

    def _reading(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=PATIENCE)

    def explained(self, request_ids: Iterable[str]) -> str:
        """What there is to know of these requests, and the end of relay's log."""
        lines: list[str] = []
        with closing(self._reading()) as reading:
            for request_id in request_ids:
                lines += [f"--- {request_id}", *_told(reading, request_id)]
        return "\n".join([*lines, "--- the end of relay's log", self.relay.tail()])

    # --- around ---

    def _write_config(self) -> None:
        vendor = {"vendor": "trifacta", "baseUrl": self.vendor.url, "token": VENDOR_TOKEN, "timeout": 5}
        own = {
            "amqp": {
                "url": self.amqp_url,
                "requestsExchange": self.requests,
                "requestsQueue": self.requests,
                "eventsExchange": self.events,
                "eventsQueue": self.events,
                "deadLettersExchange": self.dead_letters,
                "deadLettersQueue": self.dead_letters,
            },
            "database": {"url": f"sqlite:///{self.database}"},
            "http": {"host": "127.0.0.1", "port": self.port, "publicUrl": f"http://127.0.0.1:{self.port}"},
            "log": {"level": "debug"},
            "egress": {"allow": ["127.0.0.0/8"], "allowHttp": True},
            "connections": {CONNECTION: vendor, NARROW: {**vendor, "operations": ["run"]}},
        }
        self.config.write_text(yaml.safe_dump({**own, **self._settings}))

    def _end_relays(self) -> None:
        for relay in self.relays[-1:]:
            relay.kill()

    def _remove(self) -> None:
        names = [self.requests, self.events, self.dead_letters]
        remove(self.amqp_url, [*names, self.reply], names)


def _told(reading: sqlite3.Connection, request_id: str) -> list[str]:
    job = reading.execute("SELECT key, id, state, lane, due, leased, ended FROM job WHERE request_id = ?", [request_id])
    lines: list[str] = []
    for row in job.fetchall():
        lines.append(f"job {row[1:]}, now {time.time()}")
        lines += map(
            str, reading.execute("SELECT at, what, state, detail FROM history WHERE job = ? ORDER BY key", [row[0]])
        )
        deliveries = "SELECT d.id, d.state, d.due, d.leased, d.attempts FROM delivery d JOIN event e ON d.event = e.key"
        lines += map(str, reading.execute(f"{deliveries} WHERE e.job = ?", [row[0]]))
    return lines or ["relay has no such job"]


def _is_of(seen: Seen, request_id: str) -> bool:
    try:
        return bool(seen.data["requestId"] == request_id)
    except (ValueError, LookupError, TypeError):
        return False
