"""Trifacta (Designer Cloud): runs recipes' jobs, reports their end by webhook."""

from relay.core.vendor import Operation, Vendor
from relay.vendors.trifacta import flows, reports
from relay.vendors.trifacta.wire import OfJobGroup, RunRecipe, TrifactaOptions

RUN = Operation(
    name="run",
    kind="tracked",
    parameters=RunRecipe,
    submit=flows.run,
    find=flows.find_run,
    callback=True,
)
WATCH = Operation(name="watch", kind="tracked", parameters=OfJobGroup, submit=flows.watch, repeatable=True)
STATUS = Operation(name="status", kind="immediate", parameters=OfJobGroup, submit=flows.status, repeatable=True)
CANCEL = Operation(
    name="cancel",
    kind="immediate",
    parameters=OfJobGroup,
    submit=flows.cancel_job_group,
    repeatable=True,  # stopping what has ended does nothing
)

VENDOR = Vendor(
    name="trifacta",
    title="Trifacta (Designer Cloud)",
    options=TrifactaOptions,
    operations={operation.name: operation for operation in (RUN, WATCH, STATUS, CANCEL)},
    authenticate=flows.authenticate,
    greeting=flows.GREETING,
    poll=flows.poll,
    cancel=flows.cancel,
    verify=flows.verify,
    read_callback=flows.read_callback,
    callback_job_id=reports.callback_job_id,
)
