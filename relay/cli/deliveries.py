"""`relay deliveries`: who was told, and who could not be."""

import json
from typing import Annotated, Any

import typer

from relay.cli import live, output
from relay.cli.client import (
    HOME,
    AsJson,
    Client,
    Limit,
    Row,
    Server,
    Since,
    Token,
    Until,
    job_named,
    segment,
    subscription_named,
)

app = typer.Typer(help="Who was told how jobs ended.", no_args_is_help=True, rich_markup_mode=None)

Named = Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")]
Undelivered = Annotated[bool, typer.Option("--undelivered", help="Every state but delivered.")]
OfState = Annotated[str | None, typer.Option(help="pending, delivered, exhausted, blocked or disabled.")]
Job = Annotated[str | None, typer.Option(help="A job's id, or its request id.")]
Subscription = Annotated[str | None, typer.Option(help="A subscription's id, or its name.")]
Target = Annotated[str | None, typer.Option(help="As the list shows it: a URL's host and port, or a queue's name.")]
Event = Annotated[str | None, typer.Option(help="onJobSuccess or onJobFailure.")]


@app.command("list")
def index(
    state: OfState = None,
    undelivered: Undelivered = False,
    job: Job = None,
    subscription: Subscription = None,
    target: Target = None,
    event: Event = None,
    connection: str | None = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """List deliveries, newest first."""
    client = Client(server, token)
    chosen = _chosen(client, state, undelivered, job, subscription, target, event, connection, since, until)
    found = list(client.rows("/v1/deliveries", limit, **chosen))
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
    found = Client(server, token).get(f"/v1/deliveries/{segment(delivery)}", include="body" if body else None)
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
            ("waiting for", found["waitingFor"]),
            ("subscription", found["subscription"]),
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
def watch(
    state: OfState = None,
    undelivered: Undelivered = False,
    job: Job = None,
    subscription: Subscription = None,
    target: Target = None,
    event: Event = None,
    connection: str | None = None,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Follow deliveries as they change.

    They are made, tried, ended and sent again: a line for each change, or for several that come close together.
    Each line: when, delivery, job, event, target, state, attempts, why; with --json the delivery as listed.
    """
    client = Client(server, token)
    chosen = _chosen(client, state, undelivered, job, subscription, target, event, connection, None, None)
    live.watch(live.deliveries(client, **chosen), _change, as_json=as_json)


@app.command()
def redeliver(
    delivery: Annotated[str | None, typer.Argument(metavar="DELIVERY", help="One by its id; else filter.")] = None,
    state: OfState = None,
    undelivered: Undelivered = False,
    job: Job = None,
    subscription: Subscription = None,
    target: Target = None,
    event: Event = None,
    connection: str | None = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be sent.")] = False,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Send again what has ended, one or by filter.

    The same event ids and bytes, signed anew. Each target gets them at its own pace. Those that arrived are meant only
    with `--state delivered`. Those of a subscription that is disabled end as such again: resume it first.
    """
    client = Client(server, token)
    chosen = _chosen(client, state, undelivered, job, subscription, target, event, connection, since, until)
    if (delivery is None) == (not chosen) or (delivery is not None and dry_run):
        raise typer.BadParameter("name one DELIVERY, or filter: --undelivered for all, --dry-run to look first")
    if delivery is not None:
        found = client.post(f"/v1/deliveries/{segment(delivery)}/redeliver")
        told = f"{found['id']} {found['state']}"
    else:
        found = client.post("/v1/deliveries/redeliver", json.dumps({"filter": chosen, "dryRun": dry_run}).encode())
        told = f"{found['count']} would be sent again" if dry_run else f"{found['count']} are sent again"
        told = "\n".join([told, *found["first"], *(["…"] if found["count"] > len(found["first"]) else [])])
    if as_json:
        output.print_json(found)
    else:
        typer.echo(told)


def _chosen(
    client: Client,
    state: str | None,
    undelivered: bool,
    job: str | None,
    subscription: str | None,
    target: str | None,
    event: str | None,
    connection: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, Any]:
    """The filter as relay takes it."""
    given = {
        "state": state,
        "undelivered": "true" if undelivered else None,
        "jobId": job and (job if job.startswith("job_") else job_named(client, job)["jobId"]),
        "subscription": subscription
        and (subscription if subscription.startswith("sub_") else subscription_named(client, subscription)["id"]),
        "target": target,
        "event": event,
        "connection": connection,
        "since": output.moment(since, "--since"),
        "until": output.moment(until, "--until"),
    }
    return {name: value for name, value in given.items() if value is not None}


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
        row["reason"] or row["waitingFor"],
    )


def _change(_: str, data: str) -> tuple[Any, ...]:
    row = json.loads(data)
    return (
        row["finishedAt"] or output.now(),
        row["id"],
        row["jobId"],
        row["event"],
        output.target(row),
        row["state"],
        str(row["attemptCount"]),
        row["reason"] or row["waitingFor"],
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
