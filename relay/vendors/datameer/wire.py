"""What Datameer takes: parameters of each operation, and the settings of a connection.

Job commands: https://datameer.atlassian.net/wiki/spaces/DAS110/pages/31973445032 ("REST API Job Commands")

A job here is a file of Datameer's (an import, a workbook, an export), each run of it an execution with an id of its
own. `/api/…` asks by file, the older `/rest/…` by the ids of a job's configuration or of one execution.
"""

from datetime import UTC, tzinfo
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, PlainValidator

from relay.core.flow import JsonValue, leads_up
from relay.core.vendor import Options, Parameters, Secret, VendorId

LONGEST_PATH = 1000


def _file(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > LONGEST_PATH:
        raise ValueError(f"a file is its number, its uuid, or its path (at most {LONGEST_PATH} characters)")
    if leads_up(value):
        raise ValueError("a path must not hold the segments . and ..: give the file's whole path, or its number")
    return value


FileRef: TypeAlias = Annotated[int | str, PlainValidator(_file, json_schema_input_type=int | str)]
"""A file by its number, its uuid or its path (`/Users/analyst/Sales.wbk`)."""


def segment(file: int | str) -> str:
    """The file as one segment of a path: whatever it holds, it cannot lead elsewhere."""
    return quote(str(file), safe="")


class OfFile(Parameters):
    """Parameters of `run`, `rerun`, `watch`, `status` and `cancel`: they are about a file."""

    file: FileRef
    """The file whose job is meant: its number, its uuid or its path."""


class RunSequence(Parameters):
    """Parameters of `runSequence`: jobs that run one after the other, with all that depends on them."""

    sequence: list[VendorId] = Field(min_length=1)
    """The jobs, in their order. All workbooks in the chain have to be data-driven."""
    variables: dict[str, JsonValue] | None = None
    """Values for workbooks' variables."""
    file_ids: list[VendorId] | None = None
    """The files that the variables are for."""


class History(Parameters):
    """Parameters of `history`: a page of a job's executions, the newest first."""

    configuration: VendorId
    """The id of the job's configuration (not of its file)."""
    start: int = Field(default=0, ge=0)
    """How many of the newest to skip."""
    length: int = Field(default=10, ge=1)
    """How many to tell."""


class OfExecution(Parameters):
    """Parameters of `details`."""

    execution: VendorId
    """The id of the execution."""


class Nothing(Parameters):
    """Parameters of `listRunning`: there are none."""


class OfData(Parameters):
    """Parameters of `delete`."""

    data: VendorId
    """The id of the data to remove."""


def zone_named(name: str) -> tzinfo:
    """The zone with this IANA name; UTC needs no zone database. Raises KeyError, ValueError or OSError for no zone."""
    return UTC if name == "UTC" else ZoneInfo(name)


def _zone(name: str) -> str:
    try:
        zone_named(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("no such time zone: give an IANA name, such as Europe/Berlin or UTC") from error
    return name


class DatameerOptions(Options):
    """Settings of a connection to Datameer: who asks, and what the documents leave open."""

    username: str = Field(pattern=r"^[^:\x00-\x1f\x7f]+$")
    """Who asks. A colon cannot be part of it."""
    password: Secret
    """The password that goes with the name."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The time zone of the server, as an IANA name: its dates name none."""
    sequence_separator: str = Field(default=",", min_length=1, max_length=3)
    """What stands between the ids of a sequence; the documents do not say."""
