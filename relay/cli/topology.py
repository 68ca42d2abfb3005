"""`relay topology`: the exchanges and queues that relay needs."""

import asyncio
import random
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.configured import Config, broker_of, nodes_of, run, settings_of

if TYPE_CHECKING:
    from relay.settings import Amqp

app = typer.Typer(help="The exchanges and queues that relay needs.", no_args_is_help=True, rich_markup_mode=None)

PATIENCE = 30.0
"""Seconds for a look at the broker."""


@app.command("print")
def definitions(
    config: Config = None,
    vhost: str = "/",
    user: Annotated[str, typer.Option(help="Whom the permissions are for.")] = "relay",
) -> None:
    """Print exchanges, queues and permissions.

    As `rabbitmqctl import_definitions` takes them, with the bindings.
    """
    from relay.app import topology_of
    from relay.edges.amqp import Topology
    from relay.edges.amqp import definitions as made_of

    amqp = settings_of(config).amqp
    output.print_json(made_of(topology_of(amqp) if amqp else Topology(), vhost=vhost, user=user))


@app.command()
def check(config: Config = None) -> None:
    """Tell whether the broker has them. Exit code 1 if not."""
    typer.echo(run(look_at(broker_of(settings_of(config)))))


async def look_at(amqp: "Amqp") -> str:
    """How the broker stands, in words. Raises TopologyError, BrokerAway, SettingsError."""
    from relay.app import tls_context, topology_of
    from relay.edges.amqp.link import Backoff, Link
    from relay.edges.amqp.topology import RPC_TIMEOUT, unread
    from relay.edges.amqp.topology import check as check_parts
    from relay.ports import BrokerAway

    topology = topology_of(amqp)
    link = Link("check", nodes_of(amqp), backoff=Backoff(random.random), tls=tls_context(amqp))
    waiting = 0
    try:
        async with asyncio.timeout(PATIENCE), link.opened() as connection:
            await check_parts(connection, topology)
            if topology.events_queue is not None:
                channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
                waiting = await unread(channel, topology.events_queue)
                await channel.close()
    except TimeoutError as error:
        raise BrokerAway(f"the broker gives no answer within {PATIENCE:g} s") from error
    if waiting:
        return f"answers and has all exchanges and queues; {waiting} events wait in {topology.events_queue}, unread"
    return "answers and has all exchanges and queues"
