"""relays that break one promise each, to show that the checker would notice.

The nursery starts them: `RELAY_TEST_MUTANT` names the one that it is to be.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from relay.core.job import Job
from relay.core.vendor import CallbackAddress, Connection
from relay.edges.amqp.pipe import Answer, Pipe
from relay.ports import Ack, Disposition, Incoming, Outgoing
from relay.stages import announce
from relay.stages.accept import Accept
from relay.vendors.trifacta import REPORTING, flows

LATER = 0.5
"""Seconds after which the hasty one stores what it has acknowledged."""
_background: set[asyncio.Task[Any]] = set()


def acknowledge_before_commit() -> None:
    """Messages are acknowledged at once, and stored in a while."""
    intake = Accept.intake

    async def hasty(self: Accept, message: Incoming) -> Disposition:
        async def store() -> Disposition:
            await asyncio.sleep(LATER)
            return await intake(self, message)

        _spawn(store())
        return Ack()

    _replace(Accept, "intake", hasty)


def publish_without_confirm() -> None:
    """Events count as delivered as soon as they are on their way, whatever the broker says."""

    send = Pipe.send

    def hurried(self: Pipe, *message: Any, **how: Any) -> Answer:
        answer = send(self, *message, **how)
        answer.cancel()
        told: Answer = asyncio.get_running_loop().create_future()
        told.set_result(None)
        return told

    _replace(Pipe, "send", hurried)


def publish_without_mandatory() -> None:
    """Events count as delivered when the broker confirms them, though no queue may have taken them."""

    send = Pipe.send

    def careless(self: Pipe, *message: Any, **how: Any) -> Answer:
        return send(self, *message, **(how | {"mandatory": False}))

    _replace(Pipe, "send", careless)


def submit_again() -> None:
    """A submit whose answer was lost is sent once more, as if it were another."""
    run_request = flows.run_request

    def forgetful(connection: Connection, job: Job, callback: CallbackAddress | None) -> Any:
        return run_request(connection, replace(job, key=str(uuid.uuid4())), callback)

    _replace(flows, "run_request", forgetful)


def name_events_anew() -> None:
    """Each attempt at a delivery has an id of its own."""
    message = announce._message

    def renaming(delivery: Any) -> Outgoing:
        return replace(message(delivery), message_id=f"evt_{uuid.uuid4().hex}")

    _replace(announce, "_message", renaming)


def believe_anybody() -> None:
    """Whatever comes to a callback's address is taken for the vendor's word."""
    _replace(REPORTING, "verify", lambda *_: None)


def talk() -> None:
    """Secrets are written to the log."""
    outbound = announce.Announce._outbound

    def talkative(self: announce.Announce, receiver: Any, secrets: Any, *rest: Any) -> Any:
        announce.log.info("webhook.prepared", key_material=list(secrets))
        return outbound(self, receiver, secrets, *rest)

    _replace(announce.Announce, "_outbound", talkative)


MUTANTS: Mapping[str, Callable[[], None]] = {
    mutate.__name__: mutate
    for mutate in (
        acknowledge_before_commit,
        publish_without_confirm,
        publish_without_mandatory,
        submit_again,
        name_events_anew,
        believe_anybody,
        talk,
    )
}


def _spawn(work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


def _replace(owner: Any, name: str, by: Any) -> None:
    """Set it even where it is frozen."""
    assert hasattr(owner, name)
    if isinstance(owner, type) or not hasattr(owner, "__dataclass_fields__"):
        setattr(owner, name, by)
    else:
        object.__setattr__(owner, name, by)
