"""What Trifacta takes: parameters of each operation, and the settings of a connection.

Run a job: https://api.trifacta.com/ee/9.7/index.html#operation/runJobGroup
Read a job group: https://api.trifacta.com/ee/9.7/index.html#operation/getJobGroup
Authentication: https://api.trifacta.com/ee/9.7/index.html#section/Authentication

The vendor does not check override values: a bad one fails the job later. So relay checks shapes, where a mistake is
plain, and leaves words (formats, actions, engines) alone, since they differ by edition. Inside the vendor's own
objects every documented field may be null, and unknown fields pass.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from relay.core.flow import JsonValue
from relay.core.vendor import Options, Parameters, Secret, VendorId, VendorObject


class Reference(VendorObject):
    """Something that the vendor already has."""

    id: VendorId


class Setting(VendorObject):
    """One named value."""

    key: str
    value: JsonValue


class SparkOption(VendorObject):
    """One Spark property; only those that an administrator has enabled take effect."""

    key: str
    value: str


class RunParameterList(VendorObject):
    """Parameter values, as a list."""

    data: list[Setting] | None = None


class RunParameters(VendorObject):
    """Values for the flow's parameters, its parameterised datasets and outputs."""

    overrides: RunParameterList | None = None


class WriteSetting(VendorObject):
    """A file that the job writes instead of its own outputs."""

    path: str
    format: str | None = None
    action: str | None = None
    compression: str | None = None
    header: bool | None = None
    as_single_file: bool | None = None
    delim: str | None = None
    has_quotes: bool | None = None
    include_mismatches: bool | None = None


class Publication(VendorObject):
    """A table that the job writes; those attached to the recipe are then left alone."""

    path: list[str] | None = None
    table_name: str
    action: str | None = None
    target_type: str | None = None
    connection_id: VendorId | None = None


class Webhook(VendorObject):
    """A request that the vendor sends when the job ends."""

    name: str
    url: str
    method: str
    trigger_event: str
    body: JsonValue = None
    headers: dict[str, str] | None = Field(default=None, repr=False)
    ssl_verification: bool | None = None
    secret_key: Annotated[str | None, Field(repr=False, json_schema_extra={"secret": True})] = None
    """Key that the vendor signs with."""
    retry_on_failure: bool | None = None


class Overrides(VendorObject):
    """What this one run does differently from the recipe's own settings."""

    execution: str | None = None
    """Running environment: photon, spark, emrSpark, databricksSpark, dataflow, … as the edition has it."""
    profiler: bool | None = None
    datasources: dict[str, list[str]] | None = None
    """Full paths by the dataset's display name; each list replaces the dataset's files."""
    writesettings: list[WriteSetting] | None = None
    publications: list[Publication] | None = None
    webhooks: list[Webhook] | None = None
    spark_options: list[SparkOption] | None = None
    databricks_options: list[Setting] | None = None
    run_parameters: RunParameters | None = None


class RunRecipe(Parameters):
    """Parameters of `run`: the vendor's request for one recipe's job."""

    wrangled_dataset: Reference
    """The recipe."""
    overrides: Overrides | None = None
    run_parameters: RunParameters | None = None
    force_cache_update: bool | None = None
    ignore_recipe_errors: bool | None = None
    test_mode: bool | None = None
    """Only check whether the job could run: it ends with the vendor's answer."""
    ranfrom: str | None = None


class RunFlow(Parameters):
    """Parameters of `runFlow`: the flow, and beside it the vendor's request for all of its outputs."""

    flow: VendorId
    run_parameters: RunParameters | None = None
    execution: str | None = None
    spark_options: list[SparkOption] | None = None
    databricks_options: list[Setting] | None = None
    schema_drift_options: VendorObject | None = None
    wrangled_dataset_ids: list[VendorId] | None = None
    """The recipes to run; all without it."""
    ignore_recipe_errors: bool | None = None
    schedule_execution_id: VendorId | None = None
    overrides: dict[str, Overrides] | None = None
    """What this one run does differently, by the recipe's name."""
    run_async: bool | None = None
    """Let the vendor answer before all jobs are made; goes into the query."""


class RunDeployment(Parameters):
    """Parameters of `runDeployment`: the deployment, and beside it the vendor's request for its active release."""

    deployment: VendorId
    run_parameters: RunParameters | None = None
    overrides: Overrides | None = None


class Publish(Parameters):
    """Parameters of `publish`: the results of a job, written to a table once more."""

    job_group: VendorId
    """The job whose results they are."""
    connection: Reference
    """The vendor's connection to the target."""
    path: list[str] | None = None
    """The way to the database or schema."""
    table: str
    action: str
    """create, load, createAndLoad, truncateAndLoad, dropAndLoad, …"""
    input_format: str
    """The format of the results that are read: avro, pqt, csv, json, … as the target takes it."""
    flow_node_id: VendorId | None = None
    """The recipe."""
    api_version: Literal["v4", "v3"] = "v4"
    """`v3` for releases before 6.4."""


class Listing(Parameters):
    """Parameters of `history` and `listRunning`: a page of the job library. `listRunning` has what is `InProgress`;
    what is still queued (`Created`, `Pending`) is in `history`."""

    filter: str | None = None
    """Words to look for, such as a flow's name."""
    limit: int | None = Field(default=None, ge=1, le=1000)
    offset: int | None = Field(default=None, ge=0)


class OfJobGroup(Parameters):
    """Parameters of the operations on a job that the vendor has: `status`, `details`, `watch`, `cancel`."""

    job_group: VendorId
    """The vendor's id of the job, as its run answered it."""


class OAuth(Options):
    """A pair of tokens: the refresh token gives out access tokens, and another refresh token each time."""

    client_id: str = Field(min_length=1)
    """The `client_id` claim of the access token that came with the pair."""
    refresh_token: Secret
    """Where the chain of refresh tokens begins: relay keeps those that follow in its store. Another one here begins a
    new chain."""
    token_url: str = Field(pattern=r"^https?://[!-~]+$")
    """Where it is exchanged: the `iss` claim of the access token, and `/token`."""


class TrifactaOptions(Options):
    """Settings of a connection to Trifacta: who asks, and what differs between its editions."""

    token: Secret | None = None
    """An access token."""
    username: str | None = None
    password: Secret | None = None
    oauth: OAuth | None = None
    """OAuth 2.0 tokens, which the cloud asks for in place of an access token."""
    execution_id_header: bool = True
    """Whether runs carry `x-execution-id`, by which the vendor knows a repeated submit. Switch it off for a release
    that does not know the header: relay then looks an unanswered submit up in the job library."""
    run_parameters_placement: Literal["asGiven", "overrides", "topLevel"] = "asGiven"
    """Where `runParameters` are sent: editions differ in where they read them."""
    webhook_body: Literal["string", "object"] = "string"
    """How relay's callback template is sent: as the text of a JSON object, or as the object."""
    outputs: bool = False
    """Whether a run's result tells its outputs, under `outputs`: one more request for each run that succeeds."""
    signature_header: str = Field(default="X-Webhook-Signature", pattern=r"^[A-Za-z0-9-]+$")
    """The header in which the vendor signs its webhooks."""

    @model_validator(mode="after")
    def _one_way_in(self) -> "TrifactaOptions":
        basic = (self.username is not None, self.password is not None)
        if basic in {(True, False), (False, True)}:
            raise ValueError("`username` and `password` go together: give both, or `token` or `oauth` instead")
        if sum((self.token is not None, all(basic), self.oauth is not None)) != 1:
            raise ValueError("give either `token`, or `username` and `password`, or `oauth`: exactly one of the three")
        return self
