"""Who asks: a token, a name and password, or a chain of refresh tokens.

Of the chain everything is kept that the next access token needs, and the access token itself, so that neither a restart
nor another relay spends a refresh token needlessly:

    {"began": digest of the configured refresh token, "refreshToken", "accessToken", "expiresAt": Unix seconds or null}
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.core.answers import one_line, read_object, retry_after, seconds_of
from relay.core.flow import Flow, JsonValue, NoAnswer, NotLetIn, NotReached, Request, Response, Unreadable
from relay.core.vendor import Connection, Credentials, Login
from relay.vendors.trifacta.wire import OAuth, TrifactaOptions

LEAST_LEFT = 30.0
"""Seconds that an access token must still live to be worth using."""


def options_of(connection: Connection) -> TrifactaOptions:
    """The connection's own settings."""
    return connection.options  # type: ignore[return-value]


def remembers(connection: Connection) -> bool:
    """Whether its tokens rotate."""
    return options_of(connection).oauth is not None


def authenticate(connection: Connection, login: Login) -> Flow[Credentials]:
    """The header that goes with every request; only a chain of tokens asks for it."""
    options = options_of(connection)
    if options.oauth is None:
        return Credentials(headers={"Authorization": authorization(options)})
    chain = chain_of(options.oauth, login.kept)
    if chain.access_token is None or login.refused or _left(chain, login.now) < LEAST_LEFT:
        chain = yield from _refreshed(connection.name, options.oauth, chain, login.now)
    return _credentials(chain, login.now)


def authorization(options: TrifactaOptions) -> str:
    """The header of a token, or of a name and password; empty where neither is set."""
    if options.token is not None:
        return f"Bearer {options.token.get_secret_value()}"
    if options.password is None:
        return ""
    pair = f"{options.username}:{options.password.get_secret_value()}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


# --- the chain of tokens -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """How far a chain of refresh tokens has come. `expires_at` in Unix seconds, None where nobody says."""

    began: str
    refresh_token: str = field(repr=False)
    access_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None

    def kept(self) -> Mapping[str, JsonValue]:
        """As it is kept."""
        return {
            "began": self.began,
            "refreshToken": self.refresh_token,
            "accessToken": self.access_token,
            "expiresAt": self.expires_at,
        }


def chain_of(oauth: OAuth, kept: Mapping[str, JsonValue] | None) -> Chain:
    """The chain as it was kept; from its beginning where nothing was, or where another beginning is configured."""
    first = oauth.refresh_token.get_secret_value()
    began = hashlib.sha256(f"{oauth.client_id}\n{oauth.token_url}\n{first}".encode()).hexdigest()
    if kept is None or kept.get("began") != began:
        return Chain(began=began, refresh_token=first)
    return Chain(
        began=began,
        refresh_token=kept["refreshToken"],
        access_token=kept["accessToken"],
        expires_at=kept["expiresAt"],
    )


def _left(chain: Chain, now: float) -> float:
    return float("inf") if chain.expires_at is None else chain.expires_at - now


def _credentials(chain: Chain, now: float) -> Credentials:
    return Credentials(
        headers={"Authorization": f"Bearer {chain.access_token}"},
        expires_in=None if chain.expires_at is None else chain.expires_at - now,
        keep=chain.kept(),
    )


def _refreshed(name: str, oauth: OAuth, chain: Chain, now: float) -> Flow[Chain]:
    """The chain one link on. Raises NotLetIn where the token is refused, NotReached where the service is away."""
    response = yield Request(
        method="POST",
        path=oauth.token_url,
        form={
            "grant_type": "refresh_token",
            "refresh_token": chain.refresh_token,
            "client_id": oauth.client_id,
        },
        authenticated=False,
        once=True,
    )
    if not response.ok:
        raise _refusal(name, response, chain)
    try:
        answer = read_object(response)
    except Unreadable as error:
        raise NoAnswer(f"the token service's answer cannot be used: {error}") from None
    access, following = answer.get("access_token"), answer.get("refresh_token")
    lives = seconds_of(answer.get("expires_in"))
    if not _is_token(access):
        raise NoAnswer("the token service's answer holds no access token that can be used")
    return Chain(
        began=chain.began,
        refresh_token=str(following) if _is_token(following) else chain.refresh_token,
        access_token=access,
        expires_at=None if lives is None else now + lives,
    )


def _is_token(value: JsonValue) -> bool:
    """Whether it can go into a header."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _refusal(name: str, response: Response, chain: Chain) -> NotReached | NoAnswer:
    """What an answer that gives no token means."""
    word, said = _words(response, chain)
    if 400 <= response.status < 500 and response.status not in {408, 425, 429}:
        advice = (
            f"make a new pair at the vendor, and put its refresh token at connections.{name}.oauth.refreshToken"
            if word == "invalid_grant"
            else f"check connections.{name}.oauth"
        )
        return NotLetIn(f"the token service refuses the refresh token ({said}): {advice}")
    hint = retry_after(response)
    again = f"; it asks to come again in {hint:g} s" if hint is not None else ""
    return NoAnswer(f"the token service gives no token ({said}){again}")


def _words(response: Response, chain: Chain) -> tuple[str, str]:
    """The service's word for the error, and all that it says of it, without the token that it was shown."""
    try:
        body = read_object(response)
    except Unreadable:
        body = {}
    parts = [body[key] for key in ("error", "error_description") if isinstance(body.get(key), str)]
    line = one_line(": ".join(parts), [chain.refresh_token, chain.access_token or ""])
    word = body.get("error")
    return word if isinstance(word, str) else "", f"{response.status} {line}".strip()
