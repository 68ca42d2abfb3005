"""How Trifacta's quotas are kept to."""

import pytest

from relay.core import facts
from relay.core.flow import Response
from relay.core.room import drive
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from relay.vendors.trifacta import RUN, VENDOR
from relay.vendors.trifacta.recorded import AT, DATE, RECIPE, ROOM, TOO_MANY, quota
from relay.vendors.trifacta.reports import LONGEST_QUOTA, until_reset

LATE = {"date": "Wed, 08 Sep 2021 10:27:14 GMT"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({**DATE, **quota("user", 41_500)}, 41.5),
        ({**DATE, **quota("user", 10_000), **quota("workspace", 20_000)}, 20.0),
        ({**DATE, **quota("user", 10_000), **quota("workspace", 20_000, remaining=5)}, 10.0),
        ({**DATE, **quota("user", 10_000, remaining=3)}, None),
        ({**DATE, "x-rate-limit-user-reset": str(AT + 5_000)}, 5.0),
        ({**LATE, **quota("user", 10_000)}, 0.0),
        ({**DATE, **quota("user", 10**10)}, LONGEST_QUOTA),
        ({**DATE, "x-rate-limit-user-reset": "soon"}, None),
        ({**DATE, "x-rate-limit-user-reset": "9" * 400}, None),
        ({"date": "yesterday", **quota("user", 10_000)}, None),
        ({"date": "Wed, 08 Sep 99999 10:17:14 GMT", **quota("user", 10_000)}, None),
        (quota("user", 10_000), None),
        ({}, None),
    ],
    ids=[
        "user",
        "both",
        "one has some left",
        "all have some left",
        "no remaining",
        "past",
        "far",
        "no number",
        "too long a number",
        "no date",
        "odd date",
        "date missing",
        "nothing told",
    ],
)
def test_the_end_of_a_quota_is_reckoned_by_the_vendors_clock(headers: dict[str, str], expected: float | None) -> None:
    """Its reset less its own date, whatever our clock says; the later one where two are used up."""
    assert expected == until_reset(Response(status=429, headers=headers))


def test_only_a_refusal_is_about_a_quota() -> None:
    """The headers come with every answer."""
    assert until_reset(Response(status=200, headers={**DATE, **quota("user", 5_000)})) is None


@pytest.mark.parametrize(("header", "hint"), [("x-retry-after", 57.0), ("retry-after", 3.0), (None, 37.696)])
def test_what_the_vendor_says_plainly_goes_first(header: str | None, hint: float) -> None:
    """`x-retry-after` as in its documents, or Retry-After; the quota's end only where neither is there."""
    plain = {} if header is None else {header: f"{hint:g}"}
    headers = {**DATE, **quota("user", 37_696), **plain}
    answer = Response(status=429, headers=headers, body=TOO_MANY.body)
    submitted = drive(RUN.submit(ROOM.connection(), ROOM.job("run", RECIPE), None), lambda _: answer)
    polled = drive(ROOM.poll(ROOM.running()), lambda _: answer)

    assert isinstance(submitted, facts.NotSent)
    assert isinstance(polled, facts.PollFailed)
    assert (hint, hint) == (submitted.retry_after, polled.retry_after)


async def test_a_quota_that_is_used_up_is_waited_for() -> None:
    """The stand-in tells only when the minute ends, as the vendor may."""
    async with TrifactaSimulator(duration=0.0) as server:
        connection = ROOM.connection(server.url)
        driver = VendorDriver([VendorLink(connection=connection, vendor=VENDOR)])
        job = ROOM.job("run", {"wrangledDataset": {"id": 9010}})
        first = await driver.run(ROOM.name, RUN.submit(connection, job, None))
        second = await driver.run(ROOM.name, RUN.submit(connection, job, None))
        server.faults.add(Fault(on="poll", harm="busy"))
        looked = await driver.run(ROOM.name, ROOM.vendor.operations["run"].poll(connection, ROOM.running()))  # type: ignore[misc]
        await driver.close()

    assert isinstance(first, facts.NotSent)
    assert isinstance(looked, facts.PollFailed)
    for hint in (first.retry_after, looked.retry_after):
        assert hint is not None
        assert 0.0 < hint <= 2.0
    assert isinstance(second, facts.Submitted)
