"""The command line: one file a noun. What is heavy is imported by the command that needs it."""

import sys
import traceback
from collections.abc import Iterator
from typing import Annotated

import typer

from relay import __version__
from relay.cli import (
    acts,
    callbacks,
    check,
    connections,
    dead_letters,
    deliveries,
    jobs,
    output,
    schema,
    secrets,
    serve,
    simulate,
    subscriptions,
    tokens,
    topology,
)
from relay.cli import submit as submitting
from relay.cli import vendors as kinds
from relay.cli.client import Failed

app = typer.Typer(
    name="relay",
    help="Takes job requests, runs them at vendors' job systems and announces how each one ended.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(serve.demo)
app.command()(check.check)
app.command()(submitting.submit)
app.add_typer(jobs.app, name="jobs")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(callbacks.app, name="callbacks")
app.add_typer(acts.app, name="acts")
app.add_typer(connections.app, name="connections")
app.add_typer(kinds.app, name="vendors")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(topology.app, name="topology")
app.add_typer(tokens.app, name="tokens")
app.add_typer(secrets.app, name="secrets")
app.add_typer(schema.app, name="schema")
app.command()(simulate.simulate)
app.command()(serve.migrate)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def _relay(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Takes job requests, runs them at vendors' job systems and announces how each one ended."""


def main() -> None:
    """Run the command line. Exit codes: 0 fine, 1 it failed, 2 wrong use."""
    try:
        app()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in words and by the exit code
        for each in _leaves(error):
            _tell(each)
        sys.exit(1)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _tell(error: BaseException) -> None:
    """What is foreseen in its own words; a defect with its trace."""
    if not _foreseen(error):
        traceback.print_exception(error)
    for line in (str(error) or type(error).__name__).splitlines():
        typer.echo(f"relay: {output.plain(line)}", err=True)


def _foreseen(error: BaseException) -> bool:
    if isinstance(error, Failed | OSError):
        return True
    from relay.edges.amqp import TopologyError
    from relay.edges.store import CannotOpen, StoreBroken
    from relay.edges.vault import SealBroken
    from relay.ports import BrokerAway, StoreUnavailable
    from relay.settings import SettingsError

    known = (SettingsError, TopologyError, CannotOpen, StoreBroken, StoreUnavailable, SealBroken, BrokerAway)
    return isinstance(error, known)
