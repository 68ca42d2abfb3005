"""`relay connections`: the configured accounts."""

import typer

from relay.cli import output
from relay.cli.client import HOME, AsJson, Client, Server, Token

app = typer.Typer(help="The configured accounts.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _connections() -> None:
    """The configured accounts."""


@app.command("list")
def index(as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """List the connections, what may be asked of each, and how its jobs stand."""
    found = Client(server, token).get("/v1/connections")["items"]
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("name", "vendor", "URL", "operations", "jobs"),
        (
            (
                each["name"],
                each["vendor"],
                each["baseUrl"],
                " ".join(each["operations"]),
                ", ".join(f"{count} {state}" for state, count in each["jobs"].items()),
            )
            for each in found
        ),
        "no connections: see `connections` in the settings",
    )
