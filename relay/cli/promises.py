"""`relay vendors test`: whether a vendor's room keeps what every room promises, told in words."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output
from relay.cli.client import Failed

if TYPE_CHECKING:
    from relay.core.room import Room
    from relay.core.vendor import Vendor
    from relay.kit.live import Seen

PATIENCE = 60.0
"""Seconds for each operation at a live server."""
MOST_TOLD = 5
"""Broken cases of one promise that are told in words."""


def hold(
    vendor: Annotated[
        str, typer.Argument(help="A vendor that comes with relay, such as trifacta, or a declaration's file.")
    ],
    recorded: Annotated[
        Path | None,
        typer.Option(help="Exchanges with a declared vendor; default: NAME.recorded.yaml beside it."),
    ] = None,
    live: Annotated[bool, typer.Option(help="Also ask the vendor's stand-in for each operation.")] = True,
    server: Annotated[
        str | None, typer.Option(help="The server to ask instead, such as http://127.0.0.1:8090.")
    ] = None,
    patience: Annotated[float, typer.Option(min=1, help="Seconds for each operation at the server.")] = PATIENCE,
) -> None:
    """Hold a vendor against every room's promises.

    By its recorded exchanges and, if there is one, at its server; what it breaks is said in words.
    """
    from relay import log

    log.configure("error", "console")
    room = _declared_room(Path(vendor), recorded) if vendor.endswith((".yaml", ".yml")) else _room(vendor)
    output.heading(f"Promises of {room.name}, by recorded exchanges")
    broken = _recorded(room)
    if server is not None or live:
        broken += asyncio.run(_live(room, server, patience))
    if broken:
        raise Failed(f"{broken} broken")
    typer.echo("\nevery promise is kept")


def _room(name: str) -> "Room":
    from relay.vendors import EXAMPLE, VENDORS, room_of

    try:
        return room_of(name)
    except KeyError:
        known = ", ".join(sorted((*VENDORS, EXAMPLE)))
        told = f"relay comes with no vendor {name!r}, but with {known}; of a declared one give the file: {name}.yaml"
        raise Failed(told) from None


def _declared_room(file: Path, recorded: Path | None) -> "Room":
    import yaml
    from pydantic import ValidationError

    from relay.messages import complaints_of
    from relay.settings import RESERVED, SettingsError, declarations_of, why_not_yaml
    from relay.vendors.declared import vendor_of
    from relay.vendors.declared.rooms import Exchanges, room_of

    recorded = recorded or file.with_suffix(".recorded.yaml")
    try:
        ((name, declaration),) = declarations_of(file).items()
        exchanges = Exchanges.model_validate(yaml.safe_load(recorded.read_text("utf-8")))
        vendor = vendor_of(name, declaration, RESERVED)
        _try_options(vendor, exchanges.options, recorded)
        return room_of(vendor, declaration, exchanges)
    except SettingsError as error:
        raise Failed(str(error)) from None
    except ValidationError as error:
        found = complaints_of(error, Exchanges)
        raise Failed(
            "\n".join(": ".join(filter(None, (str(recorded), each.path, each.message))) for each in found)
        ) from None
    except OSError as error:
        raise Failed(
            f"{recorded}: cannot be read: {error.strerror}: write exchanges with the vendor into it, as "
            f"relay/vendors/declared/README.md says; `relay vendors validate {file}` needs none"
        ) from None
    except yaml.YAMLError as error:
        raise Failed(f"{recorded}: is not YAML: {why_not_yaml(error)}") from None
    except ValueError:
        raise Failed(f"{file}: declare one vendor in it: its exchanges are in a file of their own") from None


def _try_options(vendor: "Vendor", options: Mapping[str, Any], recorded: Path) -> None:
    """Whether the settings of a connection that the file gives are such. Raises Failed."""
    from pydantic import ValidationError

    from relay.messages import complaints_of

    try:
        vendor.options.model_validate(options)
    except ValidationError as error:
        found = complaints_of(error, vendor.options)
        raise Failed("\n".join(f"{recorded}: options.{each.path}: {each.message}" for each in found)) from None


def _recorded(room: "Room") -> int:
    """Tell of each promise; how many cases broke one."""
    from relay.kit import PROMISES, Broken, cases_of

    kept: Counter[str] = Counter()
    broken: dict[str, list[str]] = {}
    for promise, case in cases_of(room):
        try:
            case.check()
        except Broken as why:
            broken.setdefault(promise.__name__, []).append(f"{case.name}: {why}")
        else:
            kept[promise.__name__] += 1
    for promise in PROMISES:
        name, sentence = promise.__name__, " ".join((promise.__doc__ or "").split())
        faults = broken.get(name, [])
        if not kept[name] and not faults:
            continue
        mark = f"broken {len(faults):>4}" if faults else f"kept   {kept[name]:>4}"
        typer.echo(f"  {mark}  {sentence}")
        for fault in faults[:MOST_TOLD]:
            typer.echo(f"               - {output.plain(fault)}".replace("\n", "\n" + 17 * " "))
        if len(faults) > MOST_TOLD:
            typer.echo(f"               and {len(faults) - MOST_TOLD} more")
    return sum(map(len, broken.values()))


async def _live(room: "Room", server: str | None, patience: float) -> int:
    """Ask a server for each operation, and tell; how many broke a promise."""
    broken = 0
    async with _serving(room, server) as url:
        if url is None:
            typer.echo(f"\n{room.name} has no stand-in here: give one with --server")
            return 0
        output.heading(f"Operations of {room.name} at {url}")
        async for seen in _asked(room, url, patience):
            typer.echo(f"  {'kept  ' if seen.kept else 'broken'}  {seen.operation}: {output.plain(seen.told)}")
            broken += not seen.kept
    return broken


@contextlib.asynccontextmanager
async def _serving(room: "Room", server: str | None) -> AsyncIterator[str | None]:
    """The URL of the server, or of the vendor's stand-in for as long as it is needed."""
    from relay.simulators import SIMULATORS

    if server is not None:
        yield server.rstrip("/")
    elif (stand_in := SIMULATORS.get(room.name)) is not None:
        async with stand_in() as own:
            yield own.url
    else:
        yield None


async def _asked(room: "Room", url: str, patience: float) -> "AsyncIterator[Seen]":
    from relay.edges.http import VendorDriver, VendorLink
    from relay.kit.live import ask_everything, lose_an_answer

    connection = room.connection(url)
    driver = VendorDriver([VendorLink(connection=connection, vendor=room.vendor)])

    async def talk(flow: Any) -> Any:
        return await driver.run(connection.name, flow)

    try:
        # First, so that no other run of the same can be taken for it.
        if _finds(room) and await _will_lose(url):
            lost = await lose_an_answer(room, connection, talk, patience)
            if lost is not None:
                yield lost
        async for seen in ask_everything(room, connection, talk, patience):
            yield seen
    finally:
        await driver.close()


def _finds(room: "Room") -> bool:
    """Whether a run without an answer can be found: else no answer must be lost, for it would be that of a real run."""
    run = room.vendor.operations.get("run")
    return run is not None and run.find is not None


async def _will_lose(url: str) -> bool:
    """Ask the server to lose its answer to the next submit; whether it can."""
    import aiohttp

    fault = {"faults": [{"on": "submit", "harm": "lost"}]}
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.post(f"{url}/__faults", json=fault) as answer,
        ):
            return answer.status == 204
    return False
