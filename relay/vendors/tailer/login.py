"""Who asks Tailer: the bearer's token, given, signed here, or had for a refresh token."""

import base64
import json
from typing import cast

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import SecretStr

from relay.core.answers import read_object, seconds_of
from relay.core.flow import Flow, JsonValue, NotLetIn, NotReached, Request, Response, Unreadable
from relay.core.vendor import Connection, Credentials, Login
from relay.vendors.tailer.reports import words
from relay.vendors.tailer.wire import ServiceAccount, TailerOptions

LIFETIME = 3600
"""Seconds for which a token is good."""


def options_of(connection: Connection) -> TailerOptions:
    """The connection's own settings."""
    return cast(TailerOptions, connection.options)


def authenticate(connection: Connection, login: Login) -> Flow[Credentials]:
    """The bearer's token: the one given, one signed here, or one that a refresh token is exchanged for."""
    options = options_of(connection)
    if options.token is not None:
        return bearer(options.token.get_secret_value())
    if options.service_account is not None:
        audience = options.audience or connection.base_url.rstrip("/").removesuffix("/v1")
        return bearer(signed(options.service_account, audience, int(login.now)), LIFETIME)
    response = yield exchange_request(options)
    return exchanged(response, secrets_of(connection))


def unauthorized(response: Response) -> bool:
    """Whether the vendor no longer takes the token; with which of the two it says so is not documented."""
    return response.status in {401, 403}


def bearer(token: str, expires_in: float | None = None) -> Credentials:
    """What goes with every request."""
    return Credentials(headers={"Authorization": f"Bearer {token}"}, expires_in=expires_in)


def signed(account: ServiceAccount, audience: str, now: int) -> str:
    """A JWT that the service account has signed (RS256) for itself, good for an hour from `now` (Unix seconds)."""
    email = account.client_email
    header = {"alg": "RS256", "typ": "JWT", **({"kid": account.private_key_id} if account.private_key_id else {})}
    claims = {"iss": email, "sub": email, "email": email, "aud": audience, "iat": now, "exp": now + LIFETIME}
    signing_input = f"{_base64url(_compact(header))}.{_base64url(_compact(claims))}"
    signature = account.key().sign(signing_input.encode(), PKCS1v15(), SHA256())
    return f"{signing_input}.{_base64url(signature)}"


def _compact(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def exchange_request(options: TailerOptions) -> Request:
    """The request for a token. Google wants the API key in the URL's query, which is never logged."""
    return Request(
        method="POST",
        path=options.token_url,
        query={"key": _text(options.api_key)},
        form={"grant_type": "refresh_token", "refresh_token": _text(options.refresh_token)},
        authenticated=False,
    )


def exchanged(response: Response, secrets: list[str]) -> Credentials:
    """The token that a refresh token was exchanged for. Raises NotLetIn where it is refused, NotReached where the
    answer is of no use."""
    told = words(response, secrets, who="the token service")
    if 400 <= response.status < 500 and response.status not in {408, 429}:
        raise NotLetIn(f"{told}; renew refreshToken (the vendor's tool: tailer auth login), or check apiKey")
    if not response.ok:
        raise NotReached(told)
    try:
        answer = read_object(response)
    except Unreadable as error:
        raise NotReached(f"the token service's answer is of no use: {error}") from None
    token = answer.get("id_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise NotReached("the token service's answer is of no use: it has no id_token")
    lives = seconds_of(answer.get("expires_in"))  # which is a number in a text
    return bearer(token, LIFETIME if lives is None else lives)


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def secrets_of(connection: Connection) -> list[str]:
    """Every secret that goes out, so that none comes back in somebody's words."""
    options = options_of(connection)
    return [_text(secret) for secret in (options.token, options.refresh_token, options.api_key)]
