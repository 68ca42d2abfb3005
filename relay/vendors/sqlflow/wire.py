"""What SQLFlow takes: parameters of each operation, and the settings of a connection.

Submit a regular job: the page "Submit a regular job" (/submitPersistJob) of https://docs.gudusoft.com
All of its interface: https://api.gudusoft.com/api/gspLive_backend (OpenAPI, groups "User" and "Job")

Parameters go out as fields of a form, by the vendor's names. What words there are for `dbvendor` and the like differs
by release, so relay leaves them alone.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from relay.core.vendor import Options, Parameters, Secret, VendorId, VendorObject

LARGEST = 50 * 1024 * 1024
"""Bytes that all files of one submit may have together."""

# --- files ---------------------------------------------------------------------------------------------------------


def _file_name(name: str) -> str:
    if not name.isprintable() or not name.strip(". ") or not set(name).isdisjoint('/\\"'):
        raise ValueError("a file's name is printable, and holds no path and no \"")
    return name


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("this is not base64 (RFC 4648, with its padding, on one line)") from error
    return text


class SqlFile(VendorObject, extra="forbid"):
    """A file for SQLFlow to read: SQL, or a zip of such. Its content stands here, or is fetched at the submit."""

    name: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_file_name)]
    text: str | None = Field(default=None, repr=False)
    """The content, sent as UTF-8."""
    base64: Annotated[str | None, AfterValidator(lambda text: text and _base64(text))] = Field(default=None, repr=False)
    """The content of a file that is no text, such as a zip."""
    url: str | None = Field(default=None, repr=False)
    """Where relay fetches the content, as the egress settings allow; at most 50 MiB in all."""

    @model_validator(mode="after")
    def _one_source(self) -> "SqlFile":
        given = [value for value in (self.text, self.base64, self.url) if value is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `text`, `base64` and `url`")
        return self

    @property
    def size(self) -> int:
        """The bytes that stand in the request: about, for base64."""
        return len((self.text or "").encode()) + len(self.base64 or "") * 3 // 4


# --- schedules -----------------------------------------------------------------------------------------------------


class _CronField(NamedTuple):
    what: str
    first: int
    last: int
    names: Sequence[str] = ()
    """Words for the numbers from `first` on."""


_CRON = (
    _CronField("minute", 0, 59),
    _CronField("hour", 0, 23),
    _CronField("day of the month", 1, 31),
    _CronField("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    _CronField("day of the week", 0, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)


def checked_cron(text: str) -> str:
    """The cron expression, if it is one of the classic five fields, as the vendor's example `0 1 * * *` is. Raises
    ValueError.

    Each field is a list of `*`, values and ranges, the first and last with a step: `*/15`, `1-5`, `0,30`,
    `9-17/2`; months and days of the week may be named (JAN, MON), and Sunday is 0 or 7. The six and seven fields,
    `?`, `L`, `W`, `#` and `@daily` of other schedulers are refused.
    """
    fields = text.split()
    if len(fields) != len(_CRON):
        raise ValueError(
            "a cron expression has five fields (minute, hour, day of the month, month, day of the week), "
            f"such as `0 1 * * *`; this one has {len(fields)}"
        )
    for field, kind in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            if not _is_cron_part(part, kind):
                raise ValueError(
                    f"{part!r} is no {kind.what}: it can be `*`, a value from {kind.first} to {kind.last}, "
                    "a range such as 1-5, and with `*` or a range a step such as */2"
                )
    return text


def _is_cron_part(part: str, kind: _CronField) -> bool:
    span, stepped, step = part.partition("/")
    low, ranged, high = span.partition("-")
    if stepped and not (_number(step) and (span == "*" or ranged)):
        return False
    if span == "*":
        return True
    first, last = _cron_value(low, kind), _cron_value(high if ranged else low, kind)
    return first is not None and last is not None and first <= last


def _cron_value(text: str, kind: _CronField) -> int | None:
    named = text.upper()
    value = kind.first + kind.names.index(named) if named in kind.names else _number(text)
    return value if value is not None and kind.first <= value <= kind.last else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


# --- parameters ----------------------------------------------------------------------------------------------------

JobName: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Submit(Parameters):
    """The vendor's request for a regular job, but for `dbvendor`."""

    job_id: VendorId | None = None
    """Absent for the first submit; for the next ones the id that the first was answered with."""
    job_name: JobName | None = None
    first_submit: bool | None = None
    """Whether this is the job's first submit; absent, it is one if there is no `jobId`."""
    incremental: bool | None = None
    """Whether SQLFlow adds to what it has read before; the vendor's default is true."""
    on_top: bool | None = None
    schedulable: bool | None = None
    """Have SQLFlow run the job by itself, as `cronExpression` says. relay's job then ends with its acceptance."""
    cron_expression: Annotated[str | None, AfterValidator(lambda text: text and checked_cron(text))] = None
    """Five fields, such as `0 1 * * *`: minute, hour, day of the month, month, day of the week."""
    sqlfiles: list[SqlFile] | None = Field(default=None, max_length=1000)
    sqlsource: str | None = None
    extra: str | None = None
    hostname: str | None = None
    """The database whose SQL is read, where it is not in files."""
    port: int | None = Field(default=None, ge=1, le=65535)
    account: str | None = None
    password: Annotated[str | None, Field(repr=False, json_schema_extra={"secret": True})] = None
    """The database account's password."""
    database: str | None = None
    default_database: str | None = None
    default_schema: str | None = None

    def urls(self) -> Iterable[tuple[str, str]]:
        """Where files are fetched."""
        for number, file in enumerate(self.sqlfiles or ()):
            if file.url is not None:
                yield f"sqlfiles[{number}].url", file.url

    @model_validator(mode="after")
    def _first_or_next(self) -> "Submit":
        if self.first_submit and self.job_id is not None:
            raise ValueError("a first submit has no `jobId`: leave out `jobId`, or `firstSubmit`")
        if self.first_submit is False and self.job_id is None and self.job_name is None:
            raise ValueError("`firstSubmit: false` needs the job that it goes on with: give its `jobId`")
        return self

    @model_validator(mode="after")
    def _has_its_schedule(self) -> "Submit":
        if self.schedulable and not self.cron_expression:
            raise ValueError("`schedulable: true` needs a `cronExpression`, such as `0 1 * * *`")
        return self

    @model_validator(mode="after")
    def _files_can_be_told_apart(self) -> "Submit":
        files = self.sqlfiles or []
        names = [file.name for file in files]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two of `sqlfiles` are named {twice[0]!r}: SQLFlow knows them by their names")
        if sum(file.size for file in files) > LARGEST:
            raise ValueError("`sqlfiles` are larger than 50 MiB together")
        return self


class RunJob(Submit):
    """Parameters of `run`: a job's first submit, or with `jobId` one of the next."""

    dbvendor: Annotated[str, Field(min_length=1)]
    """The SQL's dialect, such as `dbvoracle`."""


class RerunJob(Submit):
    """Parameters of `rerun`: `jobId` or `jobName` of a job that SQLFlow has; or, with `dbvendor`, all that `run`
    takes."""

    dbvendor: Annotated[str | None, Field(min_length=1)] = None
    """The SQL's dialect. With it this is a submit, without it the job is run again as it is."""

    @model_validator(mode="after")
    def _a_submit_or_a_job(self) -> "RerunJob":
        if self.dbvendor is not None:
            return self
        others = self.model_fields_set - {"job_id", "job_name", "dbvendor"}
        if others or (self.job_id is None) == (self.job_name is None):
            raise ValueError("give `jobId` or `jobName` alone; or `dbvendor` and what else `run` takes")
        return self


class OfJob(Parameters):
    """Parameters of the operations on a job that the vendor has: its `jobId` or its `jobName`."""

    job_id: VendorId | None = None
    job_name: JobName | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "OfJob":
        if (self.job_id is None) == (self.job_name is None):
            raise ValueError("give either `jobId` or `jobName`: exactly one of the two")
        return self


class JobDetails(OfJob):
    """Parameters of `details`: a job's summary, and with `export` the lineage that it has found."""

    export: Literal["exportLineageAsJson", "exportFullLineageAsJson"] | None = None
    """Which of the vendor's exports is fetched; the fields below are theirs, and only `showRelationType` is both's."""
    show_relation_type: str | None = None
    """Such as `fdd,frd,fdr,join`."""
    database: str | None = None
    schema_: str | None = Field(default=None, alias="schema")
    table: str | None = None
    column: str | None = None
    table_to_table: bool | None = None
    simple_output: bool | None = None
    ignore_function: bool | None = None
    ignore_record_set: bool | None = None
    show_constant_table: bool | None = None
    show_link_only: bool | None = None
    show_transform: bool | None = None
    treat_arguments_in_count_function_as_direct_dataflow: bool | None = None

    @model_validator(mode="after")
    def _fields_of_the_export(self) -> "JobDetails":
        own = {"job_id", "job_name", "export"}
        taken = {
            None: own,
            "exportFullLineageAsJson": own | {"show_relation_type"},
            "exportLineageAsJson": own | set(type(self).model_fields),
        }
        strangers = self.model_fields_set - taken[self.export]
        if strangers:
            names = sorted(type(self).model_fields[name].alias or name for name in strangers)
            what = f"`export: {self.export}`" if self.export else "a summary without `export`"
            raise ValueError(f"{what} takes no {', '.join(f'`{name}`' for name in names)}")
        return self


class OfAccount(Parameters):
    """`history` and `listRunning` take no parameters: the vendor tells all jobs of the user."""


# --- settings ------------------------------------------------------------------------------------------------------

Outcome: TypeAlias = Literal["queued", "running", "succeeded", "succeededWithWarnings", "failed", "canceled"]


class SqlflowOptions(Options):
    """Settings of a connection to SQLFlow: who asks, and what differs between installations."""

    user_id: Annotated[str, Field(min_length=1)]
    """The user, as the account page shows it (`auth0|…`, `google-oauth2|…`)."""
    secret_key: Secret | None = None
    """The user's secret key, with which relay fetches tokens and renews them."""
    token: Secret | None = None
    """A token, for an installation whose tokens do not expire or are not checked."""
    path_prefix: str = Field(default="/api", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """What stands before `/gspLive_backend` in every path: `/api`, or empty for older releases."""
    job_names: Literal["fill", "unique", "asGiven"] = "fill"
    """How an unanswered first submit is looked up. `fill`: a job without a name gets one of relay's, by which it is
    found. `unique`: likewise, and no name that producers give is ever used twice, so that those are found as well.
    `asGiven`: relay adds no name."""
    statuses: Mapping[str, Outcome] = Field(default_factory=dict)
    """What words mean that the vendor does not document, or documents otherwise here."""

    @model_validator(mode="after")
    def _one_way_in(self) -> "SqlflowOptions":
        if (self.secret_key is None) == (self.token is None):
            raise ValueError("give beside `userId` either `secretKey` or `token`: exactly one of the two")
        return self
