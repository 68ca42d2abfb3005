"""What `relay demo` shows: the connections to its stand-in vendors, and the requests that it makes."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

PATIENCE = 60.0
"""Seconds after which a demonstration that has not come to its end has failed."""
VENDOR_JOB = "$vendorJobId"
"""In a request: the vendor's id of the job that it comes after."""
DECLARED = "acme"
"""The vendor that is declared in YAML alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One request of the demonstration and how it is to end. It is made when the request `after` is in the state
    `when`."""

    request_id: str
    request: Mapping[str, Any]
    ends: str
    story: str
    after: str | None = None
    when: str = "running"


def connections(urls: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """A connection to each vendor at its URL, called after it."""
    secret = secrets.token_urlsafe(16)
    settings: dict[str, dict[str, Any]] = {
        "trifacta": {"token": secret},
        "datameer": {"username": "demo", "password": secret},
        "tailer": {"token": secret, "account": "000099", "environment": "DEV"},
        "sqlflow": {"userId": "demo", "secretKey": secret},
        DECLARED: {"token": secret},
    }
    return {f"{name}-demo": {"vendor": name, "baseUrl": urls[name], **settings[name]} for name in settings}


def declaration() -> Any:
    """The vendor without code, as its file declares it."""
    return yaml.safe_load(files("relay.vendors.declared").joinpath(f"{DECLARED}.yaml").read_text("utf-8"))


def asked(vendor: str, operation: str, parameters: Mapping[str, Any], **completion: Any) -> dict[str, Any]:
    """A request to a vendor."""
    return {
        "connection": f"{vendor}-demo",
        "operation": operation,
        "parameters": parameters,
        "completion": {"timeout": PATIENCE, **completion},
        "metadata": {"team": "demo"},
    }


def recipe(number: int, **completion: Any) -> dict[str, Any]:
    """A request to run a recipe at Trifacta."""
    return asked("trifacta", "run", {"wrangledDataset": {"id": number}}, **completion)


POLLED = {"mode": "poll", "pollInterval": 0.3}

SCENES: Sequence[Scene] = (
    Scene(
        request_id="demo-success",
        request=recipe(28629, **POLLED),
        ends="succeeded",
        story="Trifacta: relay polls until the vendor says Complete",
    ),
    Scene(
        request_id="demo-failure",
        request=recipe(9001, **POLLED),
        ends="failed",
        story="Trifacta: the vendor's own error comes out",
    ),
    Scene(
        request_id="demo-webhook",
        request=recipe(28630),
        ends="succeeded",
        story="Trifacta: the vendor's signed webhook tells, no poll needed",
    ),
    Scene(
        request_id="demo-lost",
        request=recipe(9013),
        ends="succeeded",
        story="Trifacta: the submit's answer is lost: found again, not sent twice",
    ),
    Scene(
        request_id="demo-sequence",
        request=asked("datameer", "runSequence", {"sequence": [4, 5, 6], "variables": {"day": "today"}}, **POLLED),
        ends="succeeded",
        story="Datameer: three jobs, one after the other; ends when the last has",
    ),
    Scene(
        request_id="demo-tailer",
        request=asked(
            "tailer", "run", {"configurationType": "table-to-table", "configurationId": "000099_sales"}, **POLLED
        ),
        ends="succeeded",
        story="Tailer: waits for its slot there, then runs",
    ),
    Scene(
        request_id="demo-upload",
        request=asked(
            "sqlflow",
            "run",
            {
                "dbvendor": "dbvmssql",
                "jobName": "lineage",
                "sqlfiles": [{"name": "sales.sql", "text": "create view sales as select * from orders"}],
            },
            **POLLED,
        ),
        ends="succeeded",
        story="SQLFlow: a file goes with the request and is uploaded",
    ),
    Scene(
        request_id="demo-declared",
        request=asked(DECLARED, "run", {"report": "weekly"}),
        ends="succeeded",
        story="Acme, declared in YAML alone: its signed webhook tells",
    ),
    Scene(
        request_id="demo-endless",
        request=recipe(9003, **POLLED),
        ends="canceled",
        story="Trifacta: never ends by itself, and is canceled",
    ),
    Scene(
        request_id="demo-cancel",
        request={"operation": "cancel", "target": {"requestId": "demo-endless"}},
        after="demo-endless",
        ends="succeeded",
        story="cancels demo-endless; a job of its own",
    ),
    Scene(
        request_id="demo-publish",
        request=asked(
            "trifacta",
            "publish",
            {
                "jobGroup": VENDOR_JOB,
                "connection": {"id": 1},
                "path": ["default"],
                "table": "sales",
                "action": "create",
                "inputFormat": "avro",
                "flowNodeId": 10,
            },
            **POLLED,
        ),
        after="demo-success",
        when="succeeded",
        ends="succeeded",
        story="Trifacta: what demo-success made is published; ends when the publishing has",
    ),
)
