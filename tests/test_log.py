"""The log: one line an event, never a secret, and never in the way of the work."""

import asyncio
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from relay import log

CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Any:
    """What was written since, a value a line."""

    def read() -> list[dict[str, Any]]:
        out, err = capfd.readouterr()
        assert out == ""
        return [orjson.loads(line) for line in err.splitlines()]

    return read


def test_an_event_is_a_json_line(lines: Any) -> None:
    """With its name, level and time."""
    log.configure("info", "json")
    structlog.get_logger().info("job.submitted", job="job_1", seconds=0.5)
    (line,) = lines()

    assert ("job.submitted", "info", "job_1", 0.5) == (line["event"], line["level"], line["job"], line["seconds"])
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels_filter(lines: Any, level: log.Level, seen: int) -> None:
    """Below the level nothing is written."""
    log.configure(level, "json")
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("event")

    assert seen == len(lines())


def test_a_log_goes_by_what_is_configured(lines: Any) -> None:
    """At each line, until the process is configured for good."""
    before = log.get_logger()
    log.configure("error")
    before.warning("not this")
    log.configure("info", for_good=True)
    before.info("first")
    log.configure("error")
    before.info("second")
    log.get_logger().info("nor this")

    assert ["first", "second"] == [line["event"] for line in lines()]


SECRETIVE: list[Any] = [
    {"password": CANARY},
    {"apiToken": CANARY, "api_key": CANARY, "apikey": CANARY, "X-Signature": CANARY, "Authorization": CANARY},
    {"credentials": [CANARY], "clientSecret": {"value": CANARY}},
    {"nested": {"deep": [{"secretKey": CANARY}]}},
    {"pair": ("a", {"token": CANARY})},
    {"url": f"https://user:{CANARY}@host/path"},
    {"text": f"lost amqp://{CANARY}@h and amqps://u:{CANARY}@h/v?x=1"},
    {"odd": f"amqp://u:p@{CANARY}@h"},
    {"urls": [f"http://u:{CANARY}@h"]},
    {"value": SecretStr(CANARY)},
    {"deep": {"value": [SecretStr(CANARY)]}},
    {"where": {5: {"token": CANARY}}},
]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("values", SECRETIVE)
def test_no_secret_is_written(capfd: pytest.CaptureFixture[str], form: log.Format, values: dict[str, Any]) -> None:
    """By name, in URLs, at any depth, in any kind of value."""
    log.configure("debug", form)
    structlog.get_logger().info("event", **values)
    written = capfd.readouterr().err

    assert "event" in written
    assert CANARY not in written


def test_what_is_no_secret_is_written(lines: Any) -> None:
    """A mail address and a URL with a query stay what they are."""
    log.configure("info", "json")
    structlog.get_logger().info("event", text="a@b.example", url="https://h/p?x=a@b", job="t", list=["a@b"])
    (line,) = lines()

    assert ("a@b.example", "https://h/p?x=a@b", "t", ["a@b"]) == (line["text"], line["url"], line["job"], line["list"])


def _fail(secret: str) -> None:
    local = secret + " in a local variable"
    assert local
    raise ValueError(f"cannot reach amqp://relay:{secret}@broker/")


@pytest.mark.parametrize("form", ["json", "console"])
def test_traces_tell_where_and_hide_what(capfd: pytest.CaptureFixture[str], form: log.Format) -> None:
    """A trace has its frames and its message, without local variables and without credentials."""
    log.configure("info", form)
    try:
        _fail(CANARY)
    except ValueError:
        structlog.get_logger().exception("stage.act_failed", job="job_1")
    written = capfd.readouterr().err

    assert CANARY not in written
    for word in ("_fail", "ValueError", "amqp://***@broker/", "test_log.py"):
        assert word in written


@dataclass
class Sealed:
    """A value that shows only a part of itself."""

    shown: str
    hidden: str = field(repr=False)


class Odd:
    """Something that no JSON has."""


@pytest.mark.parametrize(
    "value",
    ["half \ud800 a pair", 2**70, {"x": -(2**70)}, {1, 2}, b"bytes", Odd(), {Odd(): 1}, float("nan"), Exception("x")],
)
def test_any_value_can_be_logged(lines: Any, value: Any) -> None:
    """A value that JSON lacks is written somehow: a log line never fails the work."""
    log.configure("info", "json")
    structlog.get_logger().info("event", value=value)
    (line,) = lines()

    assert "event" == line["event"]


def test_values_are_shown_as_they_show_themselves(lines: Any) -> None:
    """A value's hidden parts stay hidden."""
    log.configure("info", "json")
    structlog.get_logger().info("event", value=Sealed("a", CANARY))
    (line,) = lines()

    assert "Sealed(shown='a')" == line["value"]


@given(st.text())
def test_text_without_credentials_is_left_alone(text: str) -> None:
    """What holds no URL with user information stays as it is."""
    harmless = text.replace("@", "")

    assert harmless == log.without_credentials(harmless)


@pytest.mark.parametrize("text", ["a" * 2**20 + "@", "://" * 2**18 + " @", "http://" + "x" * 2**20 + " @"])
def test_a_long_text_is_soon_looked_through(text: str) -> None:
    """Whoever asks for a job may send a megabyte in one word: relay shows it, and goes on with its work."""
    assert text == log.without_credentials(text)


async def test_lines_of_one_turn_are_written_together(lines: Any) -> None:
    """In their order, whoever logs them, when the event loop's turn ends; another thread's line goes its own way."""
    log.configure("info", "json")
    first, second = log.get_logger(), log.get_logger()
    first.info("1")
    second.info("2")
    await asyncio.to_thread(first.info, "aside")
    first.info("3")
    before = lines()
    await asyncio.sleep(0)

    assert ["1", "2", "aside"] == sorted(line["event"] for line in before)
    assert ["3"] == [line["event"] for line in lines()]


async def test_a_warning_is_written_at_once(lines: Any) -> None:
    """With all lines before it: a process that is killed in the same turn has told what was wrong."""
    log.configure("info", "json")
    log.get_logger().info("1")
    log.get_logger().warning("2")
    log.get_logger().info("3")

    assert ["1", "2"] == [line["event"] for line in lines()]


def test_lines_that_an_event_loop_left_behind_are_written(lines: Any) -> None:
    """One that ended in the middle of a turn writes nothing any more; the next one does."""
    log.configure("info", "json")

    async def tell(event: str) -> None:
        structlog.get_logger().info(event)

    for event in ("last", "first"):
        left = asyncio.new_event_loop()
        left.call_soon(left.stop)
        task = left.create_task(tell(event))
        left.run_forever()
        assert not task.done() or task.result() is None
        left.close()
    asyncio.run(tell("then"))

    assert ["last", "first", "then"] == [line["event"] for line in lines()]


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed")])
def test_a_log_that_cannot_be_written_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A full disk or a closed pipe behind standard error costs lines, not jobs."""

    class Full:
        """A stream that takes nothing."""

        def isatty(self) -> bool:
            """It is a file."""
            return False

        @property
        def buffer(self) -> "Full":
            """Bytes are no better off."""
            return self

        def write(self, _: bytes) -> None:
            """Fail."""
            raise error

    monkeypatch.setattr(sys, "stderr", Full())
    for form in ("json", "console"):
        log.configure("info", form)
        structlog.get_logger().info("event")


# --- libraries ---


def test_libraries_join_in_from_warning_up(lines: Any) -> None:
    """With their name and message, and the trace if there is one; below, nothing."""
    log.configure("debug", "json")
    library = logging.getLogger("some.library")
    library.info("not %s", "this")
    library.warning("%d lost", 3)
    try:
        raise KeyError("x")
    except KeyError:
        library.exception("oh")
    warned, failed = lines()

    assert ("library.logged", "warning", "some.library", "3 lost") == (
        warned["event"],
        warned["level"],
        warned["logger"],
        warned["message"],
    )
    assert "KeyError" == failed["exception"][0]["exc_type"]


def test_a_librarys_secret_is_hidden_too(lines: Any) -> None:
    """Its messages pass the same redaction."""
    log.configure("info", "json")
    logging.getLogger("some.library").error("cannot connect to amqp://u:%s@h", CANARY)
    (line,) = lines()

    assert "cannot connect to amqp://***@h" == line["message"]


def test_a_library_that_logs_badly_is_heard(lines: Any) -> None:
    """Arguments that do not fit, and levels of its own."""
    log.configure("info", "json")
    logging.getLogger("x").error("%d", "no number")
    logging.getLogger("x").log(35, "between")
    bad, odd = lines()

    assert ("%d", "between", "warning") == (bad["message"], odd["message"], odd["level"])


async def test_asyncios_own_words_are_heard(lines: Any) -> None:
    """A task whose exception nobody fetched is told, without its variables."""
    log.configure("info", "json")
    asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError("why")})
    await asyncio.sleep(0)
    (line,) = lines()

    assert ("asyncio", "lost") == (line["logger"], line["message"].partition("\n")[0])


def test_the_console_is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    """A line to read, in colour only on a terminal; exceptions cause no warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.configure("info", "console")
        structlog.get_logger().info("relay.started", url="http://h")
    written = capfd.readouterr().err

    assert "relay.started" in written
    assert "\x1b[" not in written
    with pytest.raises(json.JSONDecodeError):
        json.loads(written)
