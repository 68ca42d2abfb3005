"""`relay tokens`: who may call the API."""

import hashlib
import json
import re
import secrets
from typing import Annotated

import typer

from relay.cli import output

app = typer.Typer(help="Who may call the API.", no_args_is_help=True, rich_markup_mode=None)

_SCOPES = ("read", "submit", "operate")


@app.callback()
def _tokens() -> None:
    """Who may call the API."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; logs and audits show it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="read: look; submit: ask for jobs, cancel or rerun one; operate: all else. May be given several times."
        ),
    ] = None,
    connection: Annotated[
        list[str] | None, typer.Option(help="Only for this connection; may be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a token. It is shown once; the settings take its digest alone."""
    _check(name, scope or [], connection or [])
    token = f"relay_{secrets.token_urlsafe(32)}"
    entry: dict[str, object] = {
        "name": name,
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "scopes": list(dict.fromkeys(scope or [])),
    }
    if connection:
        entry["connections"] = list(dict.fromkeys(connection))
    if as_json:
        output.print_json({"token": token, "entry": entry})
        return
    typer.echo(f"Token, shown this once:\n\n  {token}\n\nIn the settings:\n\ntokens:\n  - {_yaml(entry)}")


def _check(name: str, scopes: list[str], connections: list[str]) -> None:
    if not re.fullmatch(r"[\w.@-]{1,100}", name):
        raise typer.BadParameter("use letters, digits and . _ @ -", param_hint="NAME")
    if not scopes or any(each not in _SCOPES for each in scopes):
        raise typer.BadParameter(f"give one or more of {', '.join(_SCOPES)}", param_hint="--scope")
    for each in connections:
        if not re.fullmatch(r"[a-z0-9_-]{1,63}", each):
            raise typer.BadParameter(f"{each!r} is no connection's name", param_hint="--connection")


def _yaml(entry: dict[str, object]) -> str:
    """One line that is YAML in flow style: names need no quotes, and values are JSON, which YAML contains."""
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in entry.items()) + "}"
