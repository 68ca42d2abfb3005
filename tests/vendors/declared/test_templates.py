"""Expressions and templates: what they find, and that nothing makes them run away."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.vendors.declared.templates import (
    LARGEST,
    LONGEST,
    BadExpression,
    Expression,
    NoValue,
    Scope,
    Template,
    text_of,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def value(text: str, data: Any) -> Any:
    """What an expression finds."""
    return Scope(data).value(Expression.read(text))


def filled(text: str, data: Any) -> Any:
    """What a template becomes."""
    return Template.read(text).filled(Scope(data))


# --- what is read ---


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.", "'a.' is no JMESPath expression: it cannot be read at its end"),
        ("run..id", "it cannot be read from '.id' on"),
        ("a ~ b", "it cannot be read from '~ b' on"),
        ("$.run.id", "it begins at the answer, without $"),
        ("${run.id}", "an expression stands by itself, without ${ and }"),
        ("job-id", 'stands in double quotes, as in "job-id"'),
        ("items[0].run/id", "stands in double quotes"),
        ("run.0.id", "stands in double quotes"),
        ("", "is no JMESPath expression"),
        ("`{nope`", "is no JMESPath expression"),
        ("`foo`", "is no JMESPath expression"),
        ("upper(a)", "there is no function upper(); there are: abs, "),
        ("length(a, b)", "length() takes 1 arguments, not 2"),
        ("not_null()", "not_null() takes at least 1 arguments, not 0"),
        ("a[?foo(b)]", "there is no function foo()"),
        ("a" * (LONGEST + 1), f"an expression has at most {LONGEST} characters, this one {LONGEST + 1}"),
    ],
)
def test_an_expression_that_cannot_be_read_says_why(text: str, why: str) -> None:
    """At load, with the place in it: functions and their arguments too."""
    with pytest.raises(BadExpression) as refused:
        Expression.read(text)

    assert why in str(refused.value)


def test_an_expression_of_many_levels_is_refused_and_not_fatal() -> None:
    """The reader's own recursion has an end."""
    deep = "[" * 499 + "a" + "]" * 499
    try:
        found = Scope({"a": 1}).found(Expression.read(deep))
    except BadExpression:
        found = None

    assert found is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connection.token", {("connection", "token"): True}),
        ("connection.a || connection.b", {("connection", "a"): False, ("connection", "b"): False}),
        ("not_null(connection.a, 'x')", {("connection", "a"): False}),
        ("connection.a && 'x'", {("connection", "a"): False}),
        ("{x: job.id, y: parameters.a.b}", {("job", "id"): True, ("parameters", "a", "b"): True}),
        ("parameters.list[*].x", {("parameters", "list"): True, ("parameters", "list", "x"): False}),
        ("map(&x, parameters.list)", {("parameters", "list"): True}),
        ("job.metadata | team", {("job", "metadata", "team"): True}),
        ("connection.*", {("connection",): True}),
        ("keys(connection)", {("connection",): True}),
        ("@", {(): True}),
        ("'text'", {}),
    ],
)
def test_what_an_expression_looks_at_is_known(text: str, expected: dict[tuple[str, ...], bool]) -> None:
    """So a slip is told at load, and a connection's missing setting at start."""
    actual = dict(Expression.read(text).reads)

    assert expected == actual


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${a}", 7),
        ("${ a }", 7),
        ("x${a}y${b.c}", "x7yz"),
        ("${missing}", None),
        ("x${missing}y", "xy"),
        ("$${a}", "${a}"),
        ("$$", "$$"),
        ("100 $", "100 $"),
        ("${l}", [1, None]),
        ("l: ${l}", "l: [1,null]"),
        ("t: ${t}", "t: true"),
        ("${ {x: a, y: {z: a}} }", {"x": 7, "y": {"z": 7}}),
        ("${'}'}", "}"),
        ("${'it\\'s }'}", "it's }"),
        ('${"odd }"}', "odd name"),
        ('${`{"a": 1}`}', {"a": 1}),
        ("ü${b.c}ü", "üzü"),
    ],
)
def test_a_template_becomes_what_stands_there(text: str, expected: Any) -> None:
    """One expression keeps its type; among text it becomes text, a null an empty one."""
    actual = filled(text, {"a": 7, "b": {"c": "z"}, "l": [1, None], "t": True, "odd }": "odd name"})

    assert expected == actual


@pytest.mark.parametrize("text", ["${", "${a", "x${a", "${'}", "${{}", "${a}${", '${"}'])
def test_a_template_without_its_end_is_refused(text: str) -> None:
    """A forgotten brace is told at load."""
    with pytest.raises(BadExpression):
        Template.read(text)


@given(JSON)
def test_a_value_is_never_read_as_a_template(data: Any) -> None:
    """What comes from a message is data: whatever it holds, it is put in as it is."""
    assert data == filled("${a}", {"a": data})


@given(st.text())
def test_a_text_without_dollars_is_itself(text: str) -> None:
    """Templates change nothing but expressions."""
    plain = text.replace("$", "")

    assert plain == filled(plain, {})


@given(st.text(alphabet="ab.${}'\"`\\[]@|&,*? ", max_size=30), JSON)
@settings(max_examples=300)
def test_no_template_and_no_value_does_anything_but_this(text: str, data: Any) -> None:
    """It is refused at load, finds nothing that can be used, or becomes JSON."""
    try:
        found = filled(text, data)
    except (BadExpression, NoValue):
        return

    assert json.loads(json.dumps(found)) == found


# --- bounds ---

DOUBLING = " | ".join(["[@, @]"] * 50)
HOSTILE = {
    "doubled lists": (DOUBLING, 1),
    "doubled texts": (" | ".join(["join('', [@, @])"] * 40), "aaaa"),
    "doubled and flattened": (" | ".join(["[@, @][]"] * 60), [1]),
    "flattened at once": ("[" + ",".join("@" * 200) + "][]", list(range(100_000))),
    "written out": (f"to_string({DOUBLING})", 1),
    "compared": (f"({DOUBLING}) == ({DOUBLING})", 1),
    "searched": (f"contains([{DOUBLING}], {DOUBLING})", 1),
    "sliced again and again": (" | ".join(["[::-1]"] * 100), list(range(100_000))),
    "joined by a long text": ("join(a, b)", {"a": "x" * 500_000, "b": ["y"] * 20_000}),
    "each with each": ("a[*].b[*].c[*]", {"a": [{"b": [{"c": [1] * 10}] * 200}] * 500}),
    "merged": (" | ".join(["merge(@, {a: @, c: @})"] * 35), {"b": 1}),
    "too many characters": ("[a, a, a, a, a]", {"a": "x" * (LARGEST // 4)}),
    "too deep": ("@ | " + " | ".join(["[@]"] * 120), 1),
    "no number": ("to_number('nan')", None),
    "no end": ("ceil(to_number('inf'))", None),
    "too large a number": ("sum(a)", {"a": [2**63] * 4}),
    "a function itself": ("&a", None),
    "a wrong type": ("length(a)", {"a": 1}),
    "a division by nothing": ("avg(a)", {"a": ["x"]}),
}


@pytest.mark.parametrize(("text", "data"), HOSTILE.values(), ids=HOSTILE)
def test_what_takes_too_long_or_grows_too_large_has_an_end(text: str, data: Any) -> None:
    """It is refused within a bounded number of steps, and its text repeats no value."""
    with pytest.raises(NoValue) as refused:
        value(text, data)

    assert "xxxx" not in str(refused.value)


def test_bounds_are_for_all_expressions_of_a_request_together() -> None:
    """Many harmless ones make a request too large too."""
    scope = Scope({"a": "x" * (LARGEST // 3)})
    whole = Expression.read("a")
    scope.value(whole)
    scope.value(whole)
    with pytest.raises(NoValue):
        scope.value(whole)


def test_large_answers_can_be_read() -> None:
    """Bounds are for what runs away, not for an answer of ordinary size."""
    rows = [{"id": number, "state": "DONE"} for number in range(20_000)]

    assert [19_999] == value("rows[?id == `19999`].id", {"rows": rows})
    assert {"rows": rows} == value("@", {"rows": rows})


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(None, None), ("a", "a"), (1, "1"), (1.5, "1.5"), (True, "true"), ([1], "[1]"), ({"a": "ü"}, '{"a":"ü"}')],
)
def test_values_become_text_as_json_has_them(given_: Any, expected: str | None) -> None:
    """Texts as they are."""
    assert expected == text_of(given_)
