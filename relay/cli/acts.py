"""`relay acts`: what operators did."""

from typing import Annotated

import typer

from relay.cli import output
from relay.cli.client import HOME, AsJson, Client, Limit, Server, Since, Token, Until

app = typer.Typer(help="What operators did.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _acts() -> None:
    """What operators did."""


@app.command("list")
def index(
    by: Annotated[str | None, typer.Option(help="Only those of the token of this name.")] = None,
    what: Annotated[str | None, typer.Option(help="Only this act, such as jobs.cancel or connections.pause.")] = None,
    target: Annotated[
        str | None, typer.Option(help="A job's, delivery's or subscription's id, or a connection's name.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """List what was done, by whom and when.

    Through the API, by whose token, newest first. Acts are kept for a year.
    """
    chosen = {"since": output.moment(since, "--since"), "until": output.moment(until, "--until")}
    found = list(Client(server, token).rows("/v1/acts", limit, by=by, what=what, target=target, **chosen))
    if as_json:
        output.print_json(found)
        return
    rows = ((each["at"], each["by"], each["what"], each["target"], each["detail"]) for each in found)
    output.table(("at", "by", "what", "target", "detail"), rows, "no acts")
