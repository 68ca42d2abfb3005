"""`relay secrets`: what lies encrypted in the database, and the keys to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.client import Failed
from relay.cli.configured import Config, run, settings_of

if TYPE_CHECKING:
    from relay.edges.store.reseal import Resealed

app = typer.Typer(help="What lies encrypted in the database.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _secrets() -> None:
    """What lies encrypted in the database."""


@app.command()
def reencrypt(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also jobs whose vendors may still call back under an older key.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Encrypt anew with the first key.

    What an older key of RELAY_SECRET_KEY encrypted; and tell which of them may go.

    With SQLite relay has to be stopped, with PostgreSQL relays may go on. It can be run again at any time.
    """
    from relay.app import vault_of
    from relay.edges.store.reseal import reseal

    settings = settings_of(config)
    path = settings.database.path
    if path is not None and not Path(path).exists():
        raise Failed(f"{path} is not there: relay makes it at its first start, and nothing is encrypted before")
    url = settings.database.url.get_secret_value()
    done = run(reseal(url, vault_of(settings), everything=everything, dry_run=dry_run))
    if as_json:
        output.print_json(_as_json(done, dry_run=dry_run))
    else:
        heads = ("", "encrypted", "to be done" if dry_run else "done anew", "waiting", "lost")
        output.table(heads, ((part.what, part.sealed, part.old, part.waiting, part.lost) for part in done.parts))
        for line in _told(done, dry_run=dry_run):
            typer.echo(line)
    if done.left or any(part.lost for part in done.parts):
        raise typer.Exit(1)


def _as_json(done: "Resealed", *, dry_run: bool) -> dict[str, object]:
    parts = [
        {"what": part.what, "encrypted": part.sealed, "anew": part.old, "waiting": part.waiting, "lost": part.lost}
        for part in done.parts
    ]
    keys = [{"key": key, "neededBy": count, "mayGo": count == 0} for key, count in _keys(done)]
    return {"dryRun": dry_run, "parts": parts, "olderKeys": keys, "left": done.left}


def _keys(done: "Resealed") -> list[tuple[int, int]]:
    """The older keys, by their places in the ring, and how many values need each of them now."""
    return list(enumerate(done.needed, 2))


def _told(done: "Resealed", *, dry_run: bool) -> Iterator[str]:
    waiting, lost = sum(part.waiting for part in done.parts), sum(part.lost for part in done.parts)
    yield ""
    if not done.needed:
        yield "RELAY_SECRET_KEY holds one key. To rotate, put a new one before it, and start every relay again."
    for key, count in _keys(done):
        if count == 0:
            yield f"Key {key} may go: nothing in the database needs it. Backups made before still do."
        else:
            yield f"Key {key} is needed by {count}" + (" so far." if dry_run else ": keep it.")
    if waiting:
        yield (
            f"Waiting: {waiting} jobs are at their vendors, who may call back at addresses that follow from an older "
            "key. Run this again when they have ended; --all does not wait, and their callbacks will be refused once "
            "that key is gone."
        )
    if done.left:
        yield (
            f"Not done: {done.left} that were encrypted with an older key while this ran. Some relay has it first: "
            "give all of them the same RELAY_SECRET_KEY, start them again, then run this again."
        )
    if lost:
        yield (
            f"Lost: {lost} open with none of the keys given. Add the key that encrypted them to RELAY_SECRET_KEY, "
            "after the first, and run this again."
        )
