"""Every knob, checked once: environment variables `RELAY_…` over a YAML file over defaults.

A wrong setting is an error that says where it stands, what is wrong, and which key was probably meant. Secrets may
stand in files (`{file: …}`) or in other variables (`{env: …}`). Settings never travel below app.py.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from relay.core.schedule import WEBHOOK_SCHEDULE
from relay.core.signature import standard_key
from relay.log import Format, Level
from relay.messages import Complaint, Schedule, Standing, complaints_of, json_path, wire_name
from relay.vendors import VENDORS
from relay.vendors.declared import Declaration, Mistake, Mistakes, slips_in, vendor_of

PREFIX = "RELAY_"
NOT_SETTINGS = ("RELAY_CONFIG", "RELAY_SERVER", "RELAY_TOKEN", "RELAY_FAILPOINTS")
"""Variables of the command line; those of the project's own tests begin with `RELAY_TEST_`."""
_SERVICE_LINK = re.compile(
    r"RELAY_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)=.*|RELAY_PORT=[a-z]+://.*"
)
"""What Kubernetes sets in every container beside a service that is called `relay`."""

MOST_PLACES = 100_000
"""Things that a file may say: a few lines of aliases of aliases could say more than any memory holds."""

DATABASE = "sqlite:///relay.db"
"""Where jobs are kept unless the settings say otherwise."""

_QUOTED = re.compile(r"'(?!<).{2,}'")
_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")

_DATABASE_URL = re.compile(r"sqlite:///.+|postgres(ql)?://([^/?#@\s]*@)?[^/?#@\s]*/[^/?#@\s]+(\?[^#@\s]*)?")

Place: TypeAlias = tuple[str | int, ...]
S = TypeVar("S", bound=BaseModel)


_TEXT_OR_PLACE: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string"},
        *(
            {"type": "object", "properties": {where: {"type": "string"}}, "required": [where], "maxProperties": 1}
            for where in ("file", "env")
        ),
    ]
}
_DIGEST: Mapping[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
Secret: TypeAlias = Annotated[SecretStr, WithJsonSchema({**_TEXT_OR_PLACE, "writeOnly": True})]
"""A text that is shown nowhere; a file of settings has it, or says where it stands."""


def _not_empty(key: SecretStr) -> SecretStr:
    if not key.get_secret_value().strip():
        raise ValueError("is empty: anybody could sign with it")
    return key


Key: TypeAlias = Annotated[Secret, AfterValidator(_not_empty)]
"""What something is signed with. A file that is just being written holds none, and neither does a variable unset."""


class SettingsError(Exception):
    """The settings can't be used. The text is all that there is to say: a line for each thing that is wrong."""


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, about: ValidationInfo) -> Any:
        """YAML's `yes` and `on` would be 1."""
        wanted = cls.model_fields[about.field_name or ""].annotation
        if isinstance(value, bool) and wanted in (int, float, int | None, float | None):
            raise ValueError("must be a number")
        return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _is_amqp(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Tls(Section):
    """Certificates for a connection: PEM files."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


class Amqp(Section):
    """The broker, and what relay's exchanges and queues there are called."""

    url: Annotated[
        tuple[Secret, ...],
        BeforeValidator(_listed, json_schema_input_type=Secret | Annotated[list[Secret], Field(min_length=1)]),
        Field(min_length=1),
    ]
    """One node's URL, or a list of them: `amqp://` or `amqps://`."""
    declare_: Annotated[bool, Field(validation_alias=AliasChoices("declare"), serialization_alias="declare")] = True
    """Make what is missing at start; else only check that it is there."""
    prefetch: int = Field(default=100, ge=1, le=2000)
    reply_to: Literal["any", "off"] | tuple[str, ...] = "any"
    """Where replies may go: `any` queue, `off`, or prefixes of queue names."""
    requests_exchange: str = "relay.requests"
    requests_queue: str = "relay.requests"
    events_exchange: str = "relay.events"
    events_queue: str | None = "relay.events"
    """null: relay keeps no queue of events, and whoever wants them binds one."""
    dead_letters_exchange: str = "relay.dead-letters"
    dead_letters_queue: str = "relay.dead-letters"
    publish_timeout: float = Field(default=10.0, gt=0, le=60)
    """Seconds for which a confirm is waited."""
    tls: Tls = Tls()

    @field_validator("url")
    @classmethod
    def _of_nodes(cls, url: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(_is_amqp(node.get_secret_value()) for node in url):
            raise ValueError("must be such as amqp://user:password@host:5672/vhost, with / in a password as %2F")
        return url

    @model_validator(mode="after")
    def _apart(self) -> Self:
        """What relay sends must not come back to it as a request: events and dead letters would breed for ever."""
        queues = (self.requests_queue, self.events_queue, self.dead_letters_queue)
        exchanges = (self.requests_exchange, self.events_exchange, self.dead_letters_exchange)
        if len(set(queues)) < len(queues):
            raise ValueError("requestsQueue, eventsQueue and deadLettersQueue must be three")
        if self.declare_ and len(set(exchanges)) < len(exchanges):
            raise ValueError(
                "requestsExchange, eventsExchange and deadLettersExchange must be three: relay binds its queues to all "
                "that is sent to them (with declare: false the bindings are yours)"
            )
        return self


class Database(Section):
    """Where jobs are kept."""

    url: Annotated[Secret, Field(json_schema_extra={"default": DATABASE})] = SecretStr(DATABASE)
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, or `postgresql://user:password@host/database`."""

    @field_validator("url")
    @classmethod
    def _known(cls, url: SecretStr) -> SecretStr:
        if not _DATABASE_URL.fullmatch(url.get_secret_value()):
            raise ValueError(
                "must be sqlite:///path (three slashes, four for an absolute path), or "
                "postgresql://user:password@host/database (special characters in the password percent-encoded)"
            )
        return url

    @property
    def path(self) -> str | None:
        """The SQLite file; None with PostgreSQL."""
        scheme, _, path = self.url.get_secret_value().partition(":///")
        return path if scheme == "sqlite" else None


class Http(Section):
    """relay's own HTTP interface."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str | None = None
    """How vendors reach relay from outside; without it they can't call back, and relay polls."""
    max_request_bytes: int = Field(default=1024 * 1024, ge=1024)

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", url):
            raise ValueError("must be an absolute URL such as https://relay.example.com, without query")
        return url


class Egress(Section):
    """Where URLs of requests may lead: https and public addresses, and what is allowed here beside them."""

    allow: tuple[str, ...] = ()
    """Networks (CIDR) and host names."""
    allow_http: bool = False


class Deliveries(Section):
    """How events go to URLs."""

    schedule: Schedule = WEBHOOK_SCHEDULE
    """Seconds before each attempt, for webhooks and subscriptions that name no schedule of their own."""


class Log(Section):
    """What is written to standard error."""

    level: Level = "info"
    format: Format = "json"


class Token(Section):
    """Who may call the API; `relay tokens create` makes such an entry."""

    name: str
    sha256: Annotated[
        str, Field(pattern=_DIGEST["pattern"]), WithJsonSchema({"anyOf": [_DIGEST, *_TEXT_OR_PLACE["anyOf"][1:]]})
    ]
    scopes: tuple[Literal["read", "submit", "operate"], ...] = Field(min_length=1)
    connections: tuple[str, ...] | None = None
    """The connections that it is limited to."""


class ConnectionSettings(Section):
    """One account at one vendor. What is not listed here are the vendor's own settings."""

    model_config = ConfigDict(extra="allow")

    vendor: str
    base_url: str = Field(pattern=r"^https?://[^\s?#@/]+(/[^\s?#]*)?$")
    operations: tuple[str, ...] | None = None
    """What may be asked; default: everything but `delete` and `archive`."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """Requests at a time."""
    max_in_flight: int | None = Field(default=None, ge=1)
    """Jobs at the vendor at a time; the others wait in relay."""
    requests_per_second: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=60.0, gt=0, le=600)
    """Seconds for one request."""
    tls: Tls = Tls()
    proxy: Secret | None = None
    on_unknown_submit: Literal["fail", "resubmit"] = "fail"
    callback_signature: Literal["required", "off"] = "required"
    webhook_secret: Annotated[
        tuple[Key, ...],
        BeforeValidator(_listed, json_schema_input_type=Secret | Annotated[list[Secret], Field(max_length=5)]),
        Field(max_length=5),
    ] = ()
    """The key by which the vendor signs what it sends to `/v1/webhooks/<connection>`; several while it is changed."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without the vendor's own settings: there are secrets among them, and their model is not here."""
        return ((name, value) for name, value in super().__repr_args__() if name in type(self).model_fields)

    @property
    def options(self) -> Mapping[str, Any]:
        """The vendor's own settings, as given."""
        return self.__pydantic_extra__ or {}


class SubscriptionSettings(Standing):
    """A webhook target for the events of many jobs, as over the API; its secret is given here."""

    model_config = ConfigDict(strict=False, use_attribute_docstrings=True)

    secret: Key | None = None
    """What signs: `whsec_` and base64, or any text. Without it nothing is signed."""

    @model_validator(mode="after")
    def _signable(self) -> Self:
        if self.secret is not None and self.signature == "standard":
            standard_key(self.secret.get_secret_value())
        return self


RESERVED = frozenset(wire_name(name, info) for name, info in ConnectionSettings.model_fields.items())
"""What a declared vendor's settings of a connection can't be called."""


def _without_code(name: str) -> str:
    if name in VENDORS:
        raise ValueError(f"relay has code for {name}: call the declared vendor otherwise")
    return name


class _Elsewhere(BaseModel):
    """A declaration that stands in a file of its own, beside this one."""

    model_config = ConfigDict(extra="forbid")

    file: str


def _as_it_is(value: Any) -> Any:
    return value


Declarations: TypeAlias = Mapping[
    Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$"), AfterValidator(_without_code)],
    Annotated[Declaration, BeforeValidator(_as_it_is, json_schema_input_type=Declaration | _Elsewhere)],
]


class _Declared(Section):
    vendors: Declarations


class Settings(Section):
    """All settings of one relay."""

    amqp: Amqp | None = None
    """Absent: no broker; requests come by HTTP, events go to URLs."""
    database: Database = Database()
    http: Http = Http()
    egress: Egress = Egress()
    connections: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")], ConnectionSettings] = {}
    vendors: Declarations = {}
    """Vendors without code: each declared here, or in the file that `{file: …}` names, beside this one."""
    tokens: tuple[Token, ...] = ()
    subscriptions: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")], SubscriptionSettings] = {}
    """Standing webhook targets, by name; these are changed here alone."""
    deliveries: Deliveries = Deliveries()
    log: Log = Log()
    secret_key: Secret | None = None
    """Encrypts secrets at rest: URL-safe base64 of 32 bytes, several separated by commas while they rotate."""
    concurrency: int = Field(default=50, ge=1, le=1000)
    """Jobs acted on at a time."""
    retention: float = Field(default=30 * 86400.0, ge=60)
    """Seconds for which finished jobs are kept."""
    shutdown_timeout: float = Field(default=30.0, ge=0)
    """Seconds for which work under way may go on after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Raw settings, merged, and where each stands."""

    values: dict[str, Any]
    places: Mapping[Place, str]

    def place(self, path: Place) -> str:
        """Where the value at the path stands, or something in it, or the nearest one around it."""
        for end in range(len(path), 0, -1):
            inside = (place for at, place in self.places.items() if at[:end] == path[:end])
            if (place := self.places.get(path[:end]) or next(inside, None)) is not None:
                return place
        return "settings"


def load(config: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the environment and the file (`config`, or RELAY_CONFIG). Raises SettingsError."""
    environ = os.environ if environ is None else environ
    config = config or environ.get("RELAY_CONFIG")
    file = _from_file(Path(config)) if config else Sources({}, {})
    sources = _merged(file, _from_environment(environ, file.values.get("connections")))
    sources = _with_declarations(sources, Path(config).parent if config else Path())
    settings = _checked(Settings, _resolved(sources.values, (), sources, environ), sources)
    _check_declarations(settings.vendors, sources)
    return settings


def declarations_of(file: Path) -> Mapping[str, Declaration]:
    """The vendors that a file declares: one, called as the file, or those under its `vendors`. Raises SettingsError."""
    sources = _from_file(file)
    if "vendors" not in sources.values:
        name = re.sub(r"[^a-z0-9_-]", "-", file.stem.lower())[:63] or "vendor"
        places = {("vendors", name, *place): at for place, at in sources.places.items()}
        sources = Sources({"vendors": {name: sources.values}}, places)
    sources = _with_declarations(sources, file.parent)
    declared = _checked(_Declared, {"vendors": sources.values["vendors"]}, sources).vendors
    _check_declarations(declared, sources)
    return declared


def _checked(model: type[S], values: Any, sources: Sources) -> S:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        told = zip(details, complaints_of(error, model), strict=False)  # of very many, the first are told
        lines = [_line(sources.place(detail["loc"]), each) for detail, each in told]
        raise SettingsError("\n".join([*lines, *_slips_in(values.get("vendors"), sources)])) from None


def _slips_in(vendors: Any, sources: Sources) -> Iterator[str]:
    """What else is wrong with declared vendors, where not all settings have their shape."""
    for name, given in vendors.items() if isinstance(vendors, dict) else ():
        yield from _told(name, slips_in(name, given, RESERVED), sources)


def _check_declarations(declared: Declarations, sources: Sources) -> None:
    """Whether a vendor can be made of each."""
    lines: list[str] = []
    for name, declaration in declared.items():
        try:
            vendor_of(name, declaration, RESERVED)
        except Mistakes as mistakes:
            lines += _told(name, mistakes.found, sources)
    if lines:
        raise SettingsError("\n".join(lines))


def _told(name: str, mistakes: Iterable[Mistake], sources: Sources) -> Iterator[str]:
    """A declaration's mistakes, each with its line."""
    for each in mistakes:
        place: Place = ("vendors", name, *each.place)
        yield _line(sources.place(place), Complaint(path=json_path(place), message=each.message))


def _line(place: str, complaint: Complaint) -> str:
    return f"{place}: {complaint.path}: {complaint.message}" if complaint.path else f"{place}: {complaint.message}"


# --- reading ---


def _from_file(path: Path) -> Sources:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not YAML: {why_not_yaml(error)}") from None
    if node is None:
        return Sources({}, {})
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"{path}: must be a mapping of settings")
    loader = yaml.SafeLoader("")
    try:
        walked = islice(_walk(node, (), str(path)), MOST_PLACES + 1)
        places = {place: f"{path} line {_line_of(at)}" for place, at in walked}
        if len(places) > MOST_PLACES:
            raise SettingsError(f"{path}: it says more than {MOST_PLACES} things, with what its aliases stand for")
        return Sources(loader.construct_document(node), places)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {why_not_yaml(error)}") from None
    finally:
        loader.dispose()


def why_not_yaml(error: Exception) -> str:
    """What is wrong and where, without a word of the text itself: it may be a secret."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return where + _QUOTED.sub("'…'", error.problem or error.context or "it cannot be read")
    if isinstance(error, yaml.reader.ReaderError):
        return f"position {error.position}: {error.reason}"
    if isinstance(error, RecursionError):
        return "it holds itself, or is nested too deeply"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a date or number in it is none; quote it"


def _walk(node: yaml.Node, path: Place, file: str) -> Iterator[tuple[Place, yaml.Node]]:
    """Every place with its node. Raises SettingsError for keys that come twice, or are no text."""
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEY_TAGS:
                raise SettingsError(f"{file} line {_line_of(key)}: a key must be text; write it in quotes")
            inner, line = (*path, key.value), _line_of(key)
            if first.setdefault(key.value, line) != line:
                earlier = first[key.value]
                raise SettingsError(f"{file} line {line}: {json_path(inner)} stands in line {earlier} already")
            yield inner, key
            yield from _walk(value, inner, file)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*path, number), value
            yield from _walk(value, (*path, number), file)


def _line_of(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


def _from_environment(environ: Mapping[str, str], connections: Any) -> Sources:
    """`connections` are those of the file: a variable may name one of them by its letters."""
    named = {_letters(name): name for name in connections} if isinstance(connections, dict) else {}
    values: dict[str, Any] = {}
    places: dict[Place, str] = {}
    for name in sorted(environ):
        if not _is_setting(name, environ[name]):
            continue
        path = _path_of(name, named)
        places[path] = name
        here = values
        for part in path[:-1]:
            here = here.setdefault(str(part), {})
            if not isinstance(here, dict):
                raise SettingsError(f"{name}: another variable sets {json_path(path[:-1])} as a whole")
        here[str(path[-1])] = _read(environ[name], name)
    return Sources(values, places)


def _is_setting(name: str, value: str) -> bool:
    if name in NOT_SETTINGS or name.startswith("RELAY_TEST_"):
        return False
    return name.startswith(PREFIX) and _SERVICE_LINK.fullmatch(f"{name}={value}") is None


def _path_of(name: str, connections: Mapping[str, str]) -> Place:
    """`RELAY_HTTP__PUBLIC_URL` is http.publicUrl: the letters decide, not case, underscores or dashes."""
    path: list[str | int] = []
    model: type[BaseModel] | None = Settings
    for word in name.removeprefix(PREFIX).split("__"):
        if path == ["connections"]:
            path.append(connections.get(_letters(word), word.lower()))
            model = ConnectionSettings
            continue
        fields = {
            _letters(wire_name(key, info)): (key, info) for key, info in (model.model_fields if model else {}).items()
        }
        key, info = fields.get(_letters(word), (None, None))
        path.append(wire_name(key, info) if key and info else to_camel(word.lower()))
        model = _section_of(info)
    return tuple(path)


def _read(text: str, name: str) -> Any:
    """Lists and mappings are written as JSON (or YAML in one line), nothing as null; everything else is text. A
    secret that begins like a list comes from a file, or by `{env: …}`."""
    if text == "null":
        return None
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{name}: begins like JSON and is none: {why_not_yaml(error)}") from None


def _letters(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def _section_of(info: FieldInfo | None) -> type[BaseModel] | None:
    if info is None:
        return None
    for kind in (info.annotation, *getattr(info.annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _merged(under: Sources, over: Sources) -> Sources:
    return Sources(_laid_over(under.values, over.values), {**under.places, **over.places})


def _laid_over(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    both = {key: _laid_over(under[key], over[key]) for key in under.keys() & over.keys()}
    return {**under, **over, **both}


def _with_declarations(sources: Sources, folder: Path) -> Sources:
    """With the declarations that stand in files of their own, which are found from the folder."""
    declared = sources.values.get("vendors")
    for name, value in declared.items() if isinstance(declared, dict) else ():
        if isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str):
            try:
                read = _from_file(folder / value["file"])
            except SettingsError as error:
                where = sources.place(("vendors", name))
                raise SettingsError(f"{where}: vendors.{name}: {error}") from None
            if "vendors" in read.values:
                why = f"{value['file']} holds `vendors`, as settings do: leave in it what is under the vendor's name"
                raise SettingsError(f"{sources.place(('vendors', name))}: vendors.{name}: {why}")
            inner = {("vendors", name, *place): at for place, at in read.places.items()}
            vendors = {**sources.values["vendors"], name: read.values}
            sources = Sources({**sources.values, "vendors": vendors}, {**sources.places, **inner})
    return sources


# --- secrets that stand elsewhere ---


def _resolved(value: Any, path: Place, sources: Sources, environ: Mapping[str, str]) -> Any:
    """The value with every `{file: …}` and `{env: …}` replaced by what stands there; declared vendors hold none."""
    if path[:1] == ("vendors",):
        return value
    if isinstance(value, list):
        return [_resolved(inner, (*path, number), sources, environ) for number, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), str):
        if "file" in value:
            return _file_text(inner, path, sources)
        if "env" in value:
            return _variable(inner, path, sources, environ)
    return {key: _resolved(inner, (*path, key), sources, environ) for key, inner in value.items()}


def _file_text(name: str, path: Place, sources: Sources) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it, or its name, is not text"
        raise SettingsError(f"{sources.place(path)}: {json_path(path)}: cannot read the file {name}: {why}") from error


def _variable(name: str, path: Place, sources: Sources, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise SettingsError(f"{sources.place(path)}: {json_path(path)}: the variable {name} is not set")
    return environ[name]
