"""SQLFlow (Gudu): finds the lineage in SQL; submits its jobs, follows them by polling."""

from relay.core.vendor import Operation, Vendor
from relay.vendors.sqlflow import flows, reports
from relay.vendors.sqlflow.wire import JobDetails, OfAccount, OfJob, RerunJob, RunJob, SqlflowOptions

RUN = Operation(name="run", parameters=RunJob, submit=flows.run, find=flows.find, poll=flows.poll)
RERUN = Operation(name="rerun", parameters=RerunJob, submit=flows.rerun, find=flows.find, poll=flows.poll)
WATCH = Operation(name="watch", parameters=OfJob, submit=flows.watch, poll=flows.poll, repeatable=True)
STATUS = Operation(name="status", parameters=OfJob, submit=flows.status, repeatable=True)
HISTORY = Operation(name="history", parameters=OfAccount, submit=flows.history, repeatable=True)
LIST_RUNNING = Operation(name="listRunning", parameters=OfAccount, submit=flows.list_running, repeatable=True)
DETAILS = Operation(name="details", parameters=JobDetails, submit=flows.details, repeatable=True)
ENABLE = Operation(name="enable", parameters=OfJob, submit=flows.enable, repeatable=True)
DISABLE = Operation(name="disable", parameters=OfJob, submit=flows.disable, repeatable=True)
DELETE = Operation(name="delete", parameters=OfJob, submit=flows.delete, repeatable=True)

OPERATIONS = (RUN, RERUN, WATCH, STATUS, HISTORY, LIST_RUNNING, DETAILS, ENABLE, DISABLE, DELETE)

VENDOR = Vendor(
    name="sqlflow",
    title="SQLFlow (Gudu)",
    options=SqlflowOptions,
    operations={operation.name: operation for operation in OPERATIONS},
    authenticate=flows.authenticate,
    greeting=flows.greeting,
    unauthorized=reports.unauthorized,
)
