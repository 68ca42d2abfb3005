"""Tailer: launches a configuration's runs, tells how runs stand, switches configurations on and off."""

from relay.core.vendor import Operation, Parameters, Submit, Vendor
from relay.vendors.tailer import flows, login
from relay.vendors.tailer.wire import (
    History,
    LastStatus,
    Launch,
    ListRunning,
    OfConfiguration,
    OfRun,
    OfSomeRun,
    OfWorkflow,
    TailerOptions,
)

NOT_YET_VISIBLE = 300.0
"""Seconds for which a launched run may not be listed: the vendor's scheduler has to start it first."""


def _launching(name: str) -> Operation:
    """A launch has no key, and the runs that are listed do not say who launched them: nothing to find one by."""
    return Operation(name=name, parameters=Launch, submit=flows.run, poll=flows.poll, not_found_grace=NOT_YET_VISIBLE)


def _repeatable(name: str, parameters: type[Parameters], submit: Submit) -> Operation:
    """Those that only read, or leave the same behind when done twice."""
    return Operation(name=name, parameters=parameters, submit=submit, repeatable=True)


RUN = _launching("run")
RERUN = _launching("rerun")
WATCH = Operation(name="watch", parameters=OfRun, submit=flows.watch, poll=flows.poll, repeatable=True)
STATUS = _repeatable("status", OfRun, flows.status)
LAST_STATUS = _repeatable("lastStatus", LastStatus, flows.last_status)
HISTORY = _repeatable("history", History, flows.history)
DETAILS = _repeatable("details", OfSomeRun, flows.details)
LIST_RUNNING = _repeatable("listRunning", ListRunning, flows.list_running)
ENABLE = _repeatable("enable", OfConfiguration, flows.enable)
DISABLE = _repeatable("disable", OfConfiguration, flows.disable)
ARCHIVE = _repeatable("archive", OfConfiguration, flows.archive)
RESET = _repeatable("reset", OfWorkflow, flows.reset)

VENDOR = Vendor(
    name="tailer",
    title="Tailer",
    options=TailerOptions,
    operations={
        operation.name: operation
        for operation in (
            RUN,
            RERUN,
            WATCH,
            STATUS,
            LAST_STATUS,
            HISTORY,
            DETAILS,
            LIST_RUNNING,
            ENABLE,
            DISABLE,
            ARCHIVE,
            RESET,
        )
    },
    authenticate=login.authenticate,
    greeting=flows.greeting,
    unauthorized=login.unauthorized,
)
