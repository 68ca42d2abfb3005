"""Logging: one wide event per act, as a JSON line or for a terminal, and never a secret.

Call `structlog.get_logger()` and log named events: `log.info("job.submitted", job=…)`.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TypeAlias

import orjson
import structlog

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["json", "console"]

_SECRET_NAME = re.compile(r"secret|password|passwd|authorization|token|credential|api_?key|signature", re.IGNORECASE)
_URL_SECRETS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)


def configure(level: Level = "info", form: Format = "json") -> None:
    """Set up logging for the process; libraries' own loggers join in from WARNING up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    structlog.configure(
        processors=[*before, *(_json() if form == "json" else _console())],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer)
        if form == "json"
        else structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    # DEBUG of the AMQP library would log whole messages.
    root.setLevel(max(number, logging.WARNING))


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask every value whose name tells of a secret, and user information in URLs."""
    return {key: _masked(key, value) for key, value in event.items()}


def without_credentials(text: str) -> str:
    """The text with user information taken out of every URL in it."""
    return _URL_SECRETS.sub(r"\g<scheme>***@", text)


def _masked(key: str, value: Any) -> Any:
    if _SECRET_NAME.search(key):
        return "***"
    if isinstance(value, str):
        return without_credentials(value) if "@" in value else value
    if isinstance(value, Mapping):
        return {name: _masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", inner) for inner in value]
    return value


def _json() -> list[structlog.typing.Processor]:
    return [
        # Without the frames' local variables: there are secrets among them.
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str)),
    ]


def _console() -> list[structlog.typing.Processor]:
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


class _Bridge(logging.Handler):
    """Passes the standard library's records on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library.logged",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )
