"""Places where a test may end, freeze or fail the process; inert unless set at start.

    RELAY_FAILPOINTS="store.after_commit:kill:3,amqp.before_ack:stop"

Each entry is `name:action[:nth]`; the action happens at the nth hit of that name (default the first), once.
Actions: `kill` (as kill -9), `stop` (as SIGSTOP), `error` (raises Tripped).
"""

import os
import signal
from collections.abc import Callable

KNOWN = (
    "amqp.delivered",
    "amqp.before_ack",
    "amqp.after_ack",
    "amqp.before_publish",
    "amqp.before_confirm",
    "amqp.after_confirm",
    "store.before_commit",
    "store.after_commit",
    "accept.before_store",
    "accept.after_store",
    "work.before_start",
    "work.after_start",
    "work.before_record",
    "work.after_record",
    "vendor.before_request",
    "vendor.after_response",
    "receive.before_store",
    "receive.after_store",
    "receive.before_record",
    "receive.after_record",
    "announce.before_record",
    "announce.after_record",
    "webhook.before_send",
    "webhook.after_answer",
)
"""Every failpoint in the code, along a job's path."""


class Tripped(Exception):
    """A failpoint with the action `error` was hit."""


_armed: dict[str, tuple[str, int]] = {}


def arm(plan: str) -> None:
    """Set the failpoints; raises ValueError for a name or action that does not exist."""
    _armed.clear()
    for entry in filter(None, (part.strip() for part in plan.split(","))):
        name, _, how = entry.partition(":")
        action, _, nth = how.partition(":")
        if name not in KNOWN or action not in _ACTIONS or not (nth.isascii() and (nth or "1").isdigit()):
            raise ValueError(f"RELAY_FAILPOINTS: {entry!r} is not name:kill|stop|error[:nth] of a known name")
        _armed[name] = (action, int(nth or "1"))


def hit(name: str) -> None:
    """Pass a failpoint."""
    if not _armed or name not in _armed:
        return
    action, left = _armed[name]
    if left > 1:
        _armed[name] = (action, left - 1)
        return
    del _armed[name]
    _ACTIONS[action](name)


def _fail(name: str) -> None:
    raise Tripped(name)


_ACTIONS: dict[str, Callable[[str], None]] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "error": _fail,
}
