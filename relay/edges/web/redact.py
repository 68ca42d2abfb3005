"""Takes secrets out of what is shown: by what the schema says, and by what plainly looks like one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from relay.core.flow import JsonValue
from relay.log import without_credentials

MASK = "***"
Schema: TypeAlias = Mapping[str, Any]

_NAME = re.compile(r"secret|passw|authorization|cookie|credential|token|(api|access|private)[-_]?key", re.IGNORECASE)
_VALUE = re.compile(r"(bearer|basic)\s+\S", re.IGNORECASE)


def redacted(value: JsonValue, schema: Schema) -> JsonValue:
    """The value without what its JSON Schema marks as secret, and without what is named or looks like credentials."""
    return _walk(value, _choices(schema, schema), schema)


def shown_url(url: str) -> str:
    """A URL's scheme and host: its path and query may be what lets one in. Nothing of what is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return place if parts.path in ("", "/") and not parts.query else f"{place}/{MASK}"


def _walk(value: JsonValue, schemas: Sequence[Schema], root: Schema) -> JsonValue:
    if value is not None and any(map(_is_secret, schemas)):
        return MASK
    if isinstance(value, Mapping):
        return {name: _member(name, inner, schemas, root) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        inside = [choice for schema in schemas for choice in _choices(schema.get("items"), root)]
        return [_walk(item, inside, root) for item in value]
    if isinstance(value, str):
        return MASK if _VALUE.match(value) else without_credentials(value) if "@" in value else value
    return value


def _member(name: str, value: JsonValue, schemas: Sequence[Schema], root: Schema) -> JsonValue:
    if isinstance(value, str) and _NAME.search(name):
        return MASK
    if isinstance(value, str) and name.lower() == "url" and "://" in value:
        return shown_url(value)
    if isinstance(value, Mapping) and name.lower() == "headers":
        return dict.fromkeys(value, MASK)  # what lets one in has whatever name its receiver gave it
    inside = [choice for schema in schemas for choice in _choices(_schema_of(name, schema), root)]
    return _walk(value, inside, root)


def _schema_of(name: str, schema: Schema) -> Any:
    return schema.get("properties", {}).get(name, schema.get("additionalProperties"))


def _choices(schema: Any, root: Schema) -> list[Schema]:
    """Every schema that a value in this place may follow."""
    if not isinstance(schema, Mapping):
        return []
    further: Iterable[Any] = [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, ())]
    if "$ref" in schema:
        further = [*further, root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2])]
    return [schema, *(choice for part in further for choice in _choices(part, root))]


def _is_secret(schema: Schema) -> bool:
    return schema.get("secret") is True or schema.get("format") == "password"
