"""Who asks Tailer: each way in, and that none of its secrets is seen."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from relay.core.flow import NotLetIn, NotReached, Request, Response
from relay.core.room import drive
from relay.core.vendor import Credentials, Login
from relay.vendors.tailer import VENDOR
from relay.vendors.tailer.recorded import ROOM, answer

NOW = 1_795_000_000.7
EMAIL = "relay@project.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
REFRESHING: Mapping[str, Any] = {"token": None, "refreshToken": "the-refresh-token", "apiKey": "the-api-key"}


def pem(key: Any, encryption: Any = None) -> str:
    """A private key as Google's files have it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()  # type: ignore[no-any-return]


SERVICE_ACCOUNT: Mapping[str, Any] = {
    "type": "service_account",
    "project_id": "project",
    "private_key_id": "key-7",
    "private_key": pem(KEY),
    "client_email": EMAIL,
    "token_uri": "https://oauth2.googleapis.com/token",
}
"""What Google hands out."""


def authenticate(say: Any = None, base_url: str = "https://vendor.test/v1", **options: Any) -> Credentials:
    """The credentials that a connection with these settings has; `say` is the token service's answer."""
    flow = VENDOR.authenticate(ROOM.connection(base_url, **options), Login(now=NOW))
    return drive(flow, say if callable(say) else lambda _: say)  # type: ignore[no-any-return]


def decoded(text: str) -> bytes:
    """Base64url without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwt_of(credentials: Credentials) -> str:
    """The bearer's token."""
    scheme, _, token = credentials.headers["Authorization"].partition(" ")
    assert scheme == "Bearer"
    return token


def claims_of(jwt: str) -> tuple[Any, Any]:
    """Header and claims of a JWT that the service account has signed; raises InvalidSignature for another."""
    header, claims, signature = jwt.split(".")
    KEY.public_key().verify(decoded(signature), f"{header}.{claims}".encode(), PKCS1v15(), SHA256())
    return json.loads(decoded(header)), json.loads(decoded(claims))


# --- a token ---


def test_a_token_is_the_bearers() -> None:
    """It is used as it is, for as long as it works."""
    assert Credentials(headers={"Authorization": "Bearer abc"}) == authenticate(token="abc")


# --- a service account ---


@pytest.mark.parametrize("given", [SERVICE_ACCOUNT, json.dumps(SERVICE_ACCOUNT, indent=2)], ids=["mapping", "text"])
def test_a_service_account_signs_for_itself(given: Any) -> None:
    """Its public key proves the signature; the claims are those that the vendor asks for, an hour from now."""
    credentials = authenticate(token=None, serviceAccount=given)
    header, claims = claims_of(jwt_of(credentials))

    assert {"alg": "RS256", "typ": "JWT", "kid": "key-7"} == header
    assert {
        "iss": EMAIL,
        "sub": EMAIL,
        "email": EMAIL,
        "aud": "https://vendor.test",
        "iat": 1_795_000_000,
        "exp": 1_795_003_600,
    } == claims
    assert 3600 == credentials.expires_in


@pytest.mark.parametrize(
    ("base_url", "options", "audience"),
    [
        ("https://vendor.test/v1/", {}, "https://vendor.test"),
        ("https://vendor.test", {}, "https://vendor.test"),
        ("https://gateway.test/tailer/v1", {}, "https://gateway.test/tailer"),
        ("https://gateway.test/v1", {"audience": "https://vendor.test"}, "https://vendor.test"),
    ],
)
def test_the_audience_is_the_vendor_without_its_version(base_url: str, options: Any, audience: str) -> None:
    """Unless a setting says for whom it is signed."""
    credentials = authenticate(base_url=base_url, token=None, serviceAccount=SERVICE_ACCOUNT, **options)
    _, claims = claims_of(jwt_of(credentials))

    assert audience == claims["aud"]


def test_a_key_without_an_id_is_signed_with_all_the_same() -> None:
    """The header then names none."""
    nameless = {name: value for name, value in SERVICE_ACCOUNT.items() if name != "private_key_id"}
    header, _ = claims_of(jwt_of(authenticate(token=None, serviceAccount=nameless)))

    assert {"alg": "RS256", "typ": "JWT"} == header


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("no JSON", "serviceAccount"),
        ("[" * 100_000, "serviceAccount"),
        ("[]", "serviceAccount"),
        ({"client_email": EMAIL}, "serviceAccount.private_key"),
        ({"private_key": pem(KEY)}, "serviceAccount.client_email"),
        ({**SERVICE_ACCOUNT, "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE"}, "serviceAccount"),
        ({**SERVICE_ACCOUNT, "private_key": pem(ec.generate_private_key(ec.SECP256R1()))}, "serviceAccount"),
        ({**SERVICE_ACCOUNT, "private_key": pem(KEY, BestAvailableEncryption(b"p"))}, "serviceAccount"),
    ],
    ids=["text", "deep", "list", "no key", "no name", "cut off", "no RSA", "locked"],
)
def test_what_is_no_service_accounts_key_is_refused_at_start(given: Any, path: str) -> None:
    """The error says where, and shows nothing of a key."""
    with pytest.raises(ValidationError) as refused:
        VENDOR.options.model_validate({"serviceAccount": given})
    (error,) = refused.value.errors()

    assert path == ".".join(map(str, error["loc"]))
    assert "BEGIN" not in str(refused.value)
    assert "MII" not in str(refused.value)


# --- a refresh token ---


def handed_out(**changes: Any) -> Response:
    """The token service's answer, as Google documents it."""
    tokens = {"id_token": "an.id.token", "access_token": "an.id.token", "refresh_token": "the-refresh-token"}
    return answer(200, {**tokens, "expires_in": "3600", "token_type": "Bearer", "user_id": "u", **changes})


def test_a_refresh_token_is_exchanged_for_the_bearers() -> None:
    """By a form, the API key in the query; the ID token is what the vendor takes."""
    requests: list[Request] = []

    def say(request: Request) -> Response:
        requests.append(request)
        return handed_out()

    credentials = authenticate(say, **REFRESHING)

    assert [
        Request(
            method="POST",
            path="https://securetoken.googleapis.com/v1/token",
            query={"key": "the-api-key"},
            form={"grant_type": "refresh_token", "refresh_token": "the-refresh-token"},
            authenticated=False,
        )
    ] == requests
    assert Credentials(headers={"Authorization": "Bearer an.id.token"}, expires_in=3600.0) == credentials


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("600", 600.0),
        (600, 600.0),
        (None, 3600.0),
        ("soon", 3600.0),
        ("²", 3600.0),
        ("9" * 400, 3600.0),
        (2**63, 3600.0),
        (-1, 3600.0),
        (1e300, 3600.0),
    ],
)
def test_a_token_lives_as_long_as_it_says(told: Any, seconds: float) -> None:
    """In a text or a number; an hour where it does not say."""
    assert seconds == authenticate(handed_out(expires_in=told), **REFRESHING).expires_in


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_refresh_token_says_what_to_renew(status: int) -> None:
    """In Google's words, without either secret."""
    words = {"error": {"code": status, "message": "TOKEN_EXPIRED the-refresh-token the-api-key"}}
    with pytest.raises(NotLetIn) as refused:
        authenticate(answer(status, words), **REFRESHING)

    expected = f"the token service answered {status}: TOKEN_EXPIRED [secret] [secret]; renew refreshToken"
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize(
    "said",
    [
        answer(429),
        answer(503),
        answer(200, {"access_token": "x"}),
        answer(200, {"id_token": "line\nbreak"}),
        answer(200, {"id_token": ""}),
        Response(status=200, body=b"<html>"),
    ],
    ids=["busy", "down", "no token", "bad token", "empty token", "page"],
)
def test_a_token_service_that_does_not_answer_well_is_tried_again(said: Response) -> None:
    """It refuses nobody: the job waits."""
    with pytest.raises(NotReached) as missed:
        authenticate(said, **REFRESHING)

    assert not isinstance(missed.value, NotLetIn)


# --- secrets ---


def test_no_way_in_shows_a_secret_in_a_repr() -> None:
    """Neither connection nor credentials nor what is asked."""
    connections = [ROOM.connection(token=None, serviceAccount=SERVICE_ACCOUNT), ROOM.connection(**REFRESHING)]
    asked = next(VENDOR.authenticate(connections[1], Login(now=NOW)))
    credentials = [authenticate(handed_out(), **REFRESHING), authenticate(token=None, serviceAccount=SERVICE_ACCOUNT)]
    shown = repr([connections, asked, credentials, [connection.options for connection in connections]])
    secrets = ["the-refresh-token", "the-api-key", "PRIVATE KEY", "an.id.token", jwt_of(credentials[1])]

    assert [] == [secret for secret in secrets if secret in shown]


def test_a_signed_token_that_comes_back_is_struck_out() -> None:
    """A vendor may quote what it does not take."""
    jwt = jwt_of(authenticate(token=None, serviceAccount=SERVICE_ACCOUNT))
    run = VENDOR.operations["run"].submit(ROOM.connection(token=None, serviceAccount=SERVICE_ACCOUNT), ROOM.job(), None)
    fact = drive(run, lambda _: answer(401, {"message": f"bad token: Bearer {jwt}."}))

    assert "Tailer answered 401: bad token: Bearer [secret]." == fact.error.message


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, True), (400, False), (200, False)])
def test_which_answers_ask_for_another_token(status: int, refused: bool) -> None:
    """The vendor does not say with which of the two it refuses one."""
    assert refused == VENDOR.unauthorized(Response(status=status))
