"""`relay check`: would relay run with these settings? Everything is told one by one; nothing is changed."""

import os
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.configured import Config, run, settings_of
from relay.cli.topology import look_at

if TYPE_CHECKING:
    from relay.core.vendor import Account
    from relay.edges.http import VendorDriver
    from relay.settings import Amqp, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `note` is neither good nor bad."""

    what: str
    verdict: str
    told: str


def check(
    config: Config = None,
    offline: Annotated[bool, typer.Option("--offline", help="The settings alone: ask nobody.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, database, broker, connections.

    Told one by one; nothing is changed. Exit code 1 if any fails.
    """
    findings = run(_findings(config, offline=offline))
    if as_json:
        output.print_json([{"what": each.what, "verdict": each.verdict, "told": each.told} for each in findings])
    else:
        output.table(("what", "state", ""), ((each.what, each.verdict, each.told) for each in findings))
    if any(each.verdict == "failed" for each in findings):
        raise typer.Exit(1)


async def _findings(config: Path | None, *, offline: bool) -> list[Finding]:
    from relay.settings import SettingsError

    try:
        settings = settings_of(config)
    except SettingsError as error:
        return list(_failed("settings", str(error)))
    found = list(_own(settings))
    if not offline:
        wrong = {each.what for each in found if each.verdict == "failed"}
        found += [each async for each in _others(settings, wrong)]
    return found


def _own(settings: "Settings") -> Iterator[Finding]:
    """What can be known without asking anybody."""
    from relay.app import faults, vault_of
    from relay.settings import SettingsError

    yield Finding("settings", "ok", f"{len(settings.connections)} connections")
    for part, told in faults(settings):
        yield from _failed(part, told)
    path = settings.database.path
    if settings.secret_key is not None or path is None or Path(f"{path}.key").exists():  # else one would be made
        try:
            vault_of(settings)
        except SettingsError as error:
            yield Finding("secret key", "failed", str(error))
    if path is not None:
        yield _file(Path(path))


def _failed(part: str, told: str) -> Iterator[Finding]:
    return (Finding(part, "failed", line) for line in told.splitlines())


def _file(path: Path) -> Finding:
    from relay.edges.store import CannotOpen
    from relay.edges.store.sqlite import only_process

    folder = path.resolve().parent
    if not folder.is_dir():
        return Finding("database", "note", f"{path} and its folder are made at start")
    if not os.access(folder, os.W_OK):
        return Finding("database", "failed", f"{folder}: this user may not write there")
    if not path.exists():
        return Finding("database", "ok", f"{path} is made at start")
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding("database", "failed", f"{path}: this user may not read and write it")
    try:
        with only_process(str(path)):
            return Finding("database", "ok", str(path))
    except CannotOpen:
        return Finding("database", "note", f"{path} is in use by a running relay")


async def _postgres(url: str) -> Finding:
    from relay.edges.store import CannotOpen
    from relay.edges.store.postgres import look_at as look_at_database
    from relay.ports import StoreUnavailable

    try:
        return Finding("database", "ok", await look_at_database(url))
    except (CannotOpen, StoreUnavailable) as error:
        return Finding("database", "failed", str(error))


async def _others(settings: "Settings", wrong: Collection[str]) -> AsyncIterator[Finding]:
    """The database's server, the broker and the vendors, but for those parts whose settings are wrong."""
    from relay.app import account_of, link_of, vendors_of
    from relay.edges.http import VendorDriver

    if settings.database.path is None:
        yield await _postgres(settings.database.url.get_secret_value())
    if settings.amqp is None:
        yield Finding("broker", "note", "none is configured: requests come by HTTP, events go to URLs")
    elif "broker" not in wrong:
        yield await _broker(settings.amqp)
    vendors = vendors_of(settings)
    for name, each in settings.connections.items():
        if f"connection {name}" in wrong:
            continue
        account = account_of(name, each, vendors)
        driver = VendorDriver([link_of(each, account)])
        try:
            yield await _connection(driver, account)
        finally:
            await driver.close()


async def _broker(amqp: "Amqp") -> Finding:
    from relay.edges.amqp import TopologyError
    from relay.ports import BrokerAway

    try:
        return Finding("broker", "ok", await look_at(amqp))
    except TopologyError as error:
        if amqp.declare_ and "has no" in str(error):
            first = str(error).partition(":")[0].removeprefix("The broker ")
            return Finding("broker", "note", f"answers, and {first}; what is missing is made at start")
        return Finding("broker", "failed", str(error))
    except BrokerAway as error:
        return Finding("broker", "failed", str(error))


async def _connection(driver: "VendorDriver", account: "Account") -> Finding:
    """Whether the vendor is there and lets us in."""
    from relay.stages.greet import greet

    if account.vendor.remembers(account.connection):
        told = (
            "not asked: that would use up a token that a running relay keeps; `relay connections test` asks through it"
        )
        return Finding(f"connection {account.connection.name}", "note", told)
    came = await greet(driver, account)
    verdict = {True: "ok", False: "failed", None: "note"}[came.well]
    return Finding(f"connection {account.connection.name}", verdict, came.told)
