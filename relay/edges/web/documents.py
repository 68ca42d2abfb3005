"""The interface told in its own words: OpenAPI, AsyncAPI and a page to read, all made from the routes and models."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson
from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from relay import __version__
from relay.core.cloudevents import STRUCTURED
from relay.edges.web.page import page
from relay.edges.web.route import Call, Route
from relay.messages import JobEvent, JobRequest, Problem, SubscriptionEvent

Document: TypeAlias = dict[str, Any]

_ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REF = "#/components/schemas/{model}"
_ABOUT = "Takes job requests, runs them at vendors' job systems and announces how each one ended."


def openapi(routes: Sequence[Route]) -> Document:
    """The OpenAPI 3.1 document of these routes."""
    schemas = _Schemas(_used(routes))
    paths: dict[str, Document] = {}
    for route in routes:
        for method in _ANY_METHOD if route.method == "*" else (route.method,):
            paths.setdefault(route.plain_path, {})[method.lower()] = _operation(route, method, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "relay", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "webhooks": {"event": {"post": _webhook(schemas)}},
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def asyncapi() -> Document:
    """The AsyncAPI 3.0 document of what goes over AMQP, under the names that relay's exchanges have by default."""
    schemas = _Schemas([(JobRequest, "validation"), (JobEvent, "serialization"), (SubscriptionEvent, "serialization")])
    messages = {
        "request": {
            "name": "request",
            "title": "A request for a job",
            "contentType": "application/json",
            "payload": schemas.of(JobRequest, "validation"),
            "bindings": {"amqp": {"messageType": "JobRequest"}},
        },
        "event": {
            "name": "event",
            "title": "How a job ended: CloudEvents 1.0, structured",
            "contentType": "application/cloudevents+json",
            "headers": _headers("job-id", "request-id", "connection", "vendor", "operation", "status"),
            "payload": schemas.of(JobEvent, "serialization"),
            "bindings": {"amqp": {"messageType": "onJobSuccess or onJobFailure"}},
        },
        "subscriptionEvent": {
            "name": "subscriptionEvent",
            "title": "How a subscription fares: CloudEvents 1.0, structured",
            "contentType": "application/cloudevents+json",
            "payload": schemas.of(SubscriptionEvent, "serialization"),
            "bindings": {"amqp": {"messageType": "subscription.failing, .disabled or .recovered"}},
        },
        "deadLetter": {
            "name": "deadLetter",
            "title": "A request that was refused, unchanged, with the reason",
            "headers": _headers("reason", "errors", "at"),
            "payload": {},
        },
    }
    channels = {
        "requests": _channel("relay.requests", "request", "Any routing key; by custom <connection>.<operation>."),
        "events": _channel("relay.events", "event", "Routing key <connection>.<operation>.<type>."),
        "deadLetters": _channel("relay.dead-letters", "deadLetter", "The routing key of the refused message."),
    }
    channels["events"]["messages"]["subscriptionEvent"] = {"$ref": "#/components/messages/subscriptionEvent"}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "relay", "version": __version__, "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            "takeRequest": _over("receive", "requests", "request", "A message becomes a job, or a dead letter."),
            "sendEvent": _over("send", "events", "event", "Once for each job that ends; repeats have the same id."),
            "sendSubscriptionEvent": _over(
                "send", "events", "subscriptionEvent", "When one fails, is disabled or recovers: key _._.<type>."
            ),
            "sendDeadLetter": _over("send", "deadLetters", "deadLetter", "For each message that is refused."),
        },
        "components": {"messages": messages, "schemas": schemas.definitions},
    }


def document_routes(others: Sequence[Route]) -> tuple[Route, ...]:
    """The routes that tell of the others, and of themselves."""

    async def show_openapi(_: Call) -> web.Response:
        return web.Response(body=described(), content_type="application/json")

    async def show_asyncapi(_: Call) -> web.Response:
        return web.Response(body=orjson.dumps(asyncapi()), content_type="application/json")

    async def show_page(_: Call) -> web.Response:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return web.Response(text=page((*others, *own)), content_type="text/html", headers=headers)

    @functools.cache
    def described() -> bytes:
        return orjson.dumps(openapi((*others, *own)))

    own = (
        _document("/openapi.json", show_openapi, "This interface as OpenAPI 3.1."),
        _document("/asyncapi.json", show_asyncapi, "What goes over AMQP as AsyncAPI 3.0."),
        _document("/docs", show_page, "This interface as a page.", "text/html"),
    )
    return own


def _document(path: str, handle: Any, summary: str, media: str = "application/json") -> Route:
    answers = {200: "The document."}
    return Route(method="GET", path=path, handle=handle, summary=summary, scopes=None, answers=answers, media=media)


class _Schemas:
    """The JSON Schemas of models, each defined once."""

    def __init__(self, models: Iterable[tuple[type[BaseModel], JsonSchemaMode]]) -> None:
        self._refs, defined = models_json_schema(list(dict.fromkeys(models)), ref_template=_REF)
        self.definitions: Document = defined.get("$defs", {})

    def of(self, model: type[BaseModel], mode: JsonSchemaMode) -> Document:
        """Where the model's schema is."""
        return self._refs[model, mode]


def _used(routes: Sequence[Route]) -> Iterable[tuple[type[BaseModel], JsonSchemaMode]]:
    yield Problem, "serialization"
    yield JobEvent, "serialization"
    for route in routes:
        if route.body is not None:
            yield route.body, "validation"
        for told in route.answers.values():
            for answer in _models(told):
                yield answer, "serialization"


def _operation(route: Route, method: str, schemas: _Schemas) -> Document:
    told: Document = {
        "operationId": f"{route.handle.__name__}_{route.plain_path.strip('/').replace('/', '_')}_{method.lower()}",
        "summary": route.summary,
        "parameters": [
            *_path_parameters(route),
            *(_query_parameters(route.query) if route.query else ()),
            *(
                {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
                for name, text in route.headers.items()
            ),
        ],
        "responses": {**_answers(route, schemas), **_problems(route, schemas)},
        "security": [] if route.scopes is None else [{"token": []}],
    }
    if route.scopes is not None:
        told["description"] = f"Needs a token with the scope {' or '.join(sorted(route.scopes))}."
    if route.body is not None:
        request = schemas.of(route.body, "validation")
        content = {"application/json": {"schema": request}}
        if route.cloud_event:
            event = {"type": "object", "required": ["specversion"], "properties": {"data": request}}
            content[STRUCTURED] = {"schema": event}
        told["requestBody"] = {"required": not route.bare, "content": content}
    return told


def _path_parameters(route: Route) -> Iterable[Document]:
    for part in route.plain_path.split("/"):
        if part.startswith("{"):
            yield {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(model: type[BaseModel]) -> Iterable[Document]:
    schema = model.model_json_schema(ref_template="{model}")
    for name, told in schema["properties"].items():
        told = _inlined(told, schema.get("$defs", {}))
        parameter: Document = {"name": name, "in": "query", "required": False, "schema": told}
        if "description" in told:
            parameter["description"] = told.pop("description")
        if name == "metadata":
            parameter |= {"name": "metadata.<key>", "schema": {"type": "string"}}
        yield parameter


def _inlined(told: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with what it refers to put in its place."""
    if isinstance(told, list):
        return [_inlined(each, definitions) for each in told]
    if not isinstance(told, dict):
        return told
    if "$ref" in told:
        return _inlined(definitions[told["$ref"]], definitions)
    return {name: _inlined(each, definitions) for name, each in told.items()}


def _answers(route: Route, schemas: _Schemas) -> Document:
    return {str(status): _answer(route, status, schemas) for status in route.answers}


def _answer(route: Route, status: int, schemas: _Schemas) -> Document:
    told = route.answers[status]
    answer: Document = {"description": told if isinstance(told, str) else HTTPStatus(status).phrase}
    if status != HTTPStatus.NO_CONTENT:
        choices = [schemas.of(model, "serialization") for model in _models(told)]
        schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
        answer["content"] = {route.media: {"schema": schema} if choices else {}}
    if status in route.located:
        answer["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
    return answer


def _models(told: type[BaseModel] | tuple[type[BaseModel], ...] | str) -> tuple[type[BaseModel], ...]:
    if isinstance(told, str):
        return ()
    return told if isinstance(told, tuple) else (told,)


def _problems(route: Route, schemas: _Schemas) -> Document:
    content = {"application/problem+json": {"schema": schemas.of(Problem, "serialization")}}
    phrases = {str(each): HTTPStatus(each).phrase for each in route.problems} | {"default": "Whatever else is wrong."}
    return {status: {"description": phrase, "content": content} for status, phrase in phrases.items()}


def _webhook(schemas: _Schemas) -> Document:
    content = {"application/cloudevents+json": {"schema": schemas.of(JobEvent, "serialization")}}
    return {
        "summary": "How a job ended, as it goes to a request's webhooks without a body of their own.",
        "parameters": [
            {"name": name, "in": "header", "required": required, "schema": {"type": "string"}}
            for name, required in (("webhook-id", True), ("webhook-timestamp", True), ("webhook-signature", False))
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {"2XX": {"description": "Received. Anything else is tried again."}},
    }


def _headers(*names: str) -> Document:
    return {"type": "object", "properties": {f"x-relay-{name}": {"type": "string"} for name in names}}


def _channel(exchange: str, message: str, description: str) -> Document:
    return {
        "address": exchange,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "amqp": {"is": "routingKey", "exchange": {"name": exchange, "type": "topic", "durable": True, "vhost": "/"}}
        },
    }


def _over(action: str, channel: str, message: str, summary: str) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }
