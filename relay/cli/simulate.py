"""`relay simulate`: a stand-in vendor to develop against."""

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.configured import run

if TYPE_CHECKING:
    from relay.simulators.server import VendorServer


def simulate(
    vendor: Annotated[str, typer.Argument(help="The vendor's name, such as trifacta.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8090,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Run a stand-in vendor server until Ctrl-C. It keeps everything in memory and takes any credentials."""
    from relay.simulators import SIMULATORS

    server = SIMULATORS.get(vendor)
    if server is None:
        known = ", ".join(sorted(SIMULATORS))
        raise typer.BadParameter(f"there is no stand-in for {vendor!r}; there are: {known}", param_hint="VENDOR")
    run(_serve(server(host, port)))


async def _serve(server: "VendorServer") -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server:
        typer.echo(
            f"{server.vendor} at {server.url} (ledger at {server.url}/__ledger, faults at {server.url}/__faults)"
        )
        await stop.wait()
