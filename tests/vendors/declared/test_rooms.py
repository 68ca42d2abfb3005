"""Declared vendors are held by exchanges in a file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.core.room import Room
from relay.kit import Broken, cases_of
from relay.vendors.declared import Declaration, vendor_of
from relay.vendors.declared.recorded import FILE
from relay.vendors.declared.rooms import Exchanges, room_of

ACME: Any = yaml.safe_load(FILE.read_text("utf-8"))
EXCHANGES: Any = yaml.safe_load(FILE.with_suffix(".recorded.yaml").read_text("utf-8"))


def room(exchanges: Any = None, declared: Any = ACME) -> Room:
    """The room of the example, with these exchanges."""
    declaration = Declaration.model_validate(declared)
    return room_of(vendor_of("acme", declaration), declaration, Exchanges.model_validate(exchanges or EXCHANGES))


def broken(one: Room) -> dict[str, str]:
    """The promises that it breaks, and how."""
    found: dict[str, str] = {}
    for promise, case in cases_of(one):
        try:
            case.check()
        except Broken as why:
            found[promise.__name__] = str(why)
    return found


def test_the_example_keeps_every_promise() -> None:
    """As its file of exchanges tells it."""
    assert {} == broken(room())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"asks": [{"request": {"method": "POST", "path": "/elsewhere", "json": {"a": 1}}, "answer": {}}]},
            "'format': 'csv', 'note': 'asked for by r-1'}\ninstead of\n    POST /elsewhere json={'a': 1}",
        ),
        ({"asks": []}, "it still asks"),
        ({"endsIn": {"fact": "Submitted", "vendorJobId": "run-8"}}, "it ends in Submitted"),
        ({"endsIn": {"fact": "Refused", "error": "vendor_rejected", "message": "never"}}, "it ends in Submitted"),
        ({"act": "cancel", "operation": "history"}, "history of acme has no cancel"),
        ({"act": "find", "operation": "history"}, "history of acme has no find"),
        ({"operation": "fly"}, "acme has no operation 'fly'"),
    ],
)
def test_an_exchange_that_is_otherwise_is_told(change: dict[str, Any], said: str) -> None:
    """What is asked, and what it ends in, is compared with what the file says."""
    first = {**EXCHANGES["exchanges"][0], **change}
    found = broken(room({**EXCHANGES, "exchanges": [first]}))

    assert ["recorded_exchanges_end_in_their_fact"] == list(found)
    assert said in found["recorded_exchanges_end_in_their_fact"]


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"json": {"format": "xml"}}, False),
        ({"headers": {"idempotency-key": "5ac0a9d4-6c1f-4a56-9a3e-0f6f4b1d9f00"}}, True),
        ({"headers": {"X-Other": "y"}}, False),
        ({"query": {"a": "b"}}, False),
        ({"form": {"a": "b"}}, False),
    ],
)
def test_what_a_file_gives_of_a_request_is_compared(given: dict[str, Any], same: bool) -> None:
    """And nothing else of it."""
    request = {"method": "post", "path": "/reports/sales/runs", **given}
    answer = {"status": 202, "json": {"run": {"id": "run-7001"}}}
    first = {**EXCHANGES["exchanges"][0], "asks": [{"request": request, "answer": answer}]}

    assert same is not bool(broken(room({**EXCHANGES, "exchanges": [first]})))


def test_a_wrong_word_in_the_declaration_is_found() -> None:
    """A state that the declaration maps to another than the vendor means shows in the exchange."""
    text = FILE.read_text("utf-8").replace("failed: [ERROR]", "failed: [STOPPED]")
    declared = yaml.safe_load(text.replace("canceled: [STOPPED]\n", "canceled: [ERROR]\n"))
    found = broken(room(declared=declared))

    assert "it ends in Canceled" in found["recorded_exchanges_end_in_their_fact"]


def test_a_text_answer_is_sent_as_it_is() -> None:
    """Not every vendor answers with JSON."""
    request = {"method": "POST", "path": "/reports/sales/runs"}
    first = {
        "name": "a page",
        "asks": [{"request": request, "answer": {"text": "<html>", "headers": {"Content-Type": "text/html"}}}],
        "endsIn": {"fact": "Unanswered"},
    }

    assert {} == broken(room({**EXCHANGES, "exchanges": [first]}))


def test_a_vendor_without_a_run_has_no_words(tmp_path: Path) -> None:
    """Then the promises about words are not its."""
    declared = {**ACME, "operations": {"history": ACME["operations"]["history"]}}
    one = room({**EXCHANGES, "exchanges": []}, declared)

    assert {} == dict(one.words)
