"""Logging: one wide event per act, as a JSON line or for a terminal, and never a secret.

Call `get_logger()` and log named events: `log.info("job.submitted", job=…)`.
"""

import asyncio
import contextlib
import functools
import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Literal, TypeAlias, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["json", "console"]

_STANDARD = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_SECRET_NAME = re.compile(r"secret|password|passwd|authorization|token|credential|api_?key|signature", re.IGNORECASE)
_PLAIN = frozenset({int, float, bool, NoneType})
_URL_SECRETS = re.compile(r"(?<=://)[^/?#\s]*@")
"""Whatever the scheme: looking for its beginning from each letter of a long word would take hours."""


def configure(level: Level = "info", form: Format = "json", *, for_good: bool = False) -> None:
    """Set up logging for the process; libraries' own loggers join in from WARNING up. `for_good`: nobody configures it
    anew, so that a log need not look at each line how that is written."""
    number = logging.getLevelNamesMapping()[level.upper()]
    stderr = _Stderr()
    structlog.configure(
        processors=[_prepared(form), _rendered if form == "json" else _console()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: stderr,  # one for all, so that the loop's lines keep their order
        cache_logger_on_first_use=False,
    )
    _Log.for_good = for_good
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    # DEBUG of the AMQP library would log whole messages.
    root.setLevel(max(number, logging.WARNING))


def get_logger() -> FilteringBoundLogger:
    """A log, whose lines are written as the process is configured by then."""
    return cast("FilteringBoundLogger", _Log())


class _Log:
    """Looks for each of its methods at every line, until it is configured for good."""

    for_good = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(structlog.get_logger(), name)
        if self.for_good:
            setattr(self, name, method)
        return method


def _prepared(form: Format) -> Processor:
    """An event with its level, its time and its trace if it has one, and without its secrets."""
    traced = _exceptions(form)

    def prepared(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        event["level"] = method
        event["timestamp"] = datetime.now(UTC).isoformat()[:-6] + "Z"
        # Redaction comes after it: an exception's text may hold what a value may not.
        return redact(traced(logger, method, event) if "exc_info" in event else event)  # type: ignore[arg-type]

    return prepared


def redact(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mask every value whose name tells of a secret, and user information in URLs."""
    return {
        # As nearly all are.
        key: value
        if (type(value) in _PLAIN or (type(value) is str and "@" not in value)) and not _tells_of_secret(key)
        else _masked(key, value)
        for key, value in event.items()
    }


def without_credentials(text: str) -> str:
    """The text with user information taken out of every URL in it."""
    return _URL_SECRETS.sub("***@", text)


def _masked(key: str, value: Any) -> Any:
    if _tells_of_secret(key):
        return "***"
    if isinstance(value, str):
        return without_credentials(value) if "@" in value else value
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {name: _masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", inner) for inner in value]
    return value


@functools.lru_cache(1024)
def _tells_of_secret(key: str) -> bool:
    return _SECRET_NAME.search(key) is not None


def _exceptions(form: Format) -> Processor:
    """Traces without the frames' local variables: there are secrets among them."""
    if form == "console":
        return structlog.processors.format_exc_info
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def _rendered(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    """The event as a JSON line. What JSON cannot hold is written by its repr, which shows no secret."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    try:
        return orjson.dumps(event, default=repr, option=options)
    except TypeError:  # half a surrogate pair, a huge integer
        return json.dumps(event, default=repr, skipkeys=True, ensure_ascii=False).encode("utf-8", "replace")


def _console() -> Processor:
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)


class _Stderr:
    """Writes lines, those of one turn of the event loop together: each write lets go of the interpreter's lock, and has
    to win it back from the thread in which a store writes. A process that is killed may take its last turn's lines with
    it, but no warning or error: those are written at once. A log that cannot be written (a full disk, a closed pipe)
    must not stop the work."""

    def __init__(self) -> None:
        self._file = sys.stderr
        self._waiting: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """Whose turn's end is waited for."""

    def msg(self, line: bytes | str) -> None:
        """Write one line before long."""
        loop = _running_loop()
        if loop is None:  # before it, after it or beside it
            self._write(_bytes(line))
            return
        self._waiting.append(_bytes(line))
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._end_turn)

    def at_once(self, line: bytes | str) -> None:
        """Write one line, and those that wait before it."""
        self.msg(line)
        if _running_loop() is not None:
            self._flush()

    debug = info = msg
    warning = error = critical = at_once

    def _end_turn(self) -> None:
        self._loop = None
        self._flush()

    def _flush(self) -> None:
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._write(b"".join(lines))

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.buffer.write(text)
            self._file.buffer.flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _bytes(line: bytes | str) -> bytes:
    return (line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")) + b"\n"


class _Bridge(logging.Handler):
    """Passes the standard library's records on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max(standard for standard in _STANDARD if standard <= max(record.levelno, logging.DEBUG))
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - the library's format and arguments do not fit
            message = str(record.msg)
        structlog.get_logger().log(
            level, "library.logged", logger=record.name, message=message, exc_info=record.exc_info or None
        )
