"""Parameters by a declaration's JSON Schema (2020-12): checked at acceptance, each complaint at its place."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from pydantic import ConfigDict, create_model
from pydantic import ValidationError as Invalid
from pydantic_core import InitErrorDetails, PydanticCustomError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from relay.core.answers import shorten
from relay.core.flow import JsonValue
from relay.core.vendor import Parameters

MOST = 50
"""Complaints about one request."""
DEEPEST_SCHEMA = 20
"""References and alternatives that are followed, one after the other, to find what is marked secret."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NONE: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

_COMPOSED = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "patternProperties", "$dynamicRef"})


class BadSchema(ValueError):
    """A schema can't be used; `path` leads to the place in it."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.path = tuple(path)


def _unique(_: Any, wanted: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
    """The library compares each with each, which a long list would turn into minutes."""
    if wanted and isinstance(instance, list):
        seen = {json.dumps(item, sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("has non-unique elements")


_Validator: Any = extend(Draft202012Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]


class DeclaredParameters(Parameters):
    """Parameters that a JSON Schema describes."""

    # Such a model has no source to read docstrings from, and pydantic would look for it all over the program.
    model_config = ConfigDict(use_attribute_docstrings=False)

    declared: ClassVar[Mapping[str, Any]] = NONE
    _validator: ClassVar[Any]

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        """The schema as declared."""
        return dict(cls.declared)

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Self:
        """The parameters, if they follow the schema. Raises pydantic's ValidationError."""
        found = list(islice(_faults(cls._validator, obj), MOST))
        if found:
            raise Invalid.from_exception_data(cls.__name__, found, hide_input=True)
        return cls.model_construct()  # type: ignore[return-value]


def parameters_of(name: str, schema: Mapping[str, Any] | None) -> type[DeclaredParameters]:
    """The parameters that the schema describes. Raises BadSchema."""
    closed = dict(NONE) if schema is None else _closed(schema)
    _check(closed)
    model = create_model(name, __base__=DeclaredParameters)
    model.declared = closed
    model._validator = _Validator(closed, registry=Registry())  # which fetches nothing
    return model


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, refusing names that it does not know, unless it says itself what becomes of them."""
    schema = {"type": "object", **schema}
    if "additionalProperties" in schema or "unevaluatedProperties" in schema:
        return schema
    return {**schema, ("unevaluatedProperties" if _COMPOSED & schema.keys() else "additionalProperties"): False}


def _check(schema: Mapping[str, Any]) -> None:
    if schema["type"] != "object":
        raise BadSchema(("type",), "parameters are an object: write `type: object`, or leave it out")
    try:
        fault = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
        if fault is not None:
            place = [*fault.absolute_path]
            why = f"there is no such type; there are: {_TYPES}" if place[-1:] == ["type"] else fault.message
            raise BadSchema(place, f"is no JSON Schema: {why}")
        resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    except RecursionError:
        raise BadSchema((), "is nested too deeply") from None
    _check_names(schema)
    for path, key, text in _words(schema, ()):
        why = _bad_pattern(text) if key == "pattern" else _bad_reference(text, resolver)
        if why is not None:
            raise BadSchema(path, why)


def _check_names(schema: Mapping[str, Any]) -> None:
    """Slips that JSON Schema itself lets pass: it ignores what it does not know."""
    for path, part in _schemas(schema, ()):
        for name in part.keys() - _KEYWORDS:
            if str(name).startswith("x-"):
                continue  # a note, by everybody's custom
            near = difflib.get_close_matches(str(name), _KEYWORDS, n=1, cutoff=0.75)
            if near:
                why = f"JSON Schema has no such keyword; did you mean {near[0]}? A note of your own begins with x-"
                raise BadSchema((*path, name), why)
            if not path and isinstance(part[name], Mapping | str) and not (_COMPOSED | {"properties"}) & part.keys():
                raise BadSchema((name,), "JSON Schema has no such keyword: parameters stand under `properties`")
    missing = [name for name in schema.get("required", ()) if name not in schema.get("properties", {})]
    if missing and schema.get("additionalProperties") is False and not _COMPOSED & schema.keys():
        raise BadSchema(
            ("required",), f"`{missing[0]}` is needed, and is none of `properties`: no request could be right"
        )


_TYPES = "array, boolean, integer, null, number, object, string"
_OF_NAMES = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_OF_ONE = frozenset({"items", "contains", "additionalProperties", "propertyNames", "if", "then", "else", "not"})
_OF_SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_KEYWORDS = (
    frozenset(Draft202012Validator.VALIDATORS)
    | _OF_NAMES
    | _OF_ONE
    | _OF_SEVERAL
    | frozenset(
        {"$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment", "minContains", "maxContains"}
        | {"title", "description", "default", "deprecated", "readOnly", "writeOnly", "examples", "example", "secret"}
        | {"contentEncoding", "contentMediaType", "contentSchema"}
    )
)


def _schemas(schema: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """The schema and every one in it, each with its place."""
    if not isinstance(schema, Mapping):
        return
    yield path, schema
    for key, inner in schema.items():
        if key in _OF_ONE:
            yield from _schemas(inner, (*path, key))
        elif key in _OF_NAMES and isinstance(inner, Mapping):
            for name, each in inner.items():
                yield from _schemas(each, (*path, key, name))
        elif key in _OF_SEVERAL and isinstance(inner, list):
            for number, each in enumerate(inner):
                yield from _schemas(each, (*path, key, number))


def _bad_pattern(text: str) -> str | None:
    try:
        re.compile(text)
    except re.error as error:
        return f"{text!r} is no regular expression: {error}"
    return None


def _bad_reference(text: str, resolver: Any) -> str | None:
    """Identities too, since they would change where others lead."""
    if text == DIALECT:
        return None
    if not text.startswith("#"):
        return f"{text!r} leads elsewhere; only `#/…`, within the schema, is taken"
    try:
        resolver.lookup(text)
    except Unresolvable:
        return f"there is no {text!r} in the schema"
    return None


_CHECKED = frozenset({"pattern", "$ref", "$dynamicRef", "$id", "$schema"})
_DATA = frozenset({"enum", "const", "default", "examples"})


def _words(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Every reference and pattern in a schema: its place, its keyword and its text."""
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        if key in _CHECKED and isinstance(inner, str):
            yield (*path, key), str(key), inner
        elif key == "patternProperties" and isinstance(inner, Mapping):
            yield from (((*path, key), "pattern", text) for text in inner)
            yield from _words(inner, (*path, key))
        elif key not in _DATA:
            yield from _words(inner, (*path, key))


# --- complaints ----------------------------------------------------------------------------------------------------


def _faults(validator: Any, instance: Any) -> Iterator[InitErrorDetails]:
    """What is wrong, each place once; nothing of what was given is repeated."""
    told: set[tuple[str | int, ...]] = set()
    try:
        for error in validator.iter_errors(instance):
            for place, message in _faults_of(error):
                if place not in told:
                    told.add(place)
                    said = PydanticCustomError("declared", "{said}", {"said": message})
                    yield InitErrorDetails(type=said, loc=place, input=None)
    except RecursionError:
        said = PydanticCustomError("declared", "it is nested too deeply for its schema")
        yield InitErrorDetails(type=said, loc=(), input=None)


def _faults_of(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    place = tuple(error.absolute_path)
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "required":
        yield from (((*place, name), "Field required") for name in wanted if name not in instance)
    elif error.validator in ("additionalProperties", "unevaluatedProperties"):
        known = list(error.schema.get("properties", ())) if isinstance(error.schema, Mapping) else []
        for name in instance:
            if name not in known and repr(name) in error.message:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known)) or 'none'}"
                yield (*place, name), f"unknown field{hint}"
    else:
        yield place, _said(error)


def _said(error: ValidationError) -> str:
    """What was wanted, and never what was given: that may be a secret."""
    wanted = shorten(json.dumps(error.validator_value, ensure_ascii=False, default=str), 200)
    words = _WORDS.get(str(error.validator), "must satisfy {keyword} {wanted}")
    return words.format(keyword=error.validator, wanted=wanted.replace('"', "'"))


_WORDS: Mapping[str, str] = {
    "type": "must be of the type {wanted}",
    "enum": "must be one of {wanted}",
    "const": "must be {wanted}",
    "minimum": "must be at least {wanted}",
    "maximum": "must be at most {wanted}",
    "exclusiveMinimum": "must be more than {wanted}",
    "exclusiveMaximum": "must be less than {wanted}",
    "minLength": "must have at least {wanted} characters",
    "maxLength": "must have at most {wanted} characters",
    "minItems": "must have at least {wanted} items",
    "maxItems": "must have at most {wanted} items",
    "uniqueItems": "must not hold anything twice",
    "pattern": "must match {wanted}",
    "multipleOf": "must be a multiple of {wanted}",
    "anyOf": "must satisfy one of its alternatives",
    "oneOf": "must satisfy exactly one of its alternatives",
}


# --- secrets -------------------------------------------------------------------------------------------------------


def secrets_in(value: JsonValue, schema: Mapping[str, Any]) -> Iterator[str]:
    """Every text in the parameters whose place is marked `secret: true`."""
    yield from _secrets(value, _alternatives(schema, schema), schema)


def _secrets(value: JsonValue, schemas: Sequence[Mapping[str, Any]], root: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, str):
        if any(schema.get("secret") is True for schema in schemas):
            yield value
        return
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        further = [_member(schema, key) for schema in schemas]
        yield from _secrets(inner, [each for schema in further for each in _alternatives(schema, root)], root)


def _member(schema: Mapping[str, Any], key: str | int) -> Any:
    if isinstance(key, int):
        return schema.get("items")
    return schema.get("properties", {}).get(key, schema.get("additionalProperties"))


def _alternatives(schema: Any, root: Mapping[str, Any], depth: int = 0) -> list[Mapping[str, Any]]:
    """Every schema that a value in this place may follow."""
    if not isinstance(schema, Mapping) or depth > DEEPEST_SCHEMA:
        return []
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, ())]
    name = str(schema.get("$ref", ""))
    if name.startswith("#/$defs/"):
        parts.append(root.get("$defs", {}).get(name.removeprefix("#/$defs/")))
    return [schema, *(each for part in parts for each in _alternatives(part, root, depth + 1))]
