"""What Tailer takes: parameters of each operation, and the settings of a connection.

Actions: https://docs.tailer.ai/tailer-api/api-features
Authentication: https://docs.tailer.ai/tailer-api/getting-started-1
Refreshing a user's token: https://firebase.google.com/docs/reference/rest/auth#section-refresh-token

The vendor's names are snake_case; parameters have them in camelCase.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from relay.core.vendor import Options, Parameters, Secret

TOKEN_URL = "https://securetoken.googleapis.com/v1/token"  # noqa: S105 - an address
TABLE_TO_TABLE = frozenset({"table-to-table", "gbq-to-gbq"})
"""One type under its name and its former one: answers may have either."""
LAUNCHABLE = TABLE_TO_TABLE | {"table-to-storage"}


def _word(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds a line break or another unprintable character")
    return text


def _launchable(text: str) -> str:
    if text not in LAUNCHABLE:
        raise ValueError("Tailer launches only `table-to-table` and `table-to-storage`")
    return text


def _day(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        raise ValueError("a date is written YYYY-MM-DD")
    date.fromisoformat(text)
    return text


Word = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_word)]
ConfigurationId = Annotated[int, Field(ge=0)] | Word
Day = Annotated[str, AfterValidator(_day)]
Limit = Annotated[int, Field(ge=1)]


class OfType(Parameters):
    """What every operation may say."""

    configuration_type: Word
    """`table-to-table`, `table-to-storage`, `storage-to-storage`, `workflow`, …"""
    account: Word | None = None
    """Default: the connection's."""
    environment: Word | None = None
    """`DEV`, `STAGING`, `PREPROD` or `PROD`. Default: the connection's."""

    def needed(self) -> Iterable[str]:
        """What the request or the connection has to say."""
        return ("account",)

    def objections(self, options: Options) -> Iterable[tuple[str, str]]:
        """Somebody has to say for whom it is."""
        for name in self.needed():
            if getattr(self, name) is None and getattr(options, name) is None:
                yield name, "name it here, or the operator sets it on the connection, which has none"


class OfConfiguration(OfType):
    """Parameters of `enable`, `disable`, `archive`: a data operation, as Tailer calls what was deployed."""

    configuration_id: ConfigurationId
    """That of a table-to-table ends in `_` and the environment, which relay appends where it is missing."""

    def needed(self) -> Iterable[str]:
        return ("account", "environment")


class Launch(OfConfiguration):
    """Parameters of `run` and `rerun`."""

    configuration_type: Annotated[Word, AfterValidator(_launchable)]
    """`table-to-table` or `table-to-storage`: Tailer launches no other."""
    execution_date: Day | None = None
    """The day for which it is run, as YYYY-MM-DD."""
    job_id: Word | None = None
    """What the vendor calls the job, where it is not made of the configuration's id: the run is asked for by it."""


class OfRun(OfConfiguration):
    """Parameters of `status` and `watch`."""

    run_id: Word
    """As the launch answered it."""
    job_id: Word | None = None
    """Default: a table-to-table's, made of its configuration id. Without one relay looks for the run among the
    configuration's newest."""


class OfSomeRun(OfConfiguration):
    """Parameters of `details`."""

    run_id: Word | None = None
    """Default: the configuration's newest run."""
    job_id: Word | None = None
    """As for `status`; for the newest run, only those of this job."""


class LastStatus(OfConfiguration):
    """Parameters of `lastStatus`: the newest runs of a configuration, narrowed."""

    job_id: Word | None = None
    """Only runs of this job."""
    execution_date: Day | None = None
    """Only runs that began on this day (YYYY-MM-DD)."""
    status: Word | None = None
    """Only runs that stand so: `SUCCESS`, `FAILED`, …"""
    limit: Limit | None = None
    """How many at most; without it as many as the vendor likes."""


class ListRunning(OfType):
    """Parameters of `listRunning`: the runs of a type that are at work, in every environment where none is named."""

    execution_date: Day | None = None
    """Only runs that began on this day (YYYY-MM-DD)."""
    limit: Limit | None = None
    """How many at most; without it as many as the vendor likes."""


class History(ListRunning):
    """Parameters of `history`: runs of a configuration, or of all of a type where none is named."""

    configuration_id: ConfigurationId | None = None
    job_id: Word | None = None
    """Only runs of this job; goes with `configurationId`."""
    status: Word | None = None
    """Only runs that stand so: `SUCCESS`, `FAILED`, …"""

    def needed(self) -> Iterable[str]:
        return ("account",) if self.configuration_id is None else ("account", "environment")

    @model_validator(mode="after")
    def _of_a_configuration(self) -> "History":
        if self.job_id is not None and self.configuration_id is None:
            raise ValueError("`jobId` goes with `configurationId`: give both, or neither for all runs of the type")
        return self


class OfWorkflow(OfConfiguration):
    """Parameters of `reset`."""

    configuration_type: Literal["workflow"] = "workflow"
    """Only a workflow can be reset."""


def _json(given: Any) -> Any:
    """A key file's text as what it holds; whatever else is given as it is. Says nothing of a text that is no JSON:
    it may be a key."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        raise ValueError("it is not the JSON of a Google service account's key") from None


class ServiceAccount(BaseModel):
    """Google's JSON key of a service account; what else it holds is not needed."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    client_email: Word
    private_key: SecretStr
    """RSA, in PEM."""
    private_key_id: Word | None = None

    @model_validator(mode="after")
    def _usable(self) -> "ServiceAccount":
        self.key()
        return self

    def key(self) -> RSAPrivateKey:
        """The key to sign with. Raises ValueError, which says nothing of it."""
        try:
            key = load_pem_private_key(self.private_key.get_secret_value().encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("`private_key` is no RSA key in PEM: take the JSON file as Google made it")  # noqa: TRY004
        return key


class TailerOptions(Options):
    """Settings of a connection to Tailer: who asks, about what, and what is not sure of the vendor."""

    token: Secret | None = None
    """A token that something else renews, such as in a file."""
    refresh_token: Secret | None = None
    """A user's, as the vendor's command-line tool keeps it; goes with `apiKey`."""
    api_key: Secret | None = None
    """The vendor's key at Google Identity Platform (`tailer_firebase_api_key`)."""
    token_url: str = Field(default=TOKEN_URL, pattern=r"^https?://[^\s?#@/]+(/[^\s?#]*)?$")
    """Where refresh tokens are exchanged."""
    service_account: Annotated[
        ServiceAccount, BeforeValidator(_json, json_schema_input_type=Mapping[str, Any] | str)
    ] | (None) = None
    """Google's JSON key of a service account, as a mapping or as text."""
    audience: str | None = None
    """For whom a service account signs. Default: the connection's `baseUrl` without its `/v1`."""
    account: Word | None = None
    """For requests that name none."""
    environment: Word | None = None
    """For requests that name none."""
    append_environment: bool = True
    """Whether `_` and the environment are appended to a table-to-table's id that does not end in them."""

    @model_validator(mode="after")
    def _one_way_in(self) -> "TailerOptions":
        if (self.refresh_token is None) != (self.api_key is None):
            raise ValueError("`refreshToken` and `apiKey` go together: give both")
        if [self.token, self.refresh_token, self.service_account].count(None) != 2:
            raise ValueError("give one of `token`, `refreshToken` with `apiKey`, and `serviceAccount`: exactly one")
        return self
