"""What a declared request becomes, given what its templates are asked about."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from relay.core.flow import JsonValue, Request, leads_up
from relay.vendors.declared.templates import Expression, NoValue, Scope, Template, text_of

LONGEST_URL = 32 * 1024
"""Characters of a path, or of a query, that are sent."""
LONGEST_HEADER = 8 * 1024

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

T = TypeVar("T")
Json: TypeAlias = Any
"""JSON with a Template for each string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlan:
    """A request with its templates read. `where` is its place in the declaration, `key_header` the header that the
    job's key goes into; `once`: sending it twice would do harm."""

    where: str
    method: str
    path: Template
    query: Mapping[str, Template] = field(default_factory=dict)
    headers: Mapping[str, Template] = field(default_factory=dict)
    json: Json = None
    form: Mapping[str, Template] | None = None
    key_header: str | None = None
    once: bool = False

    def made(self, scope: Scope, key: str = "") -> Request:
        """The request. Raises NoValue, whose text names the template that cannot be filled."""
        keyed = {self.key_header: key} if self.key_header else {}
        return Request(
            method=self.method,
            path=_path(self.path, scope, f"{self.where}.path"),
            query=_query(self.query, scope, f"{self.where}.query"),
            headers={**_headers(self.headers, scope, f"{self.where}.headers"), **keyed},
            json=_json(self.json, scope, f"{self.where}.json"),
            form=None if self.form is None else dict(_filled(self.form, scope, f"{self.where}.form")),
            once=self.once,
        )

    def expressions(self) -> Iterator[Expression]:
        """Every expression in it."""
        templates = [self.path, *self.query.values(), *self.headers.values(), *(self.form or {}).values()]
        for template in (*templates, *_templates(self.json)):
            yield from template.expressions

    def reads(self, root: str) -> bool:
        """Whether anything in it looks at this root."""
        return any(path[:1] == (root,) for expression in self.expressions() for path in expression.reads)


def bad_path(template: Template) -> str | None:
    """Why what is written of a path cannot be sent, None if it can."""
    plain = "".join(part if isinstance(part, str) else "x" for part in template.parts)
    if not template.text.startswith("/"):
        return "a path begins with a slash: it is put behind the connection's baseUrl"
    if "?" in plain or "#" in plain:
        return "a path holds neither ? nor #: write what follows under `query`"
    if "{" in plain or "}" in plain:
        return "a path holds no braces: a value is put in by ${…}, such as ${parameters.report}"
    if any(not "!" <= char <= "~" or char in '\\"<>' for char in plain):
        return "a path is written percent-encoded: a space is %20"
    if leads_up(plain):
        return "a path does not hold the segments . and .."
    return None


def _path(template: Template, scope: Scope, where: str) -> str:
    """The path; each value in it stays within its segment."""
    path = "".join(part if isinstance(part, str) else _segment(part, scope, where) for part in template.parts)
    if len(path) > LONGEST_URL:
        raise NoValue(f"{where}: it would have more than {LONGEST_URL} characters")
    return path


def _segment(expression: Expression, scope: Scope, where: str) -> str:
    value = _at(where, scope.value, expression)
    text = text_of(value)
    shown = f"{where}: ${{{expression.text}}}"
    if text is None or not text:
        raise NoValue(f"{shown} is {'null' if text is None else 'empty'}, and a path needs a value there")
    if isinstance(value, list | dict):
        raise NoValue(f"{shown} is a list or an object, and a path needs a text or a number there")
    if leads_up(text) or _CONTROL.search(text):
        raise NoValue(f"{shown} is . or .., be it between slashes, or holds a control character, which no path takes")
    return quote(text, safe="", errors="replace")


def _query(templates: Mapping[str, Template], scope: Scope, where: str) -> dict[str, str]:
    query = dict(_filled(templates, scope, where))
    if sum(len(name) + len(value) for name, value in query.items()) > LONGEST_URL:
        raise NoValue(f"{where}: it would have more than {LONGEST_URL} characters")
    return query


def _headers(templates: Mapping[str, Template], scope: Scope, where: str) -> dict[str, str]:
    headers = dict(_filled(templates, scope, where))
    for name, value in headers.items():
        if _CONTROL.search(value):
            raise NoValue(f"{where}.{name}: it would hold a line break or another control character")
        if len(value) > LONGEST_HEADER:
            raise NoValue(f"{where}.{name}: it would have more than {LONGEST_HEADER} characters")
    return headers


def _filled(templates: Mapping[str, Template], scope: Scope, where: str) -> Iterator[tuple[str, str]]:
    """Each as text, without those that are one expression and null."""
    for name, template in templates.items():
        text = text_of(_at(f"{where}.{name}", template.filled, scope))
        if text is not None:
            yield name, text


def _at(where: str, make: Callable[[T], JsonValue], of: T) -> JsonValue:
    """What is made; where that cannot be, the place is told."""
    try:
        return make(of)
    except NoValue as error:
        raise NoValue(f"{where}: {error}") from None


def _json(json: Json, scope: Scope, where: str) -> JsonValue:
    if isinstance(json, Template):
        return _at(where, json.filled, scope)
    if isinstance(json, dict):
        inside = {name: (each, _json(each, scope, f"{where}.{name}")) for name, each in json.items()}
        return {name: value for name, (each, value) in inside.items() if value is not None or each is None}
    if isinstance(json, list):
        return [_json(each, scope, f"{where}[{number}]") for number, each in enumerate(json)]
    return json


def _templates(json: Json) -> Iterator[Template]:
    if isinstance(json, Template):
        yield json
    inside = json.values() if isinstance(json, dict) else json if isinstance(json, list) else ()
    for each in inside:
        yield from _templates(each)
