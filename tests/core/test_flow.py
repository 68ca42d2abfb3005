"""Reading what vendors answer: strictly as JSON, and cleaned of what no store takes."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.flow import (
    DEEPEST,
    JsonValue,
    NoAnswer,
    NotReached,
    Response,
    TransportError,
    Unreadable,
    clean,
    strict_json,
)
from tests.core.strategies import json_texts, json_values


def nested(levels: int, left: str = "[", right: str = "]") -> str:
    """So many levels of lists, or of what else is given."""
    return left * levels + right * levels


@given(json_values)
def test_json_is_read_as_it_is(value: JsonValue) -> None:
    """Plain JSON comes out as what it says, from text and from bytes."""
    text = json.dumps(value)

    assert json.loads(text) == strict_json(text) == strict_json(text.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_its_encodings(encoding: str) -> None:
    """The encodings that JSON may come in are told apart, byte order mark or not."""
    assert {"name": "Müller"} == strict_json('{"name": "Müller"}'.encode(encoding))


UNREADABLE = [
    b"",
    b"<html>502 Bad Gateway</html>",
    b'{"a": NaN}',
    b"[Infinity]",
    b"-Infinity",
    b"1e999",
    b"[-1e999]",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"9" * 5000,
    b'{"a": 1',
    b'"\xff\xfe"',
    nested(DEEPEST + 1).encode(),
    nested(DEEPEST + 1, '{"a":', "}").replace(":}", ":{}}", 1).encode(),
    nested(100_000).encode(),
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", UNREADABLE)
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    """NaN, Infinity, huge numbers, bottomless nesting and garbage are one error, which shows nothing of the body."""
    with pytest.raises(Unreadable) as problem:
        Response(status=200, headers={"content-type": "text/html"}, body=body).json()

    assert f"the answer is not JSON (text/html, {len(body)} bytes)" == str(problem.value)


def test_an_unreadable_answer_without_a_type_says_so() -> None:
    """The error tells that there was no content type."""
    with pytest.raises(Unreadable, match="no content type, 1 bytes"):
        Response(status=200, body=b"?").json()


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0, 1.5, -1e308])
def test_numbers_are_read_to_their_limits(number: float) -> None:
    """Every 64-bit integer, signed or not, and every finite double is read."""
    assert number == Response(status=200, body=json.dumps(number).encode()).json()


@pytest.mark.parametrize(
    "text",
    [nested(DEEPEST), f"[{nested(DEEPEST - 1)}, [], []]", nested(DEEPEST - 1, '{"a":', "}").replace(":}", ":[]}", 1)],
)
def test_deep_json_is_read_to_its_limit(text: str) -> None:
    """As many levels as are promised are read."""
    assert json.loads(text) == strict_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}',
        '{"a": 1, "b": {"c": "::", "d": 2, "c": 3}}',
        '{"a": 1, "b": {"c": 1, "d": 2, "\\u0063": 3}}',
        '{"a": 1, "b": {"c": "\\u003a", "d": 2, "c": 3}}',
    ],
)
def test_a_name_stands_once_in_an_object(text: str) -> None:
    """Who asks twice for something else is told which name it is; of what a vendor says twice the last counts."""
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match="the name 'c' stands more than once"):
            strict_json(form)
    assert {"a": 1, "b": {"c": 3, "d": 2}} == Response(status=200, body=text.encode()).json()


PIECES = (
    *"{}[],: -.",
    '"a"',
    '"b:"',
    '"\\u003a"',
    '""',
    '"é"',
    "0",
    "1",
    "12345678901234567",
    "1e5",
    "1e999",
    "null",
    "NaN",
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_bytes_are_read_as_their_text_is(text: str) -> None:
    """However quickly JSON is read, what comes out, or is refused, is the same."""

    def read(form: bytes | str) -> object:
        try:
            return strict_json(form)
        except ValueError as error:
            return str(error)

    assert repr(read(text)) == repr(read(text.encode()))


def test_brackets_in_texts_and_rows_are_no_depth() -> None:
    """Only levels count: not brackets inside strings, and not many rows beside each other."""
    value = ["[" * 1000, *([[{}]] * 1000)]

    assert value == strict_json(json.dumps(value))
    assert "{" * 1000 == strict_json(json.dumps("{" * 1000))


@given(json_values)
def test_what_was_read_and_cleaned_can_be_written(value: JsonValue) -> None:
    """Whatever a vendor says, once read and cleaned, a strict encoder writes it, without any NUL."""
    written = orjson.dumps(clean(strict_json(json.dumps(value))))

    assert b"\\u0000" not in written


def cleaned_by_hand(text: str) -> str:
    """The text as clean should have it, one character at a time."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return "".join("\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in whole)


@given(json_texts)
def test_only_nul_and_lone_surrogates_are_replaced(text: str) -> None:
    """Each NUL and lone surrogate becomes one U+FFFD; a pair becomes its character; the rest stays."""
    assert cleaned_by_hand(text) == clean(text)


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud800a", "\ufffda"),
        ("a\udfff", "a\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ufeffé", "\ufeffé"),
        ({"k\x00": ["\ud800", {"n": "\x00"}]}, {"k\ufffd": ["\ufffd", {"n": "\ufffd"}]}),
        ([None, True, 3, 1.5], [None, True, 3, 1.5]),
    ],
)
def test_cleaning_goes_everywhere(dirty: Any, cleaned: Any) -> None:
    """Values and keys at every depth are cleaned; what is no text stays as it is."""
    assert cleaned == clean(dirty)


@given(json_values)
def test_cleaning_twice_is_cleaning_once(value: JsonValue) -> None:
    """What is clean stays as it is."""
    assert clean(value) == clean(clean(value))


@pytest.mark.parametrize(
    ("status", "ok"), [(199, False), (200, True), (204, True), (299, True), (300, False), (304, False)]
)
def test_only_2xx_is_fine(status: int, ok: bool) -> None:
    """Success is 2xx and nothing else."""
    assert ok is Response(status=status).ok


def test_transport_errors_say_what_may_have_happened() -> None:
    """Who catches a TransportError catches both kinds, and neither is the other."""
    assert (TransportError, TransportError) == (NotReached.__base__, NoAnswer.__base__)
