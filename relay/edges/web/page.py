"""The interface as one page to read: no script, nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

from relay import __version__
from relay.core.job import ADVICE
from relay.edges.web.route import Route

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
code, pre { font: 14px/1.5 ui-monospace, monospace } pre { background: #f4f4f4; padding: 1rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .3rem .8rem }
tr { border-bottom: 1px solid #ddd } h2 { margin-top: 2.5rem }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd } pre { background: #242424 } tr { border-color: #444 } a { color: #8bf } }
"""

_EXAMPLE = """curl -H 'Content-Type: application/json' -H 'Authorization: Bearer …' http://127.0.0.1:8080/v1/jobs -d '{
  "requestId": "nightly-2026-11-21",
  "connection": "trifacta-prod",
  "operation": "run",
  "parameters": {"wrangledDataset": {"id": 28629}},
  "webhooks": [{"url": "https://hooks.example.com/x", "triggerEvent": "onJobDone"}]
}'"""


def page(routes: Sequence[Route]) -> str:
    """The whole page."""
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>relay</title>',
            f"<style>{_STYLE}</style></head><body><h1>relay {escape(__version__)}</h1>",
            '<p>The same for programs: <a href="/openapi.json">OpenAPI</a>, <a href="/asyncapi.json">AsyncAPI</a>. ',
            'What each vendor can be asked: <a href="/v1/vendors">vendors</a>.</p>',
            f"<h2>A request</h2><pre>{escape(_EXAMPLE)}</pre>",
            "<h2>Routes</h2>",
            _table(("", "path", "scope", ""), (_route(route) for route in routes)),
            "<h2>Filters</h2>",
            _table(("path", "parameters"), (_filters(route) for route in routes if route.query)),
            "<h2>Error codes</h2>",
            _table(("code", "what to do"), ((_code(code.value), escape(advice)) for code, advice in ADVICE.items())),
            "</body></html>",
        ]
    )


def _route(route: Route) -> tuple[str, ...]:
    scopes = "none needed" if route.scopes is None else " or ".join(sorted(route.scopes))
    method = "any" if route.method == "*" else route.method
    return _code(method), _code(route.plain_path), scopes, escape(route.summary)


def _filters(route: Route) -> tuple[str, ...]:
    assert route.query is not None
    names = (field.alias or name for name, field in route.query.model_fields.items())
    shown = ("metadata.<key>" if name == "metadata" else name for name in names)
    return _code(f"{route.method} {route.plain_path}"), ", ".join(map(_code, shown))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
