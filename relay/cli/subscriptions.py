"""`relay subscriptions`: standing targets, told of every job that matches."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.cli import output
from relay.cli.client import HOME, AsJson, Client, Failed, Limit, Row, Server, Token, subscription_named

app = typer.Typer(help="Standing targets for the events of many jobs.", no_args_is_help=True, rich_markup_mode=None)

Named = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The subscription's id, or its name.")]
Event = Annotated[str | None, typer.Option("--event", help="onJobSuccess, onJobFailure or onJobDone.")]
Connections = Annotated[list[str] | None, typer.Option("--connection", help="Only jobs at this one; several are fine.")]
Operations = Annotated[list[str] | None, typer.Option("--operation", help="Only jobs of this kind; several are fine.")]
Metadata = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only jobs with this metadata.")]
Headers = Annotated[list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Sent along.")]
Body = Annotated[str | None, typer.Option(help="What is sent, with tokens: JSON or text. Without it the whole event.")]
Method = Annotated[str | None, typer.Option(help="POST, PUT, PATCH, GET or DELETE.")]
Signature = Annotated[str | None, typer.Option(help="standard, timestamped or body.")]
SignatureHeader = Annotated[str | None, typer.Option(help="Where the signature stands, unless it is standard.")]
Schedule = Annotated[str | None, typer.Option(metavar="SECONDS,…", help="Delays before each attempt: 0,5,30.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds for one attempt.")]
RetryOn = Annotated[str | None, typer.Option(help="any or transient.")]
Insecure = Annotated[bool | None, typer.Option("--insecure/--secure", help="Do not check its certificate.")]
File = Annotated[
    Path | None,
    typer.Option("--file", help="The definition as JSON; options are laid over it.", exists=True, dir_okay=False),
]


@app.command("list")
def index(limit: Limit = 200, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """List subscriptions by name, and how each fares."""
    found = list(Client(server, token).rows("/v1/subscriptions", limit))
    if as_json:
        output.print_json(found)
        return
    output.table(("id", "name", "URL", "event", "state", "undelivered", "why"), map(_line, found), "no subscriptions")


@app.command()
def show(subscription: Named, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """One subscription, and how it fares."""
    _tell(subscription_named(Client(server, token), subscription), as_json)


@app.command()
def create(
    name: str,
    url: Annotated[str | None, typer.Argument(help="Where to; not needed where --file says it.")] = None,
    event: Event = None,
    connection: Connections = None,
    operation: Operations = None,
    metadata: Metadata = None,
    header: Headers = None,
    body: Body = None,
    method: Method = None,
    signature: Signature = None,
    signature_header: SignatureHeader = None,
    schedule: Schedule = None,
    timeout: Timeout = None,
    retry_on: RetryOn = None,
    insecure: Insecure = None,
    file: File = None,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Make one. Its signing secret is shown now, and never again."""
    given = {"name": name, "url": url, "triggerEvent": event, "connections": connection, "operations": operation}
    given |= _how(metadata, header, body, method, signature, signature_header, schedule, timeout, retry_on, insecure)
    made = Client(server, token).post("/v1/subscriptions", _wire(file, given))
    _tell(made, as_json)


@app.command()
def update(
    subscription: Named,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    url: Annotated[str | None, typer.Option(help="Another URL.")] = None,
    event: Event = None,
    connection: Connections = None,
    operation: Operations = None,
    metadata: Metadata = None,
    header: Headers = None,
    body: Body = None,
    method: Method = None,
    signature: Signature = None,
    signature_header: SignatureHeader = None,
    schedule: Schedule = None,
    timeout: Timeout = None,
    retry_on: RetryOn = None,
    insecure: Insecure = None,
    reset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Set back, by its name in JSON: connections.")
    ] = None,
    file: File = None,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Change what is given. Headers are added to those that it has."""
    given = {"name": name, "url": url, "triggerEvent": event, "connections": connection, "operations": operation}
    given |= _how(metadata, header, body, method, signature, signature_header, schedule, timeout, retry_on, insecure)
    client = Client(server, token)
    path = f"/v1/subscriptions/{subscription_named(client, subscription)['id']}"
    patch = _wire(file, given, dict.fromkeys(reset or ()))
    _tell(client.ask("PATCH", path, patch, {"Content-Type": "application/json"}), as_json)


@app.command()
def delete(subscription: Named, server: Server = HOME, token: Token = None) -> None:
    """Delete one; what waits for it ends as disabled."""
    client = Client(server, token)
    found = subscription_named(client, subscription)
    client.ask("DELETE", f"/v1/subscriptions/{found['id']}")
    typer.echo(f"{found['id']} deleted")


@app.command("test")
def try_out(subscription: Named, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Send a test event, once. Exit code 1 unless it arrived."""
    client = Client(server, token)
    came = client.post(f"/v1/subscriptions/{subscription_named(client, subscription)['id']}/test")
    if as_json:
        output.print_json(came)
    else:
        output.fields(
            [
                ("outcome", came["outcome"]),
                ("status", came["status"]),
                ("error", came["error"]),
                ("took", output.span(came["duration"])),
                ("answer", came["excerpt"]),
            ]
        )
    if not came["delivered"]:
        raise typer.Exit(1)


@app.command()
def pause(subscription: Named, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Let its deliveries wait."""
    _acted(subscription, "pause", as_json, Client(server, token))


@app.command()
def resume(subscription: Named, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Let its deliveries go again.

    One first, then the others; also after a 410 has disabled it. What ended as disabled goes by `relay deliveries
    redeliver --state disabled`.
    """
    _acted(subscription, "resume", as_json, Client(server, token))


@app.command("rotate-secret")
def rotate_secret(
    subscription: Named,
    grace: Annotated[
        float,
        typer.Option("--grace-seconds", min=0, help="For so long the old one signs as well (standard)."),
    ] = 86400.0,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Make a new signing secret.

    It is shown now, and never again. With `signature: standard` the old one signs as well for a time; the other kinds
    are signed by the new one alone, at once.
    """
    client = Client(server, token)
    path = f"/v1/subscriptions/{subscription_named(client, subscription)['id']}/rotate-secret"
    _tell(client.post(path, json.dumps({"graceSeconds": grace}).encode()), as_json)


def _acted(subscription: str, act: str, as_json: bool, client: Client) -> None:
    done = client.post(f"/v1/subscriptions/{subscription_named(client, subscription)['id']}/{act}")
    if as_json:
        output.print_json(done)
    else:
        typer.echo(f"{done['id']} {done['state']}")


def _how(
    metadata: list[str] | None,
    headers: list[str] | None,
    body: str | None,
    method: str | None,
    signature: str | None,
    signature_header: str | None,
    schedule: str | None,
    timeout: float | None,
    retry_on: str | None,
    insecure: bool | None,
) -> dict[str, Any]:
    """The options as a definition has them."""
    return {
        "metadata": {key: _value(text) for key, text in output.pairs_of(metadata or [], "--metadata").items()} or None,
        "headers": output.pairs_of(headers or [], "--header") or None,
        "body": None if body is None else _template(body),
        "method": method,
        "signature": signature,
        "signatureHeader": signature_header,
        "schedule": None if schedule is None else _delays(schedule),
        "timeout": timeout,
        "retryOn": retry_on,
        "sslVerification": None if insecure is None else not insecure,
    }


def _wire(file: Path | None, given: dict[str, Any], reset: dict[str, None] | None = None) -> bytes:
    try:
        definition = json.loads(file.read_bytes()) if file is not None else {}
    except ValueError as error:
        raise Failed(f"{file} is not JSON: {error}") from error
    if not isinstance(definition, dict):
        raise Failed(f"{file} is no definition: that is a JSON object")
    wanted = {name: value for name, value in given.items() if value is not None}
    return json.dumps({**definition, **wanted, **(reset or {})}).encode()


def _value(text: str) -> Any:
    """A value that is JSON is taken as such."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _template(text: str) -> Any:
    """An object as such; whatever else is text."""
    value = _value(text)
    return value if isinstance(value, dict) else text


def _delays(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of seconds such as 0,5,30", param_hint="--schedule") from None


def _tell(one: Row, as_json: bool) -> None:
    if as_json:
        output.print_json(one)
        return
    shown = one["secret"] not in (None, "***")
    signs_too = one["oldSecretsUntil"] and one["signature"] == "standard"
    output.fields(
        [
            ("subscription", one["id"]),
            ("name", one["name"]),
            ("state", one["state"]),
            ("reason", one["reason"]),
            ("secret", f"{one['secret']} (keep it: it is not shown again)" if shown else one["secret"]),
            ("old secret", signs_too and f"signs until {one['oldSecretsUntil']}"),
            ("target", f"{one['method']} {one['url']}"),
            ("event", one["triggerEvent"]),
            ("connections", " ".join(one["connections"])),
            ("operations", " ".join(one["operations"])),
            ("metadata", one["metadata"]),
            ("headers", " ".join(one["headers"])),
            ("body", one["body"]),
            ("signature", one["signature"]),
            ("schedule", " ".join(f"{delay:g}" for delay in one["schedule"])),
            ("undelivered", one["undelivered"] or None),
            ("failures", one["failures"] or None),
            ("failing since", one["failingSince"] and f"{one['failingSince']} ({output.ago(one['failingSince'])})"),
            ("last error", one["lastError"]),
            ("configured", "in the settings" if one["configured"] else None),
            ("last act", one["lastAct"]),
            ("created", f"{one['createdAt']} ({output.ago(one['createdAt'])})"),
        ]
    )


def _line(row: Row) -> tuple[str | None, ...]:
    return (
        row["id"],
        row["name"],
        row["url"],
        row["triggerEvent"],
        row["state"],
        str(row["undelivered"] or ""),
        row["reason"] or row["lastError"],
    )
