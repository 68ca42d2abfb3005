"""Who is asking, and may they: bearer tokens, or this machine alone where none is configured."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

from relay.edges.web.doors import ApiToken, Scope
from relay.edges.web.problems import Wrong

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: a token's name, and the connections that it may see and touch (None: all)."""

    name: str
    connections: frozenset[str] | None = None

    def sees(self, connection: str | None) -> bool:
        """Whether what belongs to this connection may be shown."""
        return self.connections is None or connection in self.connections


ANYBODY = Caller(name="anybody", connections=frozenset())
"""Who calls what needs no token."""
LOCAL = Caller(name="local")
"""This machine, where no token is configured."""


def admit(request: web.Request, tokens: Sequence[ApiToken], scopes: frozenset[Scope]) -> Caller:
    """The caller, who has one of these scopes. Raises Wrong (401, 403)."""
    if not tokens:
        return _this_machine(request)
    token = _known(request, tokens)
    if scopes.isdisjoint(token.scopes):
        needed = " or ".join(sorted(scopes))
        raise Wrong(403, "forbidden", f"the token {token.name!r} lacks the scope {needed}")
    return Caller(name=token.name, connections=token.connections)


def _known(request: web.Request, tokens: Sequence[ApiToken]) -> ApiToken:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    digest = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).hexdigest()
    # Every token is compared, each in constant time, so that the time taken tells nothing about any.
    known = [token for token in tokens if hmac.compare_digest(digest, token.sha256.lower())]
    if scheme.lower() != "bearer" or not given.strip() or not known:
        detail = "send a known token as `Authorization: Bearer …` (`relay tokens create` makes one)"
        raise Wrong(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    return known[0]


def _this_machine(request: web.Request) -> Caller:
    """A request that somebody else's page or a proxy sent on also comes from here: its headers tell."""
    local = _is_loopback(request.remote) and _is_loopback(_host(request)) and _is_loopback(_origin(request))
    if not local or any(name in request.headers for name in _FORWARDED):
        detail = "no token is configured, so only this machine itself is answered: make one with `relay tokens create`"
        raise Wrong(403, "forbidden", detail)
    return LOCAL


def _host(request: web.Request) -> str:
    name = request.headers.get("Host", "localhost")
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def _origin(request: web.Request) -> str | None:
    """The host of the page that had a browser send it: whatever the answer says to whom, a bare POST acts at once."""
    try:
        return urlsplit(request.headers.get("Origin", "http://localhost")).hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
