"""Datameer: runs the jobs of its files, by number, uuid or path; tells of their end only who asks."""

from relay.core.vendor import Operation, Vendor
from relay.vendors.datameer import flows
from relay.vendors.datameer.wire import DatameerOptions, History, Nothing, OfData, OfExecution, OfFile, RunSequence

# A run has neither key nor look-up: nothing that Datameer tells of an execution says whose trigger made it.
RUN = Operation(name="run", parameters=OfFile, submit=flows.run, poll=flows.poll, cancel=flows.cancel)
RERUN = Operation(name="rerun", parameters=OfFile, submit=flows.run, poll=flows.poll, cancel=flows.cancel)
RUN_SEQUENCE = Operation(
    name="runSequence", parameters=RunSequence, submit=flows.run_sequence, poll=flows.poll_sequence
)
WATCH = Operation(
    name="watch", parameters=OfFile, submit=flows.watch, poll=flows.poll, cancel=flows.cancel, repeatable=True
)
STATUS = Operation(name="status", parameters=OfFile, submit=flows.status, repeatable=True)
HISTORY = Operation(name="history", parameters=History, submit=flows.history, repeatable=True)
DETAILS = Operation(name="details", parameters=OfExecution, submit=flows.details, repeatable=True)
LIST_RUNNING = Operation(name="listRunning", parameters=Nothing, submit=flows.list_running, repeatable=True)
# Not repeatable: a second stop may hit another execution than the first.
CANCEL = Operation(name="cancel", parameters=OfFile, submit=flows.cancel_file)
DELETE = Operation(name="delete", parameters=OfData, submit=flows.delete, repeatable=True)

OPERATIONS = (RUN, RERUN, RUN_SEQUENCE, WATCH, STATUS, HISTORY, DETAILS, LIST_RUNNING, CANCEL, DELETE)

VENDOR = Vendor(
    name="datameer",
    title="Datameer",
    options=DatameerOptions,
    operations={operation.name: operation for operation in OPERATIONS},
    authenticate=flows.authenticate,
    greeting=flows.greeting,
)
