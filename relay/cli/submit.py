"""`relay submit`: ask for a job."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.cli import output
from relay.cli.client import HOME, AsJson, Client, Failed, Server, Token
from relay.cli.jobs import finish

WAIT = 30


def submit(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="A request as JSON; - for standard input.")] = None,
    connection: Annotated[str | None, typer.Option(help="The connection to ask.")] = None,
    operation: Annotated[str | None, typer.Option(help="What to do there; without it: run.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Dots nest: wrangledDataset.id=7. A value that is JSON is taken as such: a text of digits is '\"7\"'.",
        ),
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="The request's id: the same one is not run twice.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; exit code 1 unless it succeeded.")] = False,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Ask for a job. By a file or by options; options are laid over the file."""
    given = {"connection": connection, "operation": operation, "requestId": request_id}
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if parameters := _nested(parameter or []):
        wanted["parameters"] = parameters
    if file is None and connection is None:
        raise typer.BadParameter("name a FILE, or a --connection")
    body = _body(file, wanted)
    client = Client(server, token)
    asked = client.post("/v1/jobs", body, {"Prefer": f"wait={WAIT}"} if wait else None)
    finish(client, asked, wait=wait, as_json=as_json)


def _body(file: str | None, wanted: dict[str, Any]) -> bytes:
    if file is None:
        return json.dumps(wanted).encode()
    body = _read(file)
    if not wanted:
        return body
    try:
        request = json.loads(body)
    except ValueError as error:
        raise Failed(f"{file} is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise Failed(f"{file} is no request: that is a JSON object")
    if more := wanted.pop("parameters", None):
        given = request.get("parameters", {})
        if not isinstance(given, dict):
            raise Failed(f"{file}: its parameters are no JSON object, and --parameter adds to them")
        request["parameters"] = {**given, **more}
    return json.dumps({**request, **wanted}).encode()


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from error


def _nested(given: list[str]) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for key, text in output.pairs_of(given, "--parameter").items():
        *outer, last = key.split(".")
        here = nested
        for part in outer:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise typer.BadParameter(f"{key!r} goes into what another one has set", param_hint="--parameter")
        here[last] = _value(text)
    return nested


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
