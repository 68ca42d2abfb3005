"""`relay dead-letters`: requests that were refused."""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from relay.cli import output
from relay.cli.client import AsJson
from relay.cli.configured import Config, broker_of, nodes_of, run, settings_of

if TYPE_CHECKING:
    from relay.edges.amqp.deadletters import Buried, DeadLetterFilter, DeadLetters

app = typer.Typer(help="Requests that were refused.", no_args_is_help=True, rich_markup_mode=None)

Reason = Annotated[str | None, typer.Option(help="Only this reason, such as invalid_request or delivery_limit.")]
Since = Annotated[str | None, typer.Option(help="Refused since a time, or so long ago: 2h, 30m, 7d.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many, oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]
Act: TypeAlias = "Callable[[DeadLetters, DeadLetterFilter], Awaitable[Sequence[Buried]]]"


@app.command("list")
def index(
    config: Config = None, reason: Reason = None, since: Since = None, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """List dead letters; they stay where they are."""
    _tell(_done(config, reason, since, lambda letters, which: letters.list(which, limit)), as_json)


@app.command()
def requeue(
    config: Config = None,
    reason: Reason = None,
    since: Since = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters to relay again, as they first came."""
    done = _done(config, reason, since, lambda letters, which: letters.requeue(which, limit, dry_run=dry_run))
    _tell(done, as_json, "would be sent again" if dry_run else "sent again")


@app.command()
def purge(
    config: Config = None,
    reason: Reason = None,
    since: Since = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Throw dead letters away for good."""
    done = _done(config, reason, since, lambda letters, which: letters.purge(which, limit, dry_run=dry_run))
    _tell(done, as_json, "would be thrown away" if dry_run else "thrown away")


def _done(config: Path | None, reason: str | None, since: str | None, act: Act) -> Sequence["Buried"]:
    from relay.app import tls_context, topology_of
    from relay.core.job import ulid
    from relay.edges.amqp.deadletters import DeadLetterFilter, DeadLetters

    amqp = broker_of(settings_of(config))
    moment = output.moment(since, "--since")
    which = DeadLetterFilter(reason=reason, since=datetime.fromisoformat(moment).timestamp() if moment else None)
    letters = DeadLetters(
        nodes_of(amqp),
        topology_of(amqp),
        new_id=lambda: ulid(time.time(), secrets.token_bytes(10)),
        tls=tls_context(amqp),
    )

    async def work() -> Sequence["Buried"]:
        return await act(letters, which)

    return run(work())


def _tell(found: Sequence["Buried"], as_json: bool, done: str | None = None) -> None:
    if as_json:
        output.print_json([_wire(letter) for letter in found])
        return
    heads = ("reason", "refused", "routing key", "message id", "bytes", "errors", "body")
    output.table(heads, map(_line, found), "no dead letters")
    if done is not None and found:
        typer.echo(f"\n{len(found)} {done}")


def _wire(letter: "Buried") -> dict[str, object]:
    return {
        "reason": letter.reason,
        "at": None if letter.at is None else datetime.fromtimestamp(letter.at, UTC).isoformat().replace("+00:00", "Z"),
        "errors": [dict(error) for error in letter.errors],
        "routingKey": letter.routing_key,
        "messageId": letter.message_id,
        "correlationId": letter.correlation_id,
        "replyTo": letter.reply_to,
        "size": letter.size,
        "excerpt": letter.excerpt,
    }


def _line(letter: "Buried") -> tuple[str | None, ...]:
    errors = (f"{error.get('path', '')}: {error.get('message', '')}".removeprefix(": ") for error in letter.errors)
    return (
        letter.reason,
        f"{output.span(max(0.0, time.time() - letter.at))} ago" if letter.at is not None else None,
        letter.routing_key,
        letter.message_id,
        str(letter.size),
        "; ".join(errors),
        letter.excerpt[:80],
    )
