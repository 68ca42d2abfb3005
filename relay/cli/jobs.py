"""`relay jobs`: what became of requests."""

import json
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from relay.cli import live, output
from relay.cli.client import HOME, AsJson, Client, Failed, Limit, Row, Server, Since, Token, Until, job_named

app = typer.Typer(help="What became of requests.", no_args_is_help=True, rich_markup_mode=None)

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
Named = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its request id.")]
Chosen = Annotated[str | None, typer.Argument(metavar="JOB", help="The job's id, or its request id; else filter.")]
OfState = Annotated[
    str | None,
    typer.Option(help="accepted, submitting, uncertain, running, succeeded, failed, canceled or expired."),
]
Operation = Annotated[str | None, typer.Option(help="Such as run; `relay vendors list` has all.")]
ErrorCode = Annotated[str | None, typer.Option(help="Such as job_failed or deadline_exceeded.")]
Metadata = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only jobs with this metadata.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell how many, and which.")]


@app.command("list")
def index(
    state: OfState = None,
    connection: str | None = None,
    vendor: str | None = None,
    operation: Operation = None,
    request_id: str | None = None,
    vendor_job_id: str | None = None,
    correlation_id: str | None = None,
    error_code: ErrorCode = None,
    metadata: Metadata = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """List jobs, newest first."""
    chosen = _chosen(state, connection, vendor, operation, error_code, metadata, since, until)
    tags = {f"metadata.{key}": value for key, value in chosen.pop("metadata", {}).items()}
    ids = {"requestId": request_id, "vendorJobId": vendor_job_id, "correlationId": correlation_id}
    found = list(Client(server, token).rows("/v1/jobs", limit, **chosen, **tags, **ids))
    if as_json:
        output.print_json(found)
        return
    heads = ("id", "request", "connection", "operation", "state", "vendor job", "accepted", "took", "why")
    output.table(heads, map(_line, found), "no jobs")


@app.command()
def show(job: Named, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Tell one job's whole story. What was asked, what happened, who was told; while it waits, for what."""
    client = Client(server, token)
    found = job_named(client, job)
    deliveries = list(client.rows("/v1/deliveries", 200, jobId=found["jobId"]))
    if as_json:
        output.print_json({**found, "deliveries": deliveries})
        return
    tell_story(found, deliveries)


@app.command()
def cancel(
    job: Chosen = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the vendor has taken or refused it.")] = False,
    state: OfState = None,
    connection: str | None = None,
    vendor: str | None = None,
    operation: Operation = None,
    metadata: Metadata = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Cancel a job, or all that a filter chooses. Each cancel is a job of its own."""
    chosen = _chosen(state, connection, vendor, operation, None, metadata, since, until)
    _act("cancel", Client(server, token), job, chosen, wait=wait, dry_run=dry_run, as_json=as_json)


@app.command()
def rerun(
    job: Chosen = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    state: OfState = None,
    connection: str | None = None,
    vendor: str | None = None,
    operation: Operation = None,
    error_code: ErrorCode = None,
    metadata: Metadata = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Run an ended job again, or all that a filter chooses. Each run is a job of its own, with the same parameters."""
    chosen = _chosen(state, connection, vendor, operation, error_code, metadata, since, until)
    _act("rerun", Client(server, token), job, chosen, wait=wait, dry_run=dry_run, as_json=as_json)


@app.command()
def watch(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="The job's id, or its request id; else all.")] = None,
    connection: str | None = None,
    operation: Operation = None,
    event: Annotated[str | None, typer.Option(help="onJobSuccess or onJobFailure.")] = None,
    metadata: Metadata = None,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """Follow a job to its end, or the ends of all.

    Exit code 1 unless the one job succeeded. Of all jobs each end is a line: when, job, request, connection, operation,
    status, why; with --json its event.
    """
    tags = output.pairs_of(metadata or [], "--metadata")
    wanted = {"connection": connection, "operation": operation, "event": event}
    client = Client(server, token)
    if job is None:
        wanted |= {f"metadata.{key}": value for key, value in tags.items()}
        live.watch(live.events(client, **wanted), live.told, as_json=as_json)
        return
    if tags or any(wanted.values()):
        raise typer.BadParameter("filters are for all jobs: leave JOB out, or the filters")
    found = job_named(client, job)
    for line in _news(client, found):
        if as_json:
            output.print_json_line(line)
        else:
            typer.echo(f"{line['at']}  {line['what']:<20} {output.plain(line['detail'])}")
    _exit_by(client.get(f"/v1/jobs/{found['jobId']}"))


def _act(act: str, client: Client, job: str | None, chosen: Row, *, wait: bool, dry_run: bool, as_json: bool) -> None:
    """Cancel or rerun one job, or those that a filter chooses."""
    if (job is None) == (not chosen) or (job is not None and dry_run) or (job is None and wait):
        raise typer.BadParameter("name one JOB (--wait goes with it), or filter (--dry-run goes with that)")
    if job is not None:
        asked: Row = client.post(f"/v1/jobs/{job_named(client, job)['jobId']}/{act}")
        finish(client, asked, wait=wait, as_json=as_json)
        return
    found = client.post(f"/v1/jobs/{act}", json.dumps({"filter": chosen, "dryRun": dry_run}).encode())
    if as_json:
        output.print_json(found)
        return
    would, done = {"cancel": ("canceled", "being canceled"), "rerun": ("run again", "run again")}[act]
    typer.echo(f"{found['count']} {f'would be {would}' if dry_run else f'are {done}'}")
    for job_id in found["first"]:
        typer.echo(job_id)
    if found["count"] > len(found["first"]):
        typer.echo("…")
    for each in found["refused"]:
        typer.echo(f"{each['jobId']} is not: {each['code']}: {output.plain(each['message'])}")


def _chosen(
    state: str | None,
    connection: str | None,
    vendor: str | None,
    operation: str | None,
    error_code: str | None,
    metadata: list[str] | None,
    since: str | None,
    until: str | None,
) -> Row:
    """The filter, without what was not given."""
    given = {
        "state": state,
        "connection": connection,
        "vendor": vendor,
        "operation": operation,
        "errorCode": error_code,
        "metadata": output.pairs_of(metadata or [], "--metadata") or None,
        "since": output.moment(since, "--since"),
        "until": output.moment(until, "--until"),
    }
    return {name: value for name, value in given.items() if value is not None}


def finish(client: Client, asked: Row, *, wait: bool, as_json: bool) -> None:
    """Tell of a job that was just asked for, after its end if that is waited for; the exit code says how it ended."""
    if not wait:
        if as_json:
            output.print_json(asked)
        else:
            typer.echo(f"{asked['jobId']} {asked['state']}")
        return
    job = until_ended(client, asked)
    if as_json:
        output.print_json(job)
    else:
        tell_story(job, [])
    _exit_by(job)


def until_ended(client: Client, job: Row) -> Row:
    """The job once it has ended."""
    retries, pause = live.Retries(begun=True), 0.1
    while job["state"] not in ENDED:
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0)
        job = _now(client, job, retries)
    return job


def _now(client: Client, job: Row, retries: live.Retries) -> Row:
    """The job as it is now, or as it was while no relay answers: it goes on without whoever waits for it."""
    try:
        job = client.get(f"/v1/jobs/{job['jobId']}")
        retries.found()
    except Failed as failed:
        retries.lost(failed)
    return job


def tell_story(job: Row, deliveries: list[Row]) -> None:
    """A job as one reads it: what, how it stands, why, what happened, who was told."""
    target = job["target"]
    output.fields(
        [
            ("job", job["jobId"]),
            ("request", job["requestId"]),
            ("asked", f"{job['operation']} at {job['connection'] or 'no connection'} ({job['vendor'] or 'unknown'})"),
            ("target", target and (target["jobId"] or f"the job of request {target['requestId']}")),
            ("state", f"{job['state']} with warnings" if job["warnings"] else job["state"]),
            ("waiting for", job["waitingFor"]),
            ("vendor job", ", ".join(job["vendorJobIds"])),
            ("vendor says", job["vendorStatus"]),
            ("accepted", f"{job['acceptedAt']} ({output.ago(job['acceptedAt'])})"),
            ("submitted", job["submittedAt"] and f"{job['submittedAt']} ({output.ago(job['submittedAt'])})"),
            ("finished", job["finishedAt"] and f"{job['finishedAt']} ({output.ago(job['finishedAt'])})"),
            ("took", output.between(job["acceptedAt"], job["finishedAt"])),
            ("deadline", None if job["finishedAt"] else f"{job['deadlineAt']} ({output.ago(job['deadlineAt'])})"),
            ("learned by", job["completedBy"]),
            ("error", job["error"] and f"{job['error']['code']}: {job['error']['message']}"),
            ("vendor cancel", job["vendorCancel"]),
            ("metadata", job["metadata"]),
            ("parameters", job["parameters"]),
            ("result", _excerpt(job)),
        ]
    )
    output.heading("History")
    output.table(
        ("at", "what", "state", "detail"),
        ((line["at"], line["what"], line["state"], line["detail"]) for line in job["history"]),
    )
    if deliveries:
        output.heading("Deliveries")
        output.table(("id", "target", "state", "attempts", "next attempt", "why"), map(_delivery, deliveries))


def _excerpt(job: Row) -> str:
    if job["resultTruncated"]:
        return f"too large to be shown here: GET /v1/jobs/{job['jobId']}/result"
    text = output.plain(job["result"])
    return text if len(text) <= 500 else f"{text[:500]}… (--json shows all of it)"


def _line(job: Row) -> tuple[str | None, ...]:
    error = job["error"]
    return (
        job["jobId"],
        job["requestId"],
        job["connection"],
        job["operation"],
        job["state"],
        job["vendorJobId"],
        output.ago(job["acceptedAt"]),
        output.between(job["acceptedAt"], job["finishedAt"]),
        f"{error['code']}: {error['message']}" if error else job["waitingFor"],
    )


def _delivery(row: Row) -> tuple[str | None, ...]:
    return (
        row["id"],
        output.target(row),
        row["state"],
        str(row["attemptCount"]),
        output.due(row["nextAttemptAt"]),
        row["reason"] or row["waitingFor"],
    )


def _news(client: Client, job: Row) -> Iterator[Row]:
    """The lines of a job's history, as they come."""
    told, retries = 0, live.Retries(begun=True)
    while True:
        yield from job["history"][told:]
        told = len(job["history"])
        if job["state"] in ENDED:
            return
        time.sleep(1.0)
        job = _now(client, job, retries)


def _exit_by(job: Row) -> None:
    if job["state"] != "succeeded":
        raise typer.Exit(1)
