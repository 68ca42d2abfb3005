"""Where relay may send what outsiders ask it to send: which URLs, and which addresses behind them.

A URL is checked twice: its form when it is accepted (`check_url`), the address that its host turned out to have
when relay connects (`forbidden`). Names are never judged by their looks: what counts is where they lead.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

LONGEST_URL = 8000
"""Characters; servers and the client itself refuse longer request lines."""


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What the operator allows beyond public addresses by https.

    An allowed network exempts its addresses, an allowed host name whatever address that name has.
    """

    allow: tuple[Network | str, ...] = ()
    allow_http: bool = False

    @classmethod
    def of(cls, allow: Iterable[str], allow_http: bool = False) -> "EgressPolicy":
        """The policy as settings spell it; raises ValueError for what is neither address, network nor host name."""
        return cls(tuple(map(_network_or_host, allow)), allow_http)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The allowed networks."""
        return tuple(entry for entry in self.allow if not isinstance(entry, str))

    def allows_host(self, host: str) -> bool:
        """Whether this host was allowed by its name, in the form in which it goes to the resolver."""
        return _plain_name(host) in self.allow


def check_url(url: str, policy: EgressPolicy) -> str | None:
    """Why this URL is not acceptable, for the one who sent it; None if it is. The host is not looked up."""
    if len(url) > LONGEST_URL:
        return f"it is longer than {LONGEST_URL} characters"
    if not url.isprintable() or " " in url or "\\" in url:
        return "it holds a space, a control character or a backslash; percent-encode it"
    origin = _ORIGIN.match(url)
    assert origin is not None  # of any text it matches the beginning
    scheme, fault = _judged(origin[0])
    if scheme == "http" and not policy.allow_http:
        return "http is not allowed here; use https, or ask the operator for egress.allowHttp"
    return fault


@lru_cache(1024)
def _judged(origin: str) -> tuple[str, str | None]:
    """The scheme of a URL of this origin, and why no such URL is acceptable."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "", "it cannot be read as a URL"
    return parts.scheme, _fault(parts.scheme, parts.netloc, host, port)


def _fault(scheme: str, authority: str, host: str | None, port: int | None) -> str | None:
    if scheme not in ("https", "http"):
        return "it must begin with https://"
    if "@" in authority:
        return "it carries a user name or password; send credentials in a header"
    if not host:
        return "it names no host"
    if port == 0:
        return "its port must be between 1 and 65535"
    return _check_bracketed(authority) if "[" in authority else _check_name(host)


def forbidden(address: str | Address, allow: Iterable[Network] = ()) -> str | None:
    """The name of the rule that keeps relay from connecting to this address; None if it may.

    An IPv4 address in IPv6 clothes (``::ffff:a.b.c.d``) is judged as what it is. The other forms that carry an
    IPv4 address to somebody who unwraps it (NAT64, 6to4, Teredo, ISATAP) are forbidden as such.
    """
    address = ip_address(address)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allow):
        return None
    rule = next((rule for network, rule in _RULES if address in network), None)
    return rule or ("ISATAP" if _is_isatap(address) else None)


def _is_isatap(address: Address) -> bool:
    """Whether an IPv6 address, of whatever network, ends as those do that lead through a tunnel to an IPv4 address."""
    return address.version == 6 and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP


_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

_RULES: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), rule)
    for network, rule in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared address space"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("168.63.129.16/32", "cloud platform"),  # Azure's host, at a public address
        ("::/128", "this network"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3ffe::/16", "reserved"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        # Of IPv6 only 2000::/3 has been given out; what is outside is no public address, whatever comes.
        ("::/3", "not global unicast"),
        ("4000::/2", "not global unicast"),
        ("8000::/1", "not global unicast"),
    )
)
"""The first that holds the address names the reason. The standard library's `is_global` will not do: it calls
NAT64, 6to4, site-local and multicast addresses global."""

_ORIGIN = re.compile("[^/?#]*(?://[^/?#]*)?")
"""What stands in a URL before its path."""
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
_BRACKETED = re.compile(r"\[([0-9a-f:.]+)\](:[0-9]*)?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def _check_bracketed(netloc: str) -> str | None:
    address = _BRACKETED.fullmatch(netloc)
    try:
        IPv6Address(address[1] if address else netloc)
    except ValueError:
        return "its host is no IPv6 address in brackets (one with a zone is not taken)"
    return None


def _check_name(host: str) -> str | None:
    name = _plain_name(host)
    if len(name) > 253 or not _NAME.fullmatch(name):
        return "its host is no valid name"
    if _NUMBER.fullmatch(name.rpartition(".")[2]) and not (_is_ipv4(name) and not host.endswith(".")):
        return "its host is a number but no address in the usual form (four decimal numbers with dots)"
    return None


@lru_cache(1024)
def _plain_name(host: str) -> str:
    """The name as the resolver gets it: ASCII, lower case, without the root's dot; empty if there is no such form."""
    if len(host) > 253:  # the codec is slow with long nonsense
        return ""
    try:
        return host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        return ""


def _is_one_name(host: str) -> bool:
    """Whether an international name has one ASCII form: with \u00df and its like, old rules and new ones differ."""
    return host.isascii() or _plain_name(host).encode("ascii").decode("idna") == host.lower()


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _network_or_host(entry: str) -> Network | str:
    try:
        return ip_network(entry)
    except ValueError:
        if _check_name(entry) is None and not entry.endswith(".") and _is_one_name(entry):
            return _plain_name(entry)
    raise ValueError(
        f"egress.allow: {entry!r} is neither an address, nor a network such as 10.1.0.0/16 "
        "(with no bits behind its mask), nor a host name (one with letters such as \u00df in its xn-- form)"
    )
