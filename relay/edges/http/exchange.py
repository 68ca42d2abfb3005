"""What every outgoing exchange shares: sessions without a memory, bodies read to a cap, and words for what failed."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from yarl import URL

import relay

USER_AGENT: Final = f"relay/{relay.__version__}"
CONNECT_TIMEOUT: Final = 10.0
"""Seconds until there must be a connection: look-up, TCP and TLS together."""
KEEPALIVE: Final = 4.0
"""Seconds for which an idle connection is used again: less than the 5 s after which many servers drop one. Which
side was first would be a race, and the loser a request of which nobody knows whether it arrived."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def open_session(connector: aiohttp.BaseConnector, **settings: Any) -> aiohttp.ClientSession:
    """A session that keeps no cookies and reads neither proxies nor passwords from the environment."""
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, **settings)


def objection(headers: Mapping[str, str]) -> str | None:
    """Why these headers cannot be sent, None if they can; never quotes a value."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            return f"{name[:100]!r} is no header name"
        if _CONTROL.search(value):
            return f"the header {name} holds a control character (a line break at a secret's end?)"
    return None


async def read_to(cap: int, response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The decompressed body's first `cap` bytes, and whether that is all of it; leaves what comes after unread."""
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > cap:
            response.close()
            return bytes(body[:cap]), False
    return bytes(body), True


def place(url: URL) -> str:
    """What may be shown of a URL: host and port."""
    return f"{url.raw_host}:{url.port}"


def reason(error: BaseException) -> str:
    """Why an exchange failed, in words that hold no URL, no header and nothing of either body."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words.format(detail=_detail(error), kind=type(error).__name__)
    return f"it failed ({type(error).__name__})"


_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "its certificate is not accepted{detail}"),
    (aiohttp.ClientConnectorSSLError, "no TLS connection could be made{detail}"),
    (aiohttp.ClientConnectorDNSError, "its name cannot be resolved{detail}"),
    (aiohttp.ClientProxyConnectionError, "the proxy cannot be reached{detail}"),
    (aiohttp.ClientHttpProxyError, "the proxy refused to connect{detail}"),
    (aiohttp.ConnectionTimeoutError, "no connection was made in time"),
    (aiohttp.ClientConnectorError, "it cannot be reached{detail}"),
    (asyncio.TimeoutError, "there was no whole answer in time"),
    (aiohttp.ServerDisconnectedError, "it closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "its answer broke off or could not be decoded"),
    (aiohttp.ClientResponseError, "what it sent is not readable as an HTTP answer"),
    (aiohttp.InvalidURL, "its URL cannot be used"),
    (aiohttp.ClientOSError, "the connection broke{detail}"),
    (aiohttp.ClientConnectionError, "the connection broke"),
    (ValueError, "its URL or the method holds what HTTP cannot carry"),
)
"""From the special to the general: the first that fits."""


def _detail(error: BaseException) -> str:
    """The system's own words, where those are only about addresses, certificates and errors by number."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        fault = error.certificate_error
        return f": {fault.verify_message}" if isinstance(fault, ssl.SSLCertVerificationError) else ""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f": {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f": status {error.status}"
    if isinstance(error, OSError) and error.strerror:
        return f": {error.strerror}"
    return ""
