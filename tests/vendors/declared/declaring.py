"""Declarations in the making: one to vary, and vendors made of them."""

from collections.abc import Mapping
from typing import Any

from relay.core.facts import Fact
from relay.core.flow import Flow, Request, Response
from relay.core.job import Job, JobSpec, State
from relay.core.room import ACCEPTED_AT, KEY, drive
from relay.core.vendor import CallbackAddress, Connection, Operation, Vendor
from relay.vendors.declared import Declaration, vendor_of

SUBMIT: Mapping[str, Any] = {"request": {"method": "POST", "path": "/jobs"}, "jobId": "id"}
STATUS: Mapping[str, Any] = {
    "request": {"path": "/jobs/${job.vendorJobId}"},
    "state": "state",
    "map": {"running": ["RUNNING"], "succeeded": ["DONE"], "failed": ["ERROR"], "canceled": ["STOPPED"]},
}
ANY: Mapping[str, Any] = {"additionalProperties": True}
"""Parameters of any names."""


def tracked(**parts: Any) -> dict[str, Any]:
    """An operation that is followed, with these parts in place of its own."""
    return {"parameters": ANY, "submit": SUBMIT, "status": STATUS, **parts}


def asked(request: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """An operation that is one request."""
    return {"parameters": ANY, "submit": {"request": request}, **parts}


def vendor(*, run: Mapping[str, Any] | None = None, **parts: Any) -> Vendor:
    """The vendor that these parts declare."""
    return vendor_of("v", Declaration.model_validate({"operations": {"run": run or tracked()}, **parts}))


def connection(vendor: Vendor, base_url: str = "https://vendor.test", **options: Any) -> Connection:
    """A connection with these settings."""
    return Connection(name="c", vendor=vendor.name, base_url=base_url, options=vendor.options.model_validate(options))


def job(parameters: Mapping[str, Any] | None = None, **changes: Any) -> Job:
    """A job in the midst of its submit."""
    spec = JobSpec(
        request_id="r-1",
        connection="c",
        vendor="v",
        operation="run",
        parameters=parameters or {},
        metadata={"team": "x"},
    )
    begun = {"key": KEY, "state": State.SUBMITTING, "attempt": 1, "accepted_at": ACCEPTED_AT}
    return Job(id="job_1", spec=spec, **{**begun, **changes})


def running(parameters: Mapping[str, Any] | None = None, **changes: Any) -> Job:
    """A job that the vendor is at work on."""
    return job(parameters, **{"state": State.RUNNING, "vendor_job_id": "7", "vendor_job_ids": ("7",), **changes})


def operation(vendor: Vendor) -> Operation:
    """Its run."""
    return vendor.operations["run"]


def first(flow: Flow[Fact]) -> Request | Fact:
    """What a flow asks first, or what it ends in without asking."""
    try:
        return next(flow)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def submitted(
    vendor: Vendor, parameters: Mapping[str, Any] | None = None, callback: CallbackAddress | None = None, **options: Any
) -> Request | Fact:
    """The request that a run begins with, or why there is none."""
    return first(operation(vendor).submit(connection(vendor, **options), job(parameters), callback))


def told(flow: Flow[Fact], *answers: Response) -> Fact:
    """What a flow ends in, given these answers one after the other."""
    left = list(answers)
    return drive(flow, lambda _: left.pop(0))  # type: ignore[no-any-return]
