"""From a declaration to its plans: expressions and templates read, and whatever does not fit together told.

What a template may look at: `connection` everywhere; in operations `parameters` and `job`; after the submit its answer,
`submit`; in `result` the answer that said so, `status`.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic.alias_generators import to_camel

from relay.core.flow import JsonValue
from relay.vendors.declared.parameters import BadSchema, DeclaredParameters, parameters_of
from relay.vendors.declared.requests import Json, RequestPlan, bad_path
from relay.vendors.declared.templates import BadExpression, Expression, Template
from relay.vendors.declared.wire import (
    AuthPart,
    CallbackPart,
    Declaration,
    OperationPart,
    Part,
    RequestPart,
    StatesPart,
    VerifyPart,
)

DEEPEST = 50
"""Levels of a declared body."""

Place: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a declaration, and where."""

    place: Place
    message: str


class Mistakes(Exception):
    """A declaration can't be used; all that is wrong with it."""

    def __init__(self, found: Sequence[Mistake]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, each.place))}: {each.message}" for each in found))
        self.found = tuple(found)


# --- plans ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a job's state is read from an answer."""

    request: RequestPlan
    state: Expression | None
    words: Mapping[str, str]
    error: Expression | None
    value: Expression | None
    progress: Expression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How an unanswered submit is looked up."""

    request: RequestPlan
    job_id: Expression | None
    decisive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a callback's sender is known."""

    type: str
    header: str = "authorization"
    timestamp_header: str | None = None
    prefix: str = ""
    encoding: str = "hex"
    secret: Template | None = None
    username: Template | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a callback is read."""

    check: Check | None
    job_id: Expression | None
    state: Expression | None
    error: Expression | None
    value: Expression | None
    confirm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """How a result is fetched."""

    request: RequestPlan
    value: Expression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What goes with every request."""

    type: str
    templates: Mapping[str, Template] = field(default_factory=dict)
    place: str = "header"
    name: str = ""
    client_auth: str = "form"

    def template(self, name: str) -> Template:
        """One that the type needs."""
        return self.templates[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One operation. `state` and `words` are of the job that an immediate one asks about; `keeps`: its later requests
    look at the submit's answer."""

    operation: str
    title: str
    login: Login
    parameters: type[DeclaredParameters]
    words_of_failure: Expression | None
    submit: RequestPlan
    accept: frozenset[int] | None
    job_id: Expression | None
    value: Expression | None
    state: Expression | None
    words: Mapping[str, str]
    find: Search | None
    status: Look | None
    cancel: RequestPlan | None
    cancel_accept: frozenset[int] | None
    report: Report | None
    result: Fetch | None
    keeps: bool
    repeatable: bool
    not_found_grace: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorPlan:
    """A whole vendor; `settings` are those of a connection that its templates name, with whether each is needed."""

    title: str
    login: Login
    greeting: RequestPlan | None
    operations: Mapping[str, Plan]
    settings: Mapping[str, bool]


def plan_of(name: str, declaration: Declaration, reserved: Iterable[str] = ()) -> VendorPlan:
    """The vendor's plan. `reserved` are settings of a connection that have a meaning of their own. Raises Mistakes."""
    reader = _Reader(frozenset(reserved) - {"name", "baseUrl"})
    plan = reader.vendor(name, declaration)
    if reader.mistakes:
        raise Mistakes(reader.mistakes)
    return plan


# --- reading -------------------------------------------------------------------------------------------------------

_OWN = {"connection": None}
_IDENTITY = ("id", "requestId", "key", "operation", "attempt", "acceptedAt", "correlationId", "traceparent", "metadata")
_CALLED = (*_IDENTITY, "callbackUrl", "callbackSecret")
_KNOWN = (*_IDENTITY, "vendorJobId", "vendorJobIds", "vendorStatus")

_AUTH: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "none": ((), ()),
    "bearer": (("token",), ()),
    "basic": (("username", "password"), ()),
    "apiKey": (("name", "value"), ("place",)),
    "oauth2ClientCredentials": (("token_url", "client_id", "client_secret"), ("scope", "audience", "client_auth")),
}
"""What each type of `auth` needs, and what it may have."""

_HEADERS: Mapping[str, str] = dict.fromkeys(("bearer", "basic", "oauth2ClientCredentials"), "Authorization")
"""The header that each type of `auth` sets, where that has but one name."""

_VERIFY: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "none": ((), ()),
    "basic": ((), ("secret", "username")),
    "header": (("header",), ("prefix", "secret")),
    "hmacSha256": (("header",), ("prefix", "encoding", "secret")),
    "hmacSha256Timestamped": (("header",), ("timestamp_header", "prefix", "encoding", "secret")),
}
"""The same of `verify`."""

_ROOTS = ("connection", "parameters", "job", "submit", "status")
_SLIP = re.compile(rf"(?:\{{\{{ ?|(?<![$\w])\$|(?<![\w${{])\{{)((?:{'|'.join(_ROOTS)})\.\w++)")
"""How other languages than this have a value put in."""

_PARAMETER = re.compile(r"parameters\.(\w+)(?:\.\w+)*")
"""An expression that is a parameter, or something in it."""

Known: TypeAlias = Mapping[str, Sequence[str] | None]
"""The roots that a template may look at, each with the names in it; None for any."""


class _Reader:
    """Reads a declaration to its end, and keeps what is wrong with it."""

    def __init__(self, reserved: frozenset[str]) -> None:
        self._reserved = reserved
        self.mistakes: list[Mistake] = []
        self._settings: dict[str, bool] = {}
        self._optional: frozenset[str] = frozenset()
        self._taken = ""

    def vendor(self, name: str, declared: Declaration) -> VendorPlan:
        """The whole of it."""
        title = declared.title or name
        login = self._login(("auth",), declared.auth)
        self._taken = _HEADERS.get(login.type, login.name if login.place == "header" else "").lower()
        headers = self._headers(("headers",), declared.headers, _OWN)
        error = self._expression(("error",), declared.error)
        greeting = declared.greeting
        asked = self._request(("greeting", "request"), greeting.request, _OWN, headers) if greeting else None
        operations: dict[str, Plan] = {
            word: self._operation(("operations", word), word, part, title, login, headers, error)
            for word, part in declared.operations.items()
        }
        return VendorPlan(title=title, login=login, greeting=asked, operations=operations, settings=self._settings)

    def _operation(
        self,
        at: Place,
        word: str,
        part: OperationPart,
        title: str,
        login: Login,
        headers: Mapping[str, Template],
        error: Expression | None,
    ) -> Plan:
        self._check_together(at, part)
        parameters = self._parameters((*at, "parameters"), part)
        names, self._optional = _names_in(parameters.declared), _optional_in(parameters.declared)
        first: Known = {**_OWN, "parameters": names, "job": _CALLED}
        later: Known = {**_OWN, "parameters": names, "job": _KNOWN, "submit": None}
        submit, find, status = part.submit, part.find, part.status
        cancel, result = part.cancel, part.result
        repeatable = submit.request.method == "GET" if part.repeatable is None else part.repeatable
        header = submit.idempotency_header
        once = header is None and not repeatable
        sent = self._request((*at, "submit", "request"), submit.request, first, headers, key_header=header, once=once)
        look = self._look((*at, "status"), part, later, headers) if status else None
        fetch = None
        if result is not None:
            request = self._request((*at, "result", "request"), result.request, {**later, "status": None}, headers)
            fetch = Fetch(request=request, value=self._expression((*at, "result", "value"), result.value))
        search = None
        if find is not None:
            request = self._request((*at, "find", "request"), find.request, first, headers)
            found = self._reading((*at, "find", "jobId"), find.job_id)
            search = Search(request=request, job_id=found, decisive=find.decisive)
        stop = self._request((*at, "cancel", "request"), cancel.request, later, headers) if cancel else None
        afterwards = [each for each in (look and look.request, fetch and fetch.request, stop) if each]
        return Plan(
            operation=word,
            title=title,
            login=login,
            parameters=parameters,
            words_of_failure=error,
            submit=sent,
            accept=frozenset(submit.accept) if submit.accept else None,
            job_id=self._reading((*at, "submit", "jobId"), submit.job_id),
            value=self._expression((*at, "submit", "value"), submit.value),
            state=self._reading((*at, "submit", "state"), submit.state),
            words=self._words((*at, "submit", "map"), submit.map) if submit.map else {},
            find=search,
            status=look,
            cancel=stop,
            cancel_accept=frozenset(cancel.accept) if cancel and cancel.accept else None,
            report=self._report((*at, "callback"), part.callback, look) if part.callback else None,
            result=fetch,
            keeps=any(request.reads("submit") for request in afterwards),
            repeatable=repeatable,
            not_found_grace=status.not_found_grace if status else 0.0,
        )

    def _check_together(self, at: Place, part: OperationPart) -> None:
        submit = part.submit
        if part.status is None:
            for name in ("find", "cancel", "callback", "result"):
                if getattr(part, name) is not None:
                    self._tell((*at, name), "goes with `status`: without it the operation ends with its answer")
            if (submit.state is None) != (submit.map is None):
                self._tell((*at, "submit"), "`state` and `map` go together")
            return
        if submit.job_id is None:
            self._tell((*at, "submit"), "needs `jobId`: by that the job is asked for its `status`")
        for name in ("value", "state", "map"):
            if name in submit.model_fields_set:
                self._tell((*at, "submit", name), "goes without `status`, where the operation ends with its answer")

    def _look(self, at: Place, part: OperationPart, known: Known, headers: Mapping[str, Template]) -> Look:
        status = part.status
        assert status is not None
        return Look(
            request=self._request((*at, "request"), status.request, known, headers),
            state=self._reading((*at, "state"), status.state),
            words=self._ended((*at, "map"), status.map, cancels=part.cancel is not None),
            error=self._expression((*at, "error"), status.error),
            value=self._expression((*at, "value"), status.value),
            progress=self._expression((*at, "progress"), status.progress),
        )

    def _report(self, at: Place, part: CallbackPart, look: Look | None) -> Report:
        error = self._expression((*at, "error"), part.error)
        return Report(
            check=self._check((*at, "verify"), part.verify),
            job_id=self._reading((*at, "jobId"), part.job_id),
            state=self._reading((*at, "state"), part.state),
            error=error or (look.error if look else None),
            value=self._expression((*at, "value"), part.value),
            confirm=part.confirm_by_status,
        )

    def _check(self, at: Place, part: VerifyPart) -> Check | None:
        self._check_fields(at, part, part.type, _VERIFY)
        if part.type == "none":
            return None
        return Check(
            type=part.type,
            header=(part.header or "authorization").lower(),
            timestamp_header=part.timestamp_header.lower() if part.timestamp_header else None,
            prefix=part.prefix or "",
            encoding=part.encoding or "hex",
            secret=self._text((*at, "secret"), part.secret, _OWN),
            username=self._text((*at, "username"), part.username, _OWN),
        )

    def _login(self, at: Place, part: AuthPart) -> Login:
        self._check_fields(at, part, part.type, _AUTH)
        names = ("token", "username", "password", "value", "token_url", "client_id", "client_secret", "scope")
        read = {name: self._text((*at, to_camel(name)), getattr(part, name), _OWN) for name in (*names, "audience")}
        return Login(
            type=part.type,
            templates={name: template for name, template in read.items() if template is not None},
            place=part.place or "header",
            name=part.name or "",
            client_auth=part.client_auth or "form",
        )

    def _check_fields(
        self, at: Place, part: Part, type: str, table: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    ) -> None:
        needed, possible = table[type]
        for name, info in part.__class__.model_fields.items():
            given, wire = getattr(part, name) is not None, info.alias or name
            if name in needed and not given:
                self._tell(at, f"the type {type} needs `{wire}`")
            elif given and name != "type" and name not in (*needed, *possible):
                self._tell((*at, wire), f"the type {type} has no such field")

    def _parameters(self, at: Place, part: OperationPart) -> type[DeclaredParameters]:
        try:
            return parameters_of("Parameters", part.parameters)
        except BadSchema as error:
            self._tell((*at, *error.path), str(error))
            return parameters_of("Parameters", {"additionalProperties": True})

    def _ended(self, at: Place, part: StatesPart, *, cancels: bool) -> Mapping[str, str]:
        """The words of a job that is followed: without its last one it would be followed to its deadline."""
        for name in ("failed", "canceled") if cancels else ("failed",):
            if name not in part.model_fields_set:
                self._tell(at, f"has nothing for `{name}`: give the vendor's words, or `{name}: []` if it has none")
        return self._words(at, part)

    def _words(self, at: Place, part: StatesPart) -> Mapping[str, str]:
        words: dict[str, str] = {}
        for word, state in part.words():
            if words.setdefault(word, state) != state:
                self._tell((*at, state), f"the word {word!r} stands under `{words[word]}` already")
        if not {"succeeded", "warnings"} & set(words.values()):
            self._tell(at, "has no word for `succeeded`, so that no job could end well")
        return words

    # --- requests, templates, expressions ---

    def _request(
        self,
        at: Place,
        part: RequestPart,
        known: Known,
        headers: Mapping[str, Template],
        *,
        key_header: str | None = None,
        once: bool = False,
    ) -> RequestPlan:
        path = self._text((*at, "path"), part.path, known) or Template("", ())
        if path.parts and (why := bad_path(path)):
            self._tell((*at, "path"), why)
        for expression in path.expressions:
            name = _PARAMETER.fullmatch(expression.text)
            if name is not None and name[1] in self._optional:
                told = f"`parameters.{name[1]}` may be left out, and a path needs it: name it under `required`"
                self._tell((*at, "path"), told)
        if part.json_ is not None and part.form is not None:
            self._tell((*at, "form"), "a request has either `json` or `form`")
        return RequestPlan(
            where=".".join(map(str, at)),
            method=part.method,
            path=path,
            query=self._texts((*at, "query"), part.query, known),
            headers={**headers, **self._headers((*at, "headers"), part.headers, known)},
            json=self._json((*at, "json"), part.json_, known),
            form=None if part.form is None else self._texts((*at, "form"), part.form, known),
            key_header=key_header,
            once=once,
        )

    def _texts(self, at: Place, texts: Mapping[str, str], known: Known) -> dict[str, Template]:
        read = {name: self._text((*at, name), text, known) for name, text in texts.items()}
        return {name: template for name, template in read.items() if template is not None}

    def _headers(self, at: Place, texts: Mapping[str, str], known: Known) -> dict[str, Template]:
        for name in texts:
            if name.lower() == self._taken:
                self._tell((*at, name), "`auth` gives this header its value: leave one of the two out")
        return self._texts(at, texts, known)

    def _text(self, at: Place, text: str | None, known: Known) -> Template | None:
        if text is None:
            return None
        try:
            template = Template.read(text)
        except BadExpression as error:
            self._tell(at, str(error))
            return None
        for expression in template.expressions:
            for path, sure in expression.reads.items():
                self._check_read(at, path, known, sure=sure)
        for part in template.parts:
            if isinstance(part, str) and (slip := _SLIP.search(part)):
                told = f"`{slip[0]}` would be sent as it is written: a value is put in by `${{{slip[1]}}}`"
                self._tell(at, f"{told}; to send it as it is, quote it, as in `${{'{slip[0]}…'}}`")
        return template

    def _json(self, at: Place, value: JsonValue, known: Known) -> Json:
        if len(at) > DEEPEST:
            self._tell(at, f"a body has at most {DEEPEST} levels")
            return None
        if isinstance(value, str):
            return self._text(at, value, known)
        if isinstance(value, list):
            return [self._json((*at, number), each, known) for number, each in enumerate(value)]
        if isinstance(value, dict):
            for name in value:
                if "${" in name:
                    self._tell((*at, name), "a key is no template: write its name")
            return {name: self._json((*at, name), each, known) for name, each in value.items()}
        return self._scalar(at, value)

    def _scalar(self, at: Place, value: Any) -> Json:
        if value is None or isinstance(value, bool | int | float):
            return value
        self._tell(at, f"a {type(value).__name__} is not JSON: put it in quotes")
        return None

    def _expression(self, at: Place, text: str | None) -> Expression | None:
        if text is None:
            return None
        try:
            return Expression.read(text)
        except BadExpression as error:
            self._tell(at, str(error))
            return None

    def _reading(self, at: Place, text: str | None) -> Expression | None:
        """An expression of something that differs from job to job, or is nothing in some answers."""
        expression = self._expression(at, text)
        if expression is not None and not expression.reads:
            told = f"{expression.text} looks at nothing: it is the same in every answer; a name goes without quotes"
            self._tell(at, f"{told}, and what stands for a missing one behind it, as in `id || {expression.text}`")
        return expression

    def _check_read(self, at: Place, path: tuple[str, ...], known: Known, *, sure: bool) -> None:
        """Whether there is what a template looks at; a connection's settings are noted."""
        if not path or path == ("connection",):
            self._tell(at, "name what is meant, such as connection.token: all of it would hand out every secret")
            return
        root, name = path[0], path[1] if len(path) > 1 else None
        if root not in known:
            self._tell(at, _no_root(root, known))
            return
        names = known[root]
        if names is not None and name is not None and name not in names:
            self._tell(at, _no_name(root, name, names))
        if root == "connection" and name is not None and name not in ("name", "baseUrl"):
            if name in self._reserved:
                self._tell(at, f"connection.{name} is relay's own setting of a connection: call this one otherwise")
            self._settings[name] = self._settings.get(name, False) or sure

    def _tell(self, at: Place, message: str) -> None:
        self.mistakes.append(Mistake(at, message))


def _names_in(schema: Mapping[str, Any]) -> Sequence[str] | None:
    """The parameters that there are; None where there may be others."""
    return (
        list(schema["properties"]) if schema.get("additionalProperties") is False and "properties" in schema else None
    )


def _optional_in(schema: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that may be left out; none where the schema says so in more places than its `required`."""
    plain = not {"allOf", "anyOf", "oneOf", "$ref", "if", "dependentRequired", "dependentSchemas"} & schema.keys()
    return frozenset(schema.get("properties", ())) - frozenset(schema.get("required", ())) if plain else frozenset()


def _no_root(root: str, known: Known) -> str:
    """Many leave out what it is a name in: that is then told."""
    inside = [each for each, names in known.items() if names is not None and root in names]
    if not inside and list(known) == ["connection"] and root not in _ROOTS:
        inside = ["connection"]
    return f"there is no `{root}` here; " + (
        f"did you mean {inside[0]}.{root}?" if inside else _nearest(root, list(known))
    )


def _no_name(root: str, name: str, names: Sequence[str]) -> str:
    if not names:
        return (
            f"there is no `{root}.{name}` here: the operation takes no {root}, unless they are declared beside `submit`"
        )
    return f"there is no `{root}.{name}` here; {_nearest(f'{root}.{name}', [f'{root}.{each}' for each in names])}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
