"""The settings, for those commands that work by themselves."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from relay.cli.client import Failed

if TYPE_CHECKING:
    from relay.settings import Amqp, Settings

T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="RELAY_CONFIG", help="The settings, as YAML.", show_default=False),
]


def settings_of(config: Path | None) -> "Settings":
    """The settings. Raises SettingsError."""
    from relay.settings import load

    return load(config)


def broker_of(settings: "Settings") -> "Amqp":
    """The broker's settings. Raises Failed where there is none."""
    if settings.amqp is None:
        raise Failed("no broker is configured: set amqp.url, or RELAY_AMQP__URL")
    return settings.amqp


def nodes_of(amqp: "Amqp") -> list[str]:
    """The broker's URLs, with their passwords."""
    return [url.get_secret_value() for url in amqp.url]


def run(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of asynchronous work, which tells of itself by what it returns and raises: the log keeps quiet."""
    from relay import log

    log.configure("error", "console")
    return asyncio.run(work)
