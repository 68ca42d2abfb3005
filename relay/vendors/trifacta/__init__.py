"""Trifacta (Designer Cloud): runs recipes' jobs, reports their end by webhook."""

from dataclasses import replace

from relay.core.vendor import Operation, Reporting, Vendor
from relay.vendors.trifacta import asking, flows, login, publishing, reports, several
from relay.vendors.trifacta.wire import (
    Listing,
    OfJobGroup,
    Publish,
    RunDeployment,
    RunFlow,
    RunRecipe,
    TrifactaOptions,
)

REPORTING = Reporting(read=flows.read_callback, job_id=reports.callback_job_id, verify=flows.verify)

RUN = Operation(
    name="run",
    parameters=RunRecipe,
    submit=flows.run,
    find=flows.find_run,
    poll=flows.poll,
    cancel=flows.cancel,
    callback=REPORTING,
)
RERUN = replace(RUN, name="rerun")
RUN_FLOW = Operation(
    name="runFlow",
    parameters=RunFlow,
    submit=several.run_flow,
    find=several.find_flow_run,
    poll=several.poll,
    cancel=several.cancel,
)
RUN_DEPLOYMENT = Operation(
    name="runDeployment",
    parameters=RunDeployment,
    submit=several.run_deployment,
    poll=several.poll,
    cancel=several.cancel,
)
PUBLISH = Operation(
    name="publish",
    parameters=Publish,
    submit=publishing.publish,
    find=publishing.find,
    poll=publishing.poll,
)
WATCH = Operation(
    name="watch",
    parameters=OfJobGroup,
    submit=flows.watch,
    poll=flows.poll,
    cancel=flows.cancel,
    repeatable=True,
)
STATUS = Operation(name="status", parameters=OfJobGroup, submit=flows.status, repeatable=True)
DETAILS = Operation(name="details", parameters=OfJobGroup, submit=asking.details, repeatable=True)
HISTORY = Operation(name="history", parameters=Listing, submit=asking.history, repeatable=True)
LIST_RUNNING = Operation(name="listRunning", parameters=Listing, submit=asking.list_running, repeatable=True)
CANCEL = Operation(
    name="cancel",
    parameters=OfJobGroup,
    submit=flows.cancel_job_group,
    repeatable=True,  # stopping what has ended does nothing
)

VENDOR = Vendor(
    name="trifacta",
    title="Trifacta (Designer Cloud)",
    options=TrifactaOptions,
    operations={
        operation.name: operation
        for operation in (
            RUN,
            RERUN,
            RUN_FLOW,
            RUN_DEPLOYMENT,
            PUBLISH,
            WATCH,
            STATUS,
            DETAILS,
            HISTORY,
            LIST_RUNNING,
            CANCEL,
        )
    },
    authenticate=login.authenticate,
    greeting=flows.greeting,
    remembers=login.remembers,
)
