"""Vendors without code: a declaration in YAML becomes a vendor."""

from collections.abc import Iterable
from functools import partial

from relay.core.flow import Flow
from relay.core.vendor import Connection, Credentials, Login, Operation, Reporting, Vendor
from relay.vendors.declared import flows
from relay.vendors.declared.plans import Mistake, Mistakes, Plan, plan_of
from relay.vendors.declared.slips import slips_in
from relay.vendors.declared.wire import Declaration, options_of

__all__ = ["Declaration", "Mistake", "Mistakes", "slips_in", "vendor_of"]


def vendor_of(name: str, declaration: Declaration, reserved: Iterable[str] = ()) -> Vendor:
    """The vendor that is declared. `reserved` are names of a connection's settings that are relay's own. Raises
    Mistakes, which tells all that is wrong."""
    plan = plan_of(name, declaration, reserved)

    def authenticate(connection: Connection, _: Login) -> Flow[Credentials]:
        return flows.authenticate(plan, connection)

    return Vendor(
        name=name,
        title=plan.title,
        options=options_of(plan.settings),
        operations={word: _operation(each) for word, each in plan.operations.items()},
        authenticate=authenticate,
        greeting=partial(flows.greeting, plan),
    )


def _operation(plan: Plan) -> Operation:
    tracked = plan.status is not None
    finds = plan.find is not None or plan.submit.key_header is not None
    return Operation(
        name=plan.operation,
        parameters=plan.parameters,
        submit=partial(flows.submit, plan),
        find=partial(flows.find, plan) if finds else None,
        poll=partial(flows.poll, plan) if tracked else None,
        cancel=partial(flows.cancel, plan) if plan.cancel is not None else None,
        callback=_reporting(plan) if plan.report is not None else None,
        repeatable=plan.repeatable,
        not_found_grace=plan.not_found_grace,
    )


def _reporting(plan: Plan) -> Reporting:
    signed = plan.report is not None and plan.report.check is not None
    return Reporting(
        read=partial(flows.read_callback, plan),
        job_id=partial(flows.callback_job_id, plan),
        verify=partial(flows.verify, plan) if signed else None,
    )
