"""`relay serve`, `relay demo`, `relay migrate`: relay itself."""

import os
import resource
from functools import partial
from typing import Annotated

import typer

from relay.cli.client import Failed
from relay.cli.configured import Config, run, settings_of


def serve(config: Config = None) -> None:
    """Run relay until SIGTERM or Ctrl-C."""
    from relay import app, settings

    _allow_many_files()
    run(app.serve(settings_of(config), partial(settings.load, config)))


def _allow_many_files() -> None:
    """Each connection is a file: as many as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def demo(
    once: Annotated[bool, typer.Option("--once", help="End when everything has been shown.")] = False,
    amqp: Annotated[bool, typer.Option("--amqp", help="Through the broker that RELAY_AMQP__URL names.")] = False,
) -> None:
    """Show jobs going from request to event.

    With stand-in vendors, and a receiver that checks signatures.
    """
    from relay.cli.demo import show

    url = os.environ.get("RELAY_AMQP__URL") if amqp else None
    if amqp and not url:
        raise Failed("RELAY_AMQP__URL names no broker")
    if not run(show(once=once, amqp_url=url)):
        raise typer.Exit(1)


def migrate(config: Config = None) -> None:
    """Bring the database up to date. `relay serve` does so by itself at start."""
    from relay.edges.store import migrate as bring_up_to_date
    from relay.edges.store import place_of

    url = settings_of(config).database.url.get_secret_value()
    taken = bring_up_to_date(url)
    typer.echo(f"{place_of(url)}: {', '.join(taken) if taken else 'is up to date'}")
