"""`relay callbacks`: what vendors reported of jobs that relay does not know."""

from typing import Annotated

import typer

from relay.cli import output
from relay.cli.client import HOME, AsJson, Client, Limit, Server, Token

app = typer.Typer(help="Vendors' callbacks without a job.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _callbacks() -> None:
    """Vendors' callbacks without a job."""


@app.command("list")
def index(
    connection: Annotated[str | None, typer.Option(help="Only those to this connection.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """List callbacks of unknown jobs, newest first.

    Those to fixed URLs whose job relay does not know (yet). They are kept for a week.
    """
    found = list(Client(server, token).rows("/v1/callbacks", limit, connection=connection))
    if as_json:
        output.print_json(found)
        return
    rows = ((each["id"], each["connection"], each["vendorJobId"], output.ago(each["cameAt"])) for each in found)
    output.table(("id", "connection", "vendor's job", "came"), rows, "no callbacks without a job")
