"""Parameters by JSON Schema: what is taken, what is complained of, and what is marked as secret."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from relay.messages import complaints_of
from relay.vendors.declared.parameters import DIALECT, MOST, BadSchema, DeclaredParameters, parameters_of, secrets_in

REPORT: Mapping[str, Any] = {
    "type": "object",
    "required": ["report"],
    "properties": {
        "report": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]*$"},
        "rows": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "format": {"enum": ["csv", "json"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 200_000},
        "filter": {"$ref": "#/$defs/filter"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "even": {"multipleOf": 2},
        "not": {"not": {"type": "string"}},
    },
    "$defs": {
        "filter": {"type": "object", "properties": {"and": {"type": "array", "items": {"$ref": "#/$defs/filter"}}}}
    },
}

NESTED: Mapping[str, Any] = json.loads('{"not":' * 900 + "{}" + "}" * 900)


def complaints(model: type[DeclaredParameters], value: Any) -> dict[str, str]:
    """What is wrong with parameters, by path."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        return {each.path: each.message for each in complaints_of(error, model, "parameters")}
    return {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"report": "sales"}, {}),
        ({"report": "sales", "filter": {"and": [{"and": []}]}, "either": 1, "tags": ["a", "b"]}, {}),
        ({}, {"parameters.report": "Field required"}),
        ({"report": 1}, {"parameters.report": "must be of the type 'string'"}),
        ({"report": ""}, {"parameters.report": "must have at least 1 characters"}),
        ({"report": "abcdefghij"}, {"parameters.report": "must have at most 9 characters"}),
        ({"report": "SALES"}, {"parameters.report": "must match '^[a-z]*$'"}),
        ({"report": "ABCDEFGHIJ"}, {"parameters.report": "must have at most 9 characters"}),
        ({"report": "a", "rows": 0}, {"parameters.rows": "must be at least 1"}),
        ({"report": "a", "rows": 10}, {"parameters.rows": "must be less than 10"}),
        ({"report": "a", "rows": True}, {"parameters.rows": "must be of the type 'integer'"}),
        ({"report": "a", "format": "pdf"}, {"parameters.format": "must be one of ['csv', 'json']"}),
        ({"report": "a", "tags": ["x", "x"]}, {"parameters.tags": "must not hold anything twice"}),
        ({"report": "a", "tags": [1]}, {"parameters.tags[0]": "must be of the type 'string'"}),
        ({"report": "a", "even": 3}, {"parameters.even": "must be a multiple of 2"}),
        ({"report": "a", "either": []}, {"parameters.either": "must satisfy one of its alternatives"}),
        ({"report": "a", "not": "x"}, {"parameters.not": "must satisfy not {'type': 'string'}"}),
        (
            {"report": "a", "filter": {"and": [{"and": 7}]}},
            {"parameters.filter.and[0].and": "must be of the type 'array'"},
        ),
        ({"report": "a", "reprot": 1}, {"parameters.reprot": "unknown field; did you mean report?"}),
        (
            {"report": "a", "zzz": 1, "yyy": 1},
            dict.fromkeys(
                ("parameters.zzz", "parameters.yyy"),
                "unknown field; known are either, even, filter, format, not, report, rows, tags",
            ),
        ),
        ([], {"parameters": "must be of the type 'object'"}),
    ],
)
def test_each_complaint_stands_at_its_place_and_says_what_is_wanted(given: Any, expected: dict[str, str]) -> None:
    """As with a vendor that has code."""
    assert expected == complaints(parameters_of("P", REPORT), given)


def test_no_complaint_repeats_a_value() -> None:
    """It may be a secret."""
    secret = "hunter22"
    given = {"report": secret + "!", "format": secret, "rows": secret, "tags": [secret, secret, 1], "even": secret}

    assert secret not in repr(complaints(parameters_of("P", REPORT), given))


def test_hostile_parameters_are_checked_in_time() -> None:
    """Not each with each; and of very much that is wrong, the first is told."""
    model = parameters_of(
        "P", {"properties": {"list": {"type": "array", "uniqueItems": True, "items": {"type": "object"}}}}
    )
    distinct = [{"number": number} for number in range(20_000)]

    assert {} == complaints(model, {"list": distinct})
    assert MOST == len(complaints(model, {"list": list(range(20_000))}))


def test_a_schema_that_leads_to_itself_ends() -> None:
    """At acceptance, with a complaint."""
    endless = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}

    assert {"parameters": "it is nested too deeply for its schema"} == complaints(parameters_of("P", endless), {"a": 1})


@pytest.mark.parametrize(
    ("schema", "given", "refused"),
    [
        (None, {"a": 1}, True),
        ({"$schema": DIALECT, "properties": {"a": {"uniqueItems": False, "enum": [[1, 1]]}}}, {"a": [1, 1]}, False),
        ({}, {"a": 1}, True),
        ({"properties": {"a": {}}}, {"a": 1}, False),
        ({"additionalProperties": True}, {"a": 1}, False),
        ({"additionalProperties": {"type": "integer"}}, {"a": "x"}, True),
        ({"allOf": [{"properties": {"a": {}}}]}, {"a": 1}, False),
        ({"allOf": [{"properties": {"a": {}}}]}, {"b": 1}, True),
        ({"patternProperties": {"^x-": {}}}, {"x-a": 1}, False),
        ({"patternProperties": {"^x-": {}}}, {"a": 1}, True),
    ],
)
def test_names_that_the_schema_does_not_know_are_refused(schema: Any, given: Any, refused: bool) -> None:
    """Unless it says otherwise."""
    assert refused is bool(complaints(parameters_of("P", schema), given))


def test_the_schema_is_shown_as_declared() -> None:
    """With what relay adds: other names are refused."""
    assert {**REPORT, "additionalProperties": False} == parameters_of("P", REPORT).model_json_schema()


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ({"type": "array"}, ("type",), "parameters are an object"),
        ({"patternProperties": {"(": {}}}, ("patternProperties",), "is no regular expression"),
        (NESTED, (), "is nested too deeply"),
        (
            {"properties": {"a": {"type": "strnig"}}},
            ("properties", "a", "type"),
            "there is no such type; there are: array,",
        ),
        ({"properties": {"a": {"pattern": "("}}}, ("properties", "a", "pattern"), "is no regular expression"),
        ({"required": "a"}, ("required",), "is no JSON Schema"),
        ({"properties": {"a": {"$ref": "https://x/y"}}}, ("properties", "a", "$ref"), "leads elsewhere"),
        ({"properties": {"a": {"$ref": "file:///etc/x"}}}, ("properties", "a", "$ref"), "leads elsewhere"),
        ({"$id": "https://x/"}, ("$id",), "leads elsewhere"),
        ({"report": {"type": "string"}}, ("report",), "parameters stand under `properties`"),
        ({"report": "string"}, ("report",), "parameters stand under `properties`"),
        ({"propertis": {}}, ("propertis",), "did you mean properties?"),
        ({"properties": {"a": {"minLenght": 1}}}, ("properties", "a", "minLenght"), "did you mean minLength?"),
        ({"properties": {"a": {"items": {"tpye": "x"}}}}, ("properties", "a", "items", "tpye"), "did you mean type?"),
        ({"anyOf": [True, {"requird": ["a"]}]}, ("anyOf", 1, "requird"), "did you mean required?"),
        ({"required": ["a"], "properties": {"b": {}}}, ("required",), "`a` is needed, and is none of `properties`"),
        ({"properties": {"a": {"$ref": "#/$defs/q"}}}, ("properties", "a", "$ref"), "there is no '#/$defs/q'"),
    ],
)
def test_a_schema_that_cannot_be_used_says_where_and_why(schema: Any, path: tuple[str, ...], why: str) -> None:
    """At load; nothing is fetched, ever."""
    with pytest.raises(BadSchema) as refused:
        parameters_of("P", schema)

    assert path == refused.value.path
    assert why in str(refused.value)


def test_marked_secrets_are_found_wherever_they_stand() -> None:
    """So that they are struck out of the vendor's words."""
    word = {"type": "string", "secret": True}
    schema = {
        "properties": {
            "a": word,
            "b": {"type": "object", "additionalProperties": word},
            "c": {"items": {"$ref": "#/$defs/login"}},
            "d": {"anyOf": [{"type": "integer"}, word]},
            "e": {"type": "string"},
            "f": True,
        },
        "$defs": {"login": {"properties": {"password": word, "again": {"$ref": "#/$defs/login"}}}},
    }
    given = {
        "a": "1",
        "b": {"x": "2"},
        "c": [{"password": "3", "again": {"password": "4"}}],
        "d": "5",
        "e": "shown",
        "f": "shown",
        "g": "shown",
    }

    assert ["1", "2", "3", "4", "5"] == sorted(secrets_in(given, schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"minLenght": {}}},
        {"properties": {"a": {"x-note": "y", "enumNames": ["b"], "default": {"tpye": 1}}}, "x-order": {"a": 1}},
        {"properties": {"a": {"x-enum": ["b"], "x-secret": 1}}, "x-title": "c"},
        {"additionalProperties": True, "x-note": "y"},
        {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}], "discriminator": {"propertyName": "a"}},
        {"required": ["a"], "properties": {"b": {}}, "additionalProperties": True},
        {"required": ["a"], "anyOf": [{"properties": {"a": {}}}]},
    ],
)
def test_what_a_schema_may_hold_besides_is_left_alone(schema: Any) -> None:
    """Parameters of any name, notes of others, data, and what is composed."""
    assert parameters_of("P", schema).model_json_schema().items() >= schema.items()
