"""Talks HTTP to a running relay."""

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeAlias
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import typer

from relay import __version__

Row: TypeAlias = dict[str, Any]

Server = Annotated[
    str, typer.Option("--server", envvar="RELAY_SERVER", help="URL of the relay to talk to.", show_default=True)
]
Token = Annotated[
    str | None, typer.Option("--token", envvar="RELAY_TOKEN", help="API token.", show_envvar=True, show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, newest first.")]
Since = Annotated[str | None, typer.Option(help="A time, or how long ago: 2h, 30m, 7d.")]
Until = Annotated[str | None, typer.Option(help="A time, or how long ago.")]

HOME = "http://127.0.0.1:8080"
TIMEOUT = 90.0
"""Seconds for one answer: longer than relay lets a request wait for its job's end."""
SILENCE = 60.0
"""Seconds after which a stream that says nothing is lost: relay says something every 15."""
PAGE = 200
ALL = sys.maxsize
"""As a limit: every row."""


class Failed(Exception):
    """It did not work; the text says why, for whoever typed the command."""


class Refused(Failed):
    """relay answered with a problem."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """One relay."""

    def __init__(self, server: str, token: str | None) -> None:
        parts = _url(server)
        self._server = server.rstrip("/")
        self._secure = parts.scheme == "https"
        self._place = (parts.hostname or "", parts.port)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"User-Agent": f"relay/{__version__}", "Accept": "application/json"}
        if token:
            if not token.isascii() or not token.isprintable() or " " in token:
                message = "a token is ASCII without spaces: see that no line break has come along with it"
                raise typer.BadParameter(message, param_hint="--token")
            self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path; parameters that are None are left out."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self.ask("GET", f"{path}?{urlencode(wanted)}" if wanted else path)

    def post(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON that answers a POST."""
        kind = {"Content-Type": "application/json"} if body is not None else {}
        return self.ask("POST", path, body, {**kind, **(headers or {})})

    def rows(self, path: str, limit: int, **query: Any) -> Iterator[Row]:
        """A listing's rows, page after page."""
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, **query, limit=min(limit, PAGE), cursor=cursor)
            yield from page["items"]
            limit -= len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """One request. Raises Failed where nothing answers, Refused for a problem."""
        with self._answer(method, path, body, headers or {}, TIMEOUT) as answer:
            return _read(self._server, answer.status, answer.read())

    def lines(self, path: str, headers: Mapping[str, str]) -> Iterator[str]:
        """The lines of a text at a path, as they come. Raises as `ask` does, also where they break off."""
        with self._answer("GET", path, None, headers, SILENCE) as answer:
            if answer.status != 200:
                _read(self._server, answer.status, answer.read())
            for line in answer:
                yield line.decode().rstrip("\r\n")

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(*self._place, timeout=timeout)
        try:
            connection.request(method, self._prefix + path, body, {**self._headers, **headers})
            yield connection.getresponse()
        except TimeoutError as error:
            raise Failed(
                f"{self._server} gives no answer within {timeout:g} s: what was asked for may still be done, so look "
                "before asking again"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            why = f"{error}" or type(error).__name__
            raise Failed(
                f"no relay answers at {self._server} ({why}): start one with `relay serve`, or name another by --server"
            ) from error
        finally:
            connection.close()


def _url(server: str) -> SplitResult:
    try:
        parts = urlsplit(server)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise typer.BadParameter(f"{server!r} is no URL such as {HOME}", param_hint="--server")


def _read(server: str, status: int, body: bytes) -> Any:
    if status == 204:
        return None
    try:
        told = json.loads(body)
    except ValueError as error:
        raise Failed(f"{server} answered {status} with what is not JSON: is it a relay?") from error
    if status >= 400:
        raise Refused(status, _problem(status, told))
    return told


def _problem(status: int, told: Any) -> str:
    """A problem as lines: each error with its place, else the detail."""
    if not isinstance(told, dict):
        return f"answered {status}"
    errors = [error for error in told.get("errors", ()) if error.get("path")]
    lines = [f"{error['path']}: {error['message']}" for error in errors] or [str(told.get("detail", ""))]
    return "\n".join(f"{told.get('code', status)}: {line}" for line in lines)


def job_named(client: Client, name: str) -> Row:
    """The job of this id, or of this request id."""
    try:
        job: Row = client.get(f"/v1/jobs/{segment(name)}")
    except Refused as refused:
        if refused.status != 404:
            raise
        found = client.get("/v1/jobs", requestId=name, limit=1)["items"]
        if not found:
            raise Failed(f"there is no job with the id or request id {name!r}") from refused
        job = client.get(f"/v1/jobs/{found[0]['jobId']}")
    return job


def subscription_named(client: Client, name: str) -> Row:
    """The subscription of this id, or of this name."""
    try:
        one: Row = client.get(f"/v1/subscriptions/{segment(name)}")
    except Refused as refused:
        if refused.status != 404:
            raise
        named = [row for row in client.rows("/v1/subscriptions", ALL) if row["name"] == name]
        if not named:
            raise Failed(f"there is no subscription with the id or name {name!r}") from refused
        return named[0]
    return one


def segment(name: str) -> str:
    """The name as one segment of a path."""
    return quote(name, safe="")
