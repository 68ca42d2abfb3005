"""Trifacta (Designer Cloud): runs recipes' jobs, reports their end by webhook."""

from relay.core.vendor import Operation, Reporting, Vendor
from relay.vendors.trifacta import flows, login, reports
from relay.vendors.trifacta.wire import OfJobGroup, RunRecipe, TrifactaOptions

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
WATCH = Operation(
    name="watch",
    parameters=OfJobGroup,
    submit=flows.watch,
    poll=flows.poll,
    cancel=flows.cancel,
    repeatable=True,
)
STATUS = Operation(name="status", parameters=OfJobGroup, submit=flows.status, repeatable=True)
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
    operations={operation.name: operation for operation in (RUN, WATCH, STATUS, CANCEL)},
    authenticate=login.authenticate,
    greeting=flows.greeting,
    remembers=login.remembers,
)
