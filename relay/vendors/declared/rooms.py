"""A declared vendor's room, from a file of exchanges with it: what `relay vendors test` holds it by.

    options: {token: some-token}                 # valid settings of a connection, with made-up secrets
    vendorJob: run-7001                          # what the vendor's id of a job looks like
    parameters: {run: {report: sales}}           # valid ones for each operation
    poll: {json: {id: run-7001, state: $word}}   # what it answers to a look at a run in each of its states
    exchanges:
      - name: a run
        operation: run
        act: submit                              # or find, poll, cancel
        asks:
          - request: {method: POST, path: /reports/sales/runs}
            answer: {status: 202, json: {run: {id: run-7001}}}
        endsIn: {fact: Submitted, vendorJobId: run-7001}

Of a request only what the file gives is compared. Callbacks need a signature and so code: they are not tried.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import Flow, JsonValue, Request, Response
from relay.core.room import CALLBACK, VENDOR_JOB, Recorded, Room, Unplayed
from relay.core.vendor import Vendor
from relay.vendors.declared.wire import Declaration

Act: TypeAlias = Literal["submit", "find", "poll", "cancel"]
End: TypeAlias = Literal[
    "Submitted",
    "Answered",
    "Refused",
    "NotSent",
    "Unanswered",
    "NotFound",
    "StillRunning",
    "Succeeded",
    "Failed",
    "Canceled",
    "PollFailed",
]
"""The facts that a conversation with a declared vendor may end in."""
_WORD = "$word"

_BECOMES: Mapping[str, type[Fact]] = {
    "queued": facts.StillRunning,
    "running": facts.StillRunning,
    "succeeded": facts.Succeeded,
    "warnings": facts.Succeeded,
    "failed": facts.Failed,
    "canceled": facts.Canceled,
}


class Part(BaseModel):
    """A part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True)


class AskedPart(Part):
    """A request; what is not given is not compared."""

    method: str = "GET"
    path: str
    query: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    body: JsonValue = Field(default=None, alias="json")
    form: Mapping[str, str] | None = None


class AnswerPart(Part):
    """An answer: JSON, or a text."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: JsonValue = Field(default=None, alias="json")
    text: str | None = None

    def response(self, word: str = "") -> Response:
        """The answer, with the vendor's word in its place."""
        body = self.text if self.text is not None else "" if self.body is None else json.dumps(self.body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = body.replace(json.dumps(_WORD), json.dumps(word)).replace(_WORD, word)
        return Response(status=self.status, headers=headers, body=told.encode())


class ExchangePart(Part):
    """A request with its answer."""

    request: AskedPart
    answer: AnswerPart


class EndPart(Part):
    """The fact that a conversation ends in; what is not given is not compared."""

    fact: End
    vendor_job_id: str | None = None
    vendor_status: str | None = None
    error: str | None = None
    """The error's code."""
    message: str | None = None
    """A part of the error's message."""
    result: JsonValue = None


class ConversationPart(Part):
    """One act on one operation, from its first request to its fact."""

    name: str
    operation: str = "run"
    act: Act = "submit"
    asks: tuple[ExchangePart, ...] = ()
    ends_in: EndPart


class Exchanges(Part):
    """The file."""

    options: Mapping[str, Any] = {}
    vendor_job: str = VENDOR_JOB
    parameters: Mapping[str, Mapping[str, Any]]
    poll: AnswerPart
    exchanges: tuple[ConversationPart, ...] = ()


@dataclass(frozen=True, eq=False)
class _Asked:
    """Equal to every request that is as the file says."""

    part: AskedPart

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Request)  # nothing else is asked
        part = self.part
        given = {"query": part.query, "json": part.body, "form": part.form}
        same = (other.method.upper(), other.path) == (part.method.upper(), part.path)
        sent = {name.lower(): value for name, value in other.headers.items()}
        headed = all(sent.get(name.lower()) == value for name, value in (part.headers or {}).items())
        return same and headed and all(value in (None, getattr(other, name)) for name, value in given.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        said = self.part.model_dump(by_alias=True, exclude_defaults=True, exclude={"method", "path"})
        return f"{self.part.method} {self.part.path}{''.join(f' {name}={value!r}' for name, value in said.items())}"


@dataclass(frozen=True, eq=False)
class _End:
    """Equal to every fact that is as the file says."""

    part: EndPart

    def __eq__(self, other: object) -> bool:
        told = self._told(other)
        wanted = self.part.model_dump(exclude_none=True, exclude={"message"})
        named = self.part.message is None or self.part.message in str(told["message"])
        return named and all(told[name] == value for name, value in wanted.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(self.part.model_dump(exclude_none=True))

    @staticmethod
    def _told(fact: object) -> dict[str, Any]:
        error, ref = getattr(fact, "error", None), getattr(fact, "ref", None)
        return {
            "fact": type(fact).__name__,
            "vendor_job_id": ref.id if ref else getattr(fact, "vendor_job_id", None),
            "vendor_status": getattr(fact, "status", None) or (ref.status if ref else None),
            "error": error.code.value if error else None,
            "message": error.message if error else None,
            "result": getattr(fact, "result", None),
        }


def room_of(vendor: Vendor, declaration: Declaration, exchanges: Exchanges) -> Room:
    """The room of a vendor that is declared so."""
    status = declaration.operations["run"].status if "run" in declaration.operations else None
    secrets = [str(value) for value in exchanges.options.values()]
    bare = Room(
        vendor=vendor,
        options=exchanges.options,
        secrets=[*secrets, CALLBACK.secret, CALLBACK.url],
        parameters={name: exchanges.parameters.get(name, {}) for name in vendor.operations},
        words={word: _BECOMES[name] for word, name in status.map.words()} if status else {},
        poll_answer=exchanges.poll.response,
        vendor_job=exchanges.vendor_job,
    )
    recorded = [_recorded(bare, part) for part in exchanges.exchanges]
    return Room(**{**{name: getattr(bare, name) for name in bare.__dataclass_fields__}, "recorded": recorded})


def _recorded(room: Room, part: ConversationPart) -> Recorded:
    return Recorded(
        name=part.name,
        flow=partial(_begun, room, part.operation, part.act),
        exchanges=[(cast("Request", _Asked(each.request)), each.answer.response()) for each in part.asks],
        ends_in=cast("Fact", _End(part.ends_in)),
    )


def _begun(room: Room, name: str, act: Act) -> Flow[Fact]:
    if name not in room.vendor.operations:
        raise Unplayed(f"{room.name} has no operation {name!r}")
    operation, connection = room.vendor.operations[name], room.connection()
    if act == "submit":
        return operation.submit(connection, room.job(name), CALLBACK)
    if act == "find" and operation.find is not None:
        return operation.find(connection, room.job(name), CALLBACK)
    ask = {"poll": operation.poll, "cancel": operation.cancel}.get(act)
    if ask is None:
        raise Unplayed(f"{name} of {room.name} has no {act}")
    return ask(connection, room.running(name))
