"""`relay connections`: the configured accounts."""

from typing import Annotated

import typer

from relay.cli import output
from relay.cli.client import ALL, HOME, AsJson, Client, Row, Server, Token, segment

Name = Annotated[str, typer.Argument(help="The connection's name.")]

app = typer.Typer(help="The configured accounts.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _connections() -> None:
    """The configured accounts."""


@app.command("list")
def index(as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """List the connections. What may be asked of each, and how its jobs stand."""
    found = list(Client(server, token).rows("/v1/connections", ALL))
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("name", "vendor", "URL", "state", "operations", "jobs"),
        (
            (
                each["name"],
                each["vendor"],
                each["baseUrl"],
                _state(each),
                " ".join(each["operations"]),
                ", ".join(f"{count} {state}" for state, count in each["jobs"].items()),
            )
            for each in found
        ),
        "no connections: see `connections` in the settings",
    )


@app.command()
def pause(name: Name, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Ask nothing more of its vendor. Jobs wait, callbacks are still taken, deadlines run on."""
    _show(Client(server, token).post(f"/v1/connections/{segment(name)}/pause"), as_json)


@app.command()
def resume(name: Name, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Ask its vendor again: one job first, then more."""
    _show(Client(server, token).post(f"/v1/connections/{segment(name)}/resume"), as_json)


@app.command("test")
def greet(name: Name, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Ask whether its vendor lets relay in.

    Something that changes nothing. Exit code 1 if it does not.
    """
    found = Client(server, token).post(f"/v1/connections/{segment(name)}/test")
    if as_json:
        output.print_json(found)
    else:
        verdict = {True: "ok", False: "failed", None: "note"}[found["well"]]
        output.fields([(name, verdict), ("", found["told"])])
    if found["well"] is False:
        raise typer.Exit(1)


def _show(connection: Row, as_json: bool) -> None:
    if as_json:
        output.print_json(connection)
    else:
        output.fields([(connection["name"], _state(connection))])


def _state(connection: Row) -> str:
    """How its vendor fares, in words."""
    if connection["state"] == "paused":
        return f"paused by {connection['pausedBy']} {output.ago(connection['pausedAt'])}"
    if connection["state"] == "closed" and connection["closedUntil"]:
        return f"closed, tried again {output.due(connection['closedUntil'])}"
    return str(connection["state"])
