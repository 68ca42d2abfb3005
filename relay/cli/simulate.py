"""`relay simulate`: a stand-in vendor to develop against."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.client import Failed
from relay.cli.configured import run

if TYPE_CHECKING:
    from relay.simulators.server import VendorServer


def simulate(
    vendor: Annotated[str, typer.Argument(help="The vendor's name, such as trifacta.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8090,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Run a stand-in vendor server until Ctrl-C.

    It keeps everything in memory and takes any credentials. GET /__ledger shows what it was asked and made; POST
    /__faults makes something go wrong: {"faults": [{"on": "submit", "harm": "lost"}]}. `on` is the request (submit,
    poll, cancel, …, any), `harm` one of slow, busy, down, denied, missing, reset, lost, broken, garbage, html,
    endless; beside them `subject` (of which recipe, file, …), `times` (1, or null for ever), `seconds` (of slow),
    `retryAfter`. DELETE takes them back.
    """
    from relay.simulators import SIMULATORS

    server = SIMULATORS.get(vendor)
    if server is None:
        known = ", ".join(sorted(SIMULATORS))
        raise typer.BadParameter(f"there is no stand-in for {vendor!r}; there are: {known}", param_hint="VENDOR")
    try:
        run(_serve(server(host, port)))
    except OSError as error:
        told = f"cannot listen at {host}:{port}: {os.strerror(error.errno or 0)}"
        raise Failed(f"{told}: give another --port or --host, or end what listens there") from error


async def _serve(server: "VendorServer") -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server:
        typer.echo(
            f"{server.vendor} at {server.url} (ledger at {server.url}/__ledger, faults at {server.url}/__faults)"
        )
        await stop.wait()
