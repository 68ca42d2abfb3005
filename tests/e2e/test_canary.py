"""A canary in every place where a secret may stand, in a whole relay with a broker: none comes out where it must not.

relay runs jobs that succeed, fail, are refused, get blocked and never reach their vendor; then everything that it says
or keeps is searched: log, events, answers, metrics, documents, dead letters, commands, and the database's raw bytes.
"""

import asyncio
import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import yaml
from yarl import URL

from relay.edges.vault import new_key
from relay.edges.web.application import ROUTES
from relay.simulators.trifacta import Fate, TrifactaSimulator
from tests.e2e.history import PATIENCE, Notebook
from tests.e2e.messages import Producer, connect, remove
from tests.e2e.processes import ROOT, Process, relay_serve, started
from tests.e2e.surroundings import VENDOR_TOKEN, Loop, Reply, Surroundings
from tests.ports import free_port

MARK = "k4n4ry"
"""Stands in every secret of these tests, and nowhere else."""
KEY = "whsec_" + base64.b64encode(f"{MARK}-signing-key".encode()).decode()
STANDING = "whsec_" + base64.b64encode(f"{MARK}-standing-key".encode()).decode()
MISPLACED = f"{MARK}-misplaced"
"""A secret where nobody can tell that it is one: who lists the dead letters sees it in the message."""
API_TOKEN = f"relay_{MARK}-api-token"
SECRETS = [
    f"{MARK}-{what}"
    for what in (
        "signing-key", "standing-key", "api-token", "text-key", "header", "standing-header", "query",
        "path", "user-info",
        "overrides-key", "wrong-token", "password", "refresh-token", "proxy-password", "broker-password",
        "database-password", "no-json", "message-header",
    )
]  # fmt: skip
SECRETS += [VENDOR_TOKEN]
USERS = {"k4-user": f"{MARK}-password", "proxy": f"{MARK}-proxy-password", "relay": f"{MARK}-broker-password"}
Said = dict[str, bytes]
"""What was said, by where."""


def forms(secret: str) -> set[bytes]:
    """The secret as it is, and as others write it: in base64, percent-encoded, in hexadecimal."""
    raw = secret.encode()
    return {raw, base64.b64encode(raw).rstrip(b"="), quote(secret, safe="").encode(), raw.hex().encode()}


def basic(user: str, password: str) -> bytes:
    """What HTTP sends for a user and a password."""
    return base64.b64encode(f"{user}:{password}".encode()).rstrip(b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What relay's API answered."""

    status: int
    head: Sequence[tuple[str, str]]
    body: bytes

    @property
    def whole(self) -> bytes:
        """All of it."""
        return repr(self.head).encode() + self.body


@dataclass(kw_only=True)
class House:
    """A relay with secrets everywhere, and all that it talks to."""

    folder: Path
    amqp_url: str
    database_url: str
    surroundings: Surroundings
    notebook: Notebook
    cloud: TrifactaSimulator
    """Where tokens rotate."""
    ring: str = field(default_factory=lambda: f"{new_key()},{new_key()}")
    own: str = field(default_factory=lambda: f"k{uuid.uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    relay: Process = field(init=False)

    # --- what it is told ---

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / "relay.yaml"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "relay.log"

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return {"RELAY_SECRET_KEY": self.ring}

    @property
    def names(self) -> dict[str, str]:
        """Its exchanges and queues."""
        kinds = {"requests": "requests", "events": "events", "deadLetters": "dead-letters"}
        return {f"{key}{what}": f"{self.own}.{name}" for key, name in kinds.items() for what in ("Exchange", "Queue")}

    def settings(self) -> Mapping[str, Any]:
        """As the operator writes them."""
        vendor = self.surroundings.vendor.url
        connection = {"vendor": "trifacta", "baseUrl": vendor, "timeout": 5}
        away = URL(self.amqp_url).with_port(1).with_user("relay").with_password(f"{MARK}-broker-password")
        oauth = {"clientId": "c", "refreshToken": f"{MARK}-refresh-token", "tokenUrl": f"{self.cloud.url}/oauth/token"}
        return {
            "amqp": {"url": [str(away), self.amqp_url], **self.names},
            "database": {"url": self.database_url},
            "http": {"host": "127.0.0.1", "port": self.port, "publicUrl": f"http://127.0.0.1:{self.port}"},
            "log": {"level": "debug"},
            "egress": {"allow": ["127.0.0.1"], "allowHttp": True},
            "tokens": [
                {
                    "name": "all",
                    "sha256": sha256(API_TOKEN.encode()).hexdigest(),
                    "scopes": ["read", "submit", "operate"],
                }
            ],
            "connections": {
                "tri": {**connection, "token": VENDOR_TOKEN},
                "wrong": {**connection, "token": f"{MARK}-wrong-token"},
                "basic": {**connection, "username": "k4-user", "password": f"{MARK}-password"},
                "oauth": {**connection, "baseUrl": self.cloud.url, "oauth": oauth},
                "proxied": {
                    **connection,
                    "token": VENDOR_TOKEN,
                    "proxy": f"http://proxy:{MARK}-proxy-password@127.0.0.1:1",
                },
            },
            "subscriptions": {
                "standing": {
                    "url": f"{self.surroundings.receiver.url}/standing/{MARK}-path?key={MARK}-query",
                    "headers": {"Authorization": f"Bearer {MARK}-standing-header"},
                    "secret": STANDING,
                    "schedule": [0],
                }
            },
        }

    # --- what it is asked ---

    def hook(self, path: str, **more: Any) -> dict[str, Any]:
        """A webhook with a secret wherever one fits."""
        return {
            "url": f"{self.surroundings.receiver.url}{path}/{MARK}-path?key={MARK}-query&job=$jobId",
            "headers": {"Authorization": f"Bearer {MARK}-header", "X-Team": "data"},
            "secretKey": KEY,
            "schedule": [0, 0.01],
            **more,
        }

    def request(self, name: str, recipe: int, *hooks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A request whose own webhooks at the vendor have a secret too."""
        own = {"name": "own", "url": "https://x.example", "method": "post", "triggerEvent": "onJobDone"}
        overrides = {"webhooks": [{**own, "secretKey": f"{MARK}-overrides-key"}]}
        return {
            "requestId": name,
            "connection": "tri",
            "parameters": {"wrangledDataset": {"id": recipe}, "overrides": overrides},
            "webhooks": list(hooks),
            "metadata": {"of": name},
            **more,
        }

    def asked(self) -> dict[str, dict[str, Any]]:
        """Requests that are taken, by their id."""
        text = {"secretKey": f"{MARK}-text-key", "signature": "timestamped"}
        dead = self.hook("/dead", schedule=[0])
        dead["url"] = f"http://127.0.0.1:1/{MARK}-path?key={MARK}-query"
        blocked = self.hook("/blocked")
        blocked["url"] = f"https://169.254.169.254/{MARK}-path?key={MARK}-query"
        short = {"completion": {"mode": "poll", "timeout": 1.0}}
        found = [
            self.request("well", 1, self.hook("/well"), self.hook("/text", **text)),
            self.request("failing", 2, self.hook("/echo"), dead, blocked),
            self.request("own-words", 1, self.hook("/own", body={"text": "$jobStatus"}, method="put")),
            self.request("refused-by-vendor", 9400, self.hook("/refused")),
            self.request("wrong", 1, self.hook("/wrong"), connection="wrong"),
            self.request("basic", 1, self.hook("/basic"), connection="basic"),
            self.request("oauth", 1, self.hook("/oauth"), connection="oauth"),
            self.request("proxied", 1, self.hook("/proxied"), connection="proxied", **short),
        ]
        return {request["requestId"]: request for request in found}

    def refused(self) -> list[bytes]:
        """Messages that are not taken, with secrets in wrong places."""
        fine = self.request("x", 1)
        users = f"ftp://u:{MARK}-user-info@h.example/{MARK}-path?{MARK}-query"
        wrong: list[Any] = [
            {**fine, "webhooks": [self.hook("/x", secretKey=f"whsec_{MARK}-text-key!")]},
            {**fine, "webhooks": [self.hook("/x", secretKey=[f"{MARK}-text-key"])]},
            {**fine, "webhooks": [self.hook("/x", secretKey={"a": f"{MARK}-text-key"})]},
            {**fine, "webhooks": [self.hook("/x", headers={"Authorization": f"{MARK}-header\r\nx: y"})]},
            {**fine, "webhooks": [self.hook("/x", headers=f"Authorization: {MARK}-header")]},
            {**fine, "webhooks": [self.hook("/x", url=users)]},
            {**fine, "webhooks": [self.hook("/x", url=f"https://u:{MARK}-user-info@h.example/")]},
            {**fine, "webhooks": [self.hook("/x", method=MISPLACED)]},
            {**fine, "webhooks": [f"{users}"]},
            {**fine, "webhooks": self.hook("/x")},
            {**fine, "parameters": {"overrides": {"webhooks": [{"secretKey": f"{MARK}-overrides-key"}]}}},
            {**fine, "parameters": MISPLACED},
            {**fine, "connection": "nobody", "webhooks": [self.hook("/x")]},
            {**fine, "operation": "fly", "webhooks": [self.hook("/x")]},
            {**fine, "requestId": "well", "metadata": {"other": 1}},
            [self.hook("/x")],
        ]
        broken = [
            b'{"secretKey": "%s-no-json' % MARK.encode(),
            b'{"a": NaN, "secretKey": "%s-no-json"}' % MARK.encode(),
        ]
        return [json.dumps(each).encode() for each in wrong] + broken

    # --- how it is spoken to ---

    def http(self, method: str, path: str, body: bytes | None = None, token: str = API_TOKEN) -> Answer:
        """One request to its API."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Prefer": "wait=1"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            endless = response.getheader("Content-Type") == "text/event-stream"
            # Of a stream that goes on for ever what there is to be said at once.
            body = response.read1() if endless else response.read()
            return Answer(status=response.status, head=response.getheaders(), body=body)

    def items(self, path: str) -> list[Any]:
        """What a listing lists."""
        found: list[Any] = json.loads(self.http("GET", path).body)["items"]
        return found

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait for what nobody tells of."""
        deadline = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < deadline, self.relay.tail()
            time.sleep(0.05)
        return found

    def command(self, *words: str) -> bytes:
        """What a command says."""
        talking = {"RELAY_SERVER": f"http://127.0.0.1:{self.port}", "RELAY_TOKEN": API_TOKEN}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "relay", *words],
            cwd=ROOT,
            env={**clean, **talking, **self.environment, "RELAY_CONFIG": str(self.config)},
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, 1), done
        return done.stdout + done.stderr

    # --- its life ---

    def begin(self) -> None:
        """It runs."""
        self.config.write_text(yaml.safe_dump(dict(self.settings())))
        self.relay = started(relay_serve(self.config), self.log, self.environment).until_started()
        self.relay.until_logged("amqp.consumer_started")

    def busy(self) -> None:
        """Ask for everything, and wait until all of it has come to its end."""
        producer = Producer(self.amqp_url, self.names["requestsExchange"])
        own = {"content_type": "application/json", "headers": {"x-key": f"{MARK}-message-header"}}
        asked = self.asked()
        for name, request in asked.items():
            producer.publish(json.dumps(request).encode(), "tri.run", {"message_id": name, **own})
        self.until(lambda: len(self.items("/v1/jobs?limit=100")) == len(asked))
        for number, body in enumerate(self.refused()):
            producer.publish(body, "tri.run", {"message_id": f"refused-{number}", **own})
        producer.close()
        self.until(self._at_rest)

    def _at_rest(self) -> bool:
        jobs, deliveries = self.items("/v1/jobs?limit=100"), self.items("/v1/deliveries?limit=200")
        ended = all(job["state"] in ("succeeded", "failed", "canceled", "expired") for job in jobs)
        buried = self.letters() == len(self.refused())
        return ended and buried and all(delivery["state"] != "pending" for delivery in deliveries)

    def letters(self) -> int:
        """How many messages were refused."""
        with connect(self.amqp_url) as connection:
            declared = connection.channel().queue_declare(self.names["deadLettersQueue"], passive=True)
            return int(declared.method.message_count)

    def remove(self) -> None:
        """Nothing of it is left."""
        self.relay.kill()
        names = sorted(set(self.names.values()))
        remove(self.amqp_url, names, names)

    # --- what it says and keeps ---

    def answers(self) -> Said:
        """Every GET of the API, of everything that there is; and what it says to who asks for the wrong."""
        ids = {
            "/v1/jobs/": [job["jobId"] for job in self.items("/v1/jobs?limit=100")],
            "/v1/deliveries/": [delivery["id"] for delivery in self.items("/v1/deliveries?limit=200")],
            "/v1/subscriptions/": [one["id"] for one in self.items("/v1/subscriptions")],
        }
        paths = [path for route in ROUTES if route.method == "GET" for path in _filled(route.path, ids)]
        paths += [f"{path}?include=body" for path in paths if re.fullmatch(r"/v1/deliveries/[^/?]+", path)]
        said = {f"GET {path}": self.http("GET", path) for path in paths}
        said |= {f"POST #{number}": self.http("POST", "/v1/jobs", body) for number, body in enumerate(self.refused())}
        said |= {"GET by a stranger": self.http("GET", "/v1/jobs", token=f"{MARK}-wrong-token")}
        said |= {f"POST {name}/test": self.http("POST", f"/v1/connections/{name}/test") for name in CONNECTIONS}
        return {where: answer.whole for where, answer in said.items()}

    def commands(self) -> Said:
        """What the command line tells."""
        job = self.items("/v1/jobs?metadata.of=failing")[0]["jobId"]
        lost = self.items("/v1/deliveries?undelivered=true")[0]["id"]
        lines = (
            "check --json", f"jobs show {job}", f"deliveries show {lost} --json", "dead-letters list --json",
            "dead-letters list", "subscriptions list --json", "connections list --json", "topology print",
            "topology check", "secrets reencrypt --dry-run",
        )  # fmt: skip
        return {f"relay {line}": self.command(*line.split()) for line in lines}

    def messages(self) -> Said:
        """Every event; and what relay adds to a dead letter, which is otherwise as it came."""
        said: Said = {}
        with connect(self.amqp_url) as connection:
            channel = connection.channel()
            for queue in (self.names["eventsQueue"], self.names["deadLettersQueue"]):
                method, properties, body = channel.basic_get(queue)
                while method is not None:
                    headers = {name: value for name, value in (properties.headers or {}).items() if name != "x-key"}
                    whole = repr(headers).encode() + (body if queue == self.names["eventsQueue"] else b"")
                    said[f"{queue} {method.delivery_tag}"] = whole
                    method, properties, body = channel.basic_get(queue)
        return said

    def made_for_vendors(self) -> set[str]:
        """The secrets that relay made: what its callbacks' addresses end with, and what signs them."""
        groups = [*self.surroundings.vendor.job_groups.values(), *self.cloud.job_groups.values()]
        own = [hook for group in groups for hook in group.webhooks if f":{self.port}/" in str(hook["url"])]
        return {str(hook["url"]).rpartition(".")[2] for hook in own} | {str(hook["secretKey"]) for hook in own}

    def stored(self) -> Said:
        """What somebody reads who reads the database itself."""
        if self.database_url.startswith("postgresql"):
            return asyncio.run(_rows(self.database_url))
        files = (self.folder / f"relay.db{tail}" for tail in ("", "-wal", "-shm", ".lock"))
        return {file.name: file.read_bytes() for file in files}

    def sent_headers(self) -> list[bytes]:
        """The headers that receivers were sent."""
        return [repr(dict(each.headers)).encode() for each in self.notebook.history().seen]

    def given_by_vendors(self) -> set[str]:
        """The tokens that relay got in return for others."""
        return {*self.cloud._access_tokens, str(self.cloud.refresh_token)}

    def heard(self) -> Said:
        """What receivers were sent as bodies."""
        seen = enumerate(self.notebook.history().seen)
        return {f"body {number} at {each.target}": each.body for number, each in seen}


CONNECTIONS = ("tri", "wrong", "basic", "oauth", "proxied")


def _filled(path: str, ids: Mapping[str, Sequence[str]]) -> list[str]:
    """The path for each thing that it may name."""
    head, brace, rest = path.partition("{")
    return [f"{head}{each}{rest.rpartition('}')[2]}" for each in ids[head]] if brace else [path]


async def _rows(url: str) -> Said:
    """All that somebody can read who reads the PostgreSQL database."""
    db = await asyncpg.connect(url)
    try:
        tables = [row[0] for row in await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return {
            f"table {table}": "\n".join(row[0] for row in await db.fetch(f"SELECT t::text FROM {table} AS t")).encode()
            for table in tables
        }
    finally:
        await db.close()


def found_in(said: Said, secrets: Sequence[bytes]) -> list[str]:
    """Where a secret stands, and which."""
    return [f"{where}: {secret!r}" for where, text in said.items() for secret in secrets if secret in text]


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, amqp_url: str, tmp_path: Path) -> Iterator[House]:
    """A relay that has seen everything, and is at rest."""
    url = f"sqlite:///{tmp_path}/relay.db"
    if request.param == "postgres":
        url = str(URL(request.getfixturevalue("empty_postgres_url")).with_password(f"{MARK}-database-password"))
    notebook = Notebook()
    cloud = TrifactaSimulator(duration=0.2, refresh_token=f"{MARK}-refresh-token")
    with Surroundings(notebook) as surroundings, Loop() as loop:
        loop.do(cloud.start())
        surroundings.vendor.fates["2"] = Fate(outcome="Failed")
        echo = f"Cannot POST {{path}}/{MARK}-path?key={MARK}-query: Bearer {MARK}-{{header}}, key {MARK}-query, {{key}}"
        for path, header, key in (("/echo", "header", KEY), ("/standing", "standing-header", STANDING)):
            body = echo.format(path=path, header=header, key=key).encode()
            surroundings.receiver.plan[f"{path}/{MARK}-path"] = [Reply(status=400, body=body)]
        house = House(
            folder=tmp_path,
            amqp_url=amqp_url,
            database_url=url,
            surroundings=surroundings,
            notebook=notebook,
            cloud=cloud,
        )
        try:
            house.begin()
            house.busy()
            yield house
        finally:
            house.remove()
            loop.do(cloud.stop())


def test_secrets_come_out_nowhere(house: House) -> None:
    """In no log line, event, answer, metric, document, dead letter, command or byte of the database is any of them."""
    secrets = sorted({form for secret in [*SECRETS, *house.ring.split(",")] for form in forms(secret)})
    secrets += [basic(user, password) for user, password in USERS.items()]
    made = sorted(secret.encode() for secret in (*house.made_for_vendors(), *house.given_by_vendors()))
    states = {each["state"] for each in house.items("/v1/deliveries?limit=200")}
    said = {**house.answers(), **house.commands(), **house.messages(), **house.heard()}
    stored = house.stored()
    house.relay.tell(signal.SIGTERM)
    code = house.relay.wait()
    said |= {"log": house.log.read_bytes()}
    misplaced = found_in({**said, **stored}, [MISPLACED.encode()])

    assert {"delivered", "exhausted", "blocked"} == states
    assert code == 0
    assert len(made) >= 4
    assert house.cloud.job_groups, "tokens were exchanged"
    assert b'"vendor.request"' in said["log"], "the log is at debug level"
    assert any(MARK.encode() in body for body in house.sent_headers()), "secrets went where they were meant to go"
    assert [] == found_in({**said, **stored}, secrets)
    assert [] == found_in({**said, **stored}, made)
    assert [] == [where for where in misplaced if not where.startswith("relay dead-letters list")]


def test_a_broker_that_refuses_relay_is_told_without_its_password(amqp_url: str, tmp_path: Path) -> None:
    """Whoever reads why relay did not start learns the broker and what it said, and no password."""
    wrong = URL(amqp_url).with_user("relay").with_password(f"{MARK}-broker-password")
    config = tmp_path / "relay.yaml"
    config.write_text(json.dumps({"amqp": {"url": str(wrong)}, "database": {"url": f"sqlite:///{tmp_path}/relay.db"}}))
    relay = started(relay_serve(config), tmp_path / "relay.log")
    code, log = relay.wait(), (tmp_path / "relay.log").read_bytes()

    assert (1, True) == (code, b"refuses relay" in log)
    assert [] == found_in({"log": log}, sorted(forms(f"{MARK}-broker-password")))
