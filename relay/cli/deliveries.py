"""`relay deliveries`: who was told, and who could not be."""

from typing import Annotated

import typer

from relay.cli import output
from relay.cli.client import HOME, AsJson, Client, Limit, Row, Server, Token

app = typer.Typer(help="Who was told how jobs ended.", no_args_is_help=True, rich_markup_mode=None)

Named = Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")]


@app.command("list")
def index(
    state: str | None = None,
    undelivered: Annotated[bool, typer.Option("--undelivered", help="Every state but delivered.")] = False,
    job: Annotated[str | None, typer.Option(help="A job's id.")] = None,
    target: Annotated[str | None, typer.Option(help="A URL's host, or a queue's name.")] = None,
    event: Annotated[str | None, typer.Option(help="onJobSuccess or onJobFailure.")] = None,
    connection: str | None = None,
    since: Annotated[str | None, typer.Option(help="A time, or how long ago: 2h, 30m, 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="A time, or how long ago.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """List deliveries, newest first."""
    found = list(
        Client(server, token).rows(
            "/v1/deliveries",
            limit,
            state=state,
            undelivered="true" if undelivered else None,
            jobId=job,
            target=target,
            event=event,
            connection=connection,
            since=output.moment(since, "--since"),
            until=output.moment(until, "--until"),
        )
    )
    if as_json:
        output.print_json(found)
        return
    heads = ("id", "job", "event", "target", "state", "attempts", "created", "next attempt", "why")
    output.table(heads, map(_line, found), "no deliveries")


@app.command()
def show(
    delivery: Named,
    body: Annotated[bool, typer.Option("--body", help="With the event itself.")] = False,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """One delivery with its attempts."""
    found = Client(server, token).get(f"/v1/deliveries/{delivery}", include="body" if body else None)
    if as_json:
        output.print_json(found)
        return
    output.fields(
        [
            ("delivery", found["id"]),
            ("job", found["jobId"]),
            ("event", f"{found['event']} {found['eventId']}"),
            ("target", f"{found['kind']} {output.target(found)}"),
            ("state", found["state"]),
            ("reason", found["reason"]),
            ("created", f"{found['createdAt']} ({output.ago(found['createdAt'])})"),
            ("next attempt", output.due(found["nextAttemptAt"])),
            ("finished", found["finishedAt"] and f"{found['finishedAt']} ({output.ago(found['finishedAt'])})"),
        ]
    )
    output.heading("Attempts")
    output.table(("", "at", "took", "outcome", "status", "error", "answer"), map(_attempt, found["attempts"]))
    if body:
        output.heading("Event")
        output.print_json(found["body"])


@app.command()
def redeliver(delivery: Named, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Send an ended delivery again: the same event id and bytes."""
    found = Client(server, token).post(f"/v1/deliveries/{delivery}/redeliver")
    if as_json:
        output.print_json(found)
    else:
        typer.echo(f"{found['id']} {found['state']}")


def _line(row: Row) -> tuple[str | None, ...]:
    return (
        row["id"],
        row["jobId"],
        row["event"],
        output.target(row),
        row["state"],
        str(row["attemptCount"]),
        output.ago(row["createdAt"]),
        output.due(row["nextAttemptAt"]),
        row["reason"],
    )


def _attempt(row: Row) -> tuple[str | None, ...]:
    return (
        str(row["number"]),
        row["at"],
        output.span(row["duration"]),
        row["outcome"],
        str(row["status"] or ""),
        row["error"],
        row["excerpt"],
    )
