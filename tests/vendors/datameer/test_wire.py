"""What a request to Datameer may hold, and where it leads."""

from typing import Any

import pytest
from pydantic import ValidationError

from relay.core.flow import Request
from relay.core.room import drive
from relay.core.vendor import Credentials, Login
from relay.vendors.datameer import VENDOR
from relay.vendors.datameer.recorded import PAIR, ROOM, SEQUENCE
from relay.vendors.datameer.wire import DatameerOptions, History, OfFile, RunSequence, segment


def faults(model: Any, parameters: dict[str, Any]) -> list[str]:
    """The JSON paths of what is wrong."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(parameters)
    return [".".join(str(part) for part in error["loc"]) for error in refused.value.errors()]


@pytest.mark.parametrize(
    ("file", "sent"),
    [
        (48, "48"),
        ("48", "48"),
        ("f8d450cd-f065-4abb-a232-27cd20c48c2b", "f8d450cd-f065-4abb-a232-27cd20c48c2b"),
        ("/Users/analyst/Sales.wbk", "%2FUsers%2Fanalyst%2FSales.wbk"),
        ("/Users/ana lyst/100% of it?#x;y.wbk", "%2FUsers%2Fana%20lyst%2F100%25%20of%20it%3F%23x%3By.wbk"),
        ("/Ümläut/…/x..y/.hidden", "%2F%C3%9Cml%C3%A4ut%2F%E2%80%A6%2Fx..y%2F.hidden"),
    ],
)
def test_a_file_is_one_segment_of_the_path(file: Any, sent: str) -> None:
    """A number, a uuid or a path, whatever characters it has."""
    OfFile.model_validate({"file": file})

    assert sent == segment(file)


@pytest.mark.parametrize(
    "file",
    [
        "..",
        ".",
        "/Users/../admin/x.wbk",
        "/Users/./x.wbk",
        "..\\x",
        "/Users/%2e%2e/x",
        "/Users%2F..%2Fx",
        "/Users/..;jsessionid=1/x",
        "/Users/.. /x",
        "",
        " ",
        "a\nb",
        "/" + "x" * 1000,
        "a\x00b",
        None,
        True,
        4.5,
        {"id": 48},
    ],
)
def test_a_file_that_could_lead_elsewhere_is_refused(file: Any) -> None:
    """However it is disguised, and whatever is no file at all."""
    assert ["file"] == faults(OfFile, {"file": file})


def test_the_documents_sequence_is_valid() -> None:
    """Who copies from the vendor's documents is not turned away, save for what is no JSON in them."""
    RunSequence.model_validate(SEQUENCE)


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({}, "sequence"),
        ({"sequence": []}, "sequence"),
        ({"sequence": "3,4"}, "sequence"),
        ({"sequence": [3, "a,b"]}, "sequence.1"),
        ({"sequence": [3], "variables": ["foo"]}, "variables"),
        ({"sequence": [3], "fileIds": [None]}, "fileIds.0"),
    ],
)
def test_a_wrong_sequence_is_told_by_its_path(parameters: dict[str, Any], path: str) -> None:
    """Before anything is accepted."""
    assert [path] == faults(RunSequence, parameters)


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({}, "configuration"),
        ({"configuration": "../7"}, "configuration"),
        ({"configuration": 7, "start": -1}, "start"),
        ({"configuration": 7, "length": 0}, "length"),
        ({"configuration": 7, "length": "10"}, "length"),
    ],
)
def test_a_wrong_page_of_history_is_told_by_its_path(parameters: dict[str, Any], path: str) -> None:
    """Before anything is accepted."""
    assert [path] == faults(History, parameters)


def test_name_and_password_go_with_every_request() -> None:
    """As HTTP's basic authentication."""
    expected = Credentials(headers={"Authorization": f"Basic {PAIR}"})
    actual = drive(VENDOR.authenticate(ROOM.connection(), Login(now=0.0)), lambda _: pytest.fail("it asks"))

    assert expected == actual


def test_the_greeting_changes_nothing() -> None:
    """It only looks at what is running."""
    greeting = VENDOR.greeting(ROOM.connection())

    assert isinstance(greeting, Request)
    assert ("GET", "/rest/jobs/list-running") == (greeting.method, greeting.path)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"])
def test_a_time_zone_is_an_iana_name(zone: str) -> None:
    """As operators know them."""
    assert zone == DatameerOptions.model_validate({**ROOM.options, "timezone": zone}).timezone


@pytest.mark.parametrize("zone", ["", "CEST", "Europe", "/etc/localtime", "../UTC", "Mars/Base", "a\x00b"])
def test_another_time_zone_is_refused_with_an_example(zone: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(ValidationError, match="Europe/Berlin"):
        DatameerOptions.model_validate({**ROOM.options, "timezone": zone})
