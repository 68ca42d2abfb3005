"""How Trifacta's connections are let in by tokens that rotate."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from relay.core.flow import NoAnswer, NotLetIn, NotReached, Request, Response
from relay.core.room import drive, play
from relay.core.vendor import Credentials, Login
from relay.vendors.trifacta import VENDOR
from relay.vendors.trifacta.login import remembers
from relay.vendors.trifacta.recorded import ROOM
from relay.vendors.trifacta.wire import TrifactaOptions

NOW = 1_795_000_000.0
OAUTH = {"clientId": "client", "refreshToken": "first-refresh", "tokenUrl": "https://login.test/as/token"}
CONNECTION = ROOM.connection(token=None, oauth=OAUTH)


def pair(access: Any = "access-1", refresh: Any = "refresh-1", lives: Any = 300) -> Response:
    """What the token service gives."""
    body = {"access_token": access, "refresh_token": refresh, "expires_in": lives, "token_type": "Bearer"}
    given = {key: value for key, value in body.items() if value is not None}
    return Response(status=200, headers={"content-type": "application/json"}, body=json.dumps(given).encode())


def exchange(token: str) -> Request:
    """How a refresh token is traded."""
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "client"}
    return Request(method="POST", path="https://login.test/as/token", form=form, authenticated=False, once=True)


def let_in(
    *exchanges: tuple[Request, Response],
    kept: Mapping[str, Any] | None = None,
    connection: Any = CONNECTION,
    **login: Any,
) -> Credentials:
    """The credentials that come of it."""
    given = Login(**{"now": NOW, "kept": kept, **login})
    credentials: Credentials = play(VENDOR.authenticate(connection, given), exchanges)
    return credentials


def kept(**changes: Any) -> dict[str, Any]:
    """What was kept after the first exchange."""
    return {**(let_in((exchange("first-refresh"), pair())).keep or {}), **changes}


def test_the_configured_token_begins_the_chain() -> None:
    """It is traded for a pair; what follows is kept with the access token and its end."""
    credentials = let_in((exchange("first-refresh"), pair()))
    remembered = {key: value for key, value in (credentials.keep or {}).items() if key != "began"}

    expected = {"refreshToken": "refresh-1", "accessToken": "access-1", "expiresAt": NOW + 300}
    assert ("Bearer access-1", 300.0) == (credentials.headers["Authorization"], credentials.expires_in)
    assert expected == remembered
    assert "first-refresh" not in str(credentials.keep)


def test_an_access_token_that_was_kept_is_used_while_it_lives() -> None:
    """Neither a restart nor another relay spends a refresh token for it."""
    credentials = let_in(kept=kept(), now=NOW + 200)

    assert ("Bearer access-1", 100.0) == (credentials.headers["Authorization"], credentials.expires_in)
    assert credentials.keep == kept()


@pytest.mark.parametrize("login", [{"now": NOW + 280}, {"now": NOW + 1000}, {"refused": True}])
def test_the_chain_goes_on_with_the_token_that_was_kept(login: dict[str, Any]) -> None:
    """When the access token is about to end, or is refused, the newest refresh token is traded."""
    credentials = let_in((exchange("refresh-1"), pair("access-2", "refresh-2")), kept=kept(), **login)

    assert credentials.headers["Authorization"] == "Bearer access-2"
    assert (credentials.keep or {})["refreshToken"] == "refresh-2"


def test_a_new_token_of_the_operators_begins_a_new_chain() -> None:
    """What was kept of another chain does not count, were it still good."""
    connection = ROOM.connection(token=None, oauth={**OAUTH, "refreshToken": "another"})
    credentials = let_in((exchange("another"), pair("access-9")), kept=kept(), connection=connection)

    assert credentials.headers["Authorization"] == "Bearer access-9"


def test_a_service_that_rotates_nothing_may_do_so() -> None:
    """Without a new refresh token the old one goes on; without an end the access token lasts until it is refused."""
    credentials = let_in((exchange("first-refresh"), pair(refresh=None, lives=None)))

    assert (credentials.keep or {})["refreshToken"] == "first-refresh"
    assert credentials.expires_in is None
    assert let_in(kept=credentials.keep, now=NOW * 2).headers == credentials.headers


@pytest.mark.parametrize("lives", ["²", "soon", -1, 2**63, 1e300, True, [300]])
def test_an_absurd_end_is_none(lives: Any) -> None:
    """As if the service had not said when the token ends."""
    assert let_in((exchange("first-refresh"), pair(lives=lives))).expires_in is None


def refused(response: Response) -> BaseException:
    """Why nobody is let in."""
    with pytest.raises((NotLetIn, NotReached, NoAnswer)) as raised:
        let_in((exchange("refresh-1"), response), kept=kept(), refused=True)
    return raised.value


def test_a_spent_token_says_what_to_do() -> None:
    """Only the operator can mend it, and is told where; the token itself is not shown."""
    told = {"error": "invalid_grant", "error_description": "refresh-1 was used before"}
    error = refused(Response(status=400, body=json.dumps(told).encode()))

    assert isinstance(error, NotLetIn)
    assert "connections.trifacta.oauth.refreshToken" in str(error)
    assert "invalid_grant: [secret] was used before" in str(error)
    assert "refresh-1" not in str(error)


@pytest.mark.parametrize("body", [b'{"error": "invalid_client"}', b"<html>", b'{"error": 4}', b""])
def test_another_refusal_points_to_the_settings(body: bytes) -> None:
    """It is refused for good, for a reason of the settings."""
    error = refused(Response(status=401, body=body))

    assert isinstance(error, NotLetIn)
    assert str(error).endswith("check connections.trifacta.oauth")


@pytest.mark.parametrize(
    "response",
    [
        Response(status=500),
        Response(status=429, headers={"retry-after": "7"}),
        Response(status=200, body=b"{"),
        Response(status=200, body=b"[]"),
        Response(status=302, headers={"location": "https://elsewhere.test"}),
        pair(access=None),
        pair(access="line\nbreak"),
        pair(access={"a": 1}),
    ],
    ids=["500", "429", "half", "list", "redirect", "no token", "odd token", "no text"],
)
def test_a_service_in_trouble_is_asked_again(response: Response) -> None:
    """Nothing was said against the token."""
    error = refused(response)

    assert not isinstance(error, NotLetIn)
    assert "refresh-1" not in str(error)


def test_only_rotating_tokens_are_remembered() -> None:
    """A token of one's own, or a name and password, leaves nothing to keep."""
    assert [True, False] == [remembers(CONNECTION), remembers(ROOM.connection())]


def test_no_token_shows_in_a_repr() -> None:
    """Neither configured nor kept."""
    shown = repr([CONNECTION, let_in(kept=kept()), Login(now=NOW, kept=kept())])

    assert not [secret for secret in ("first-refresh", "refresh-1", "access-1") if secret in shown]


@pytest.mark.parametrize(
    "bad",
    [
        {"oauth": OAUTH, "token": "t"},
        {"oauth": {**OAUTH, "tokenUrl": "login.test"}},
        {"oauth": {**OAUTH, "clientId": ""}},
        {"oauth": {key: OAUTH[key] for key in ("clientId", "tokenUrl")}},
        {"oauth": {**OAUTH, "clientSecret": "s"}},
    ],
)
def test_wrong_settings_are_refused(bad: dict[str, Any]) -> None:
    """What cannot let in is told at start, without the token."""
    with pytest.raises(ValidationError) as error:
        TrifactaOptions.model_validate(bad)

    assert "first-refresh" not in str(error.value)


def test_the_vendors_words_never_hold_the_access_token() -> None:
    """A vendor that repeats the header that it was sent gives nothing away."""
    said = {"exception": {"name": "Odd", "message": 'you sent "Bearer access-1"', "details": None}}
    job = ROOM.job("status")
    flow = VENDOR.operations["status"].submit(CONNECTION, job, None)
    fact = drive(flow, lambda _: Response(status=400, body=json.dumps(said).encode()))

    assert "access-1" not in repr(fact)
