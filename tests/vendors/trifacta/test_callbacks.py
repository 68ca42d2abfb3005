"""How Trifacta's webhooks are read."""

import json
from dataclasses import replace
from typing import Any

import pytest

from relay.core import facts
from relay.core.flow import NoAnswer, Response
from relay.core.room import CALLBACK, VENDOR_JOB, drive, now
from relay.core.vendor import Callback
from relay.vendors.trifacta import REPORTING
from relay.vendors.trifacta.recorded import ROOM, called


def read(body: Any, answer: Any = None) -> Any:
    """What a callback with this body means for a running job."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    callback = Callback(method="POST", headers={}, query={}, body=text)
    return drive(REPORTING.read(ROOM.connection(), ROOM.running(), callback), lambda _: answer)


def test_a_number_as_job_id_is_as_good_as_a_text() -> None:
    """The template quotes the token; a template of one's own may not."""
    expected = "961247"
    actual = read({"jobid": 961247, "jobstatus": "Complete"}).ref.id

    assert expected == actual


def test_a_report_that_was_quoted_once_more_is_read() -> None:
    """A template sent as text may come back as the JSON of that text."""
    quoted = json.dumps(json.dumps({"jobid": VENDOR_JOB, "jobstatus": "Complete"})).encode()

    assert isinstance(read(quoted), facts.Succeeded)


def test_what_came_is_the_result() -> None:
    """The callback is the vendor's last answer."""
    expected = {"jobid": VENDOR_JOB, "jobstatus": "Complete", "more": [1]}
    actual = read(expected).result

    assert expected == actual


def test_tokens_that_the_vendor_did_not_replace_say_nothing() -> None:
    """Its own test button sends the template as it is."""
    assert isinstance(read({"jobid": "$jobId", "jobstatus": "$jobStatus"}), facts.Nudged)


@pytest.mark.parametrize("answer", [NoAnswer("lost"), Response(status=500), Response(status=200, body=b"{")])
def test_a_failure_stands_even_if_its_reason_cannot_be_had(answer: Any) -> None:
    """The vendor has said that it failed."""
    fact = read({"jobid": VENDOR_JOB, "jobstatus": "Failed"}, answer)

    assert isinstance(fact, facts.Failed)
    assert fact.error.message == "the job failed: Trifacta gave no reason"


def test_the_signature_is_looked_for_where_the_connection_says() -> None:
    """The header's name is the one thing of the scheme that differs by edition."""
    good = called("Complete", CALLBACK.secret, now())
    moved = replace(good, headers={"x-sig": good.headers["x-webhook-signature"]})
    connection = ROOM.connection(signatureHeader="X-Sig")
    assert REPORTING.verify is not None

    assert REPORTING.verify(connection, moved, CALLBACK.secret, now()) is None
    assert REPORTING.verify(connection, good, CALLBACK.secret, now()) == "the X-Sig header is missing"
