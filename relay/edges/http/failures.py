"""Why an exchange failed, in words that hold no secret."""

import asyncio
import ssl
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from relay.edges.http.client import Unsendable

FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
"""What `Client.exchange` raises."""


def place(url: URL) -> str:
    """What may be shown of a URL: host and port."""
    return f"{url.raw_host}:{url.port}"


def reason(error: BaseException) -> str:
    """Why an exchange failed, in words that hold no URL, no header and nothing of either body."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words.format(detail=_detail(error))
    return f"it failed ({type(error).__name__})"


_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (Unsendable, "{detail}"),
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
    (HttpProcessingError, "what it sent is not readable as an HTTP answer"),
    (aiohttp.ClientResponseError, "what the proxy sent is not readable as an HTTP answer"),
    (aiohttp.InvalidURL, "its URL cannot be used"),
    (aiohttp.ClientConnectionError, "the connection broke{detail}"),
    (ValueError, "its URL or the method holds what HTTP cannot carry"),
)
"""From the special to the general: the first that fits."""


def _detail(error: BaseException) -> str:
    """The system's own words, where those are only about addresses, certificates and errors by number."""
    if isinstance(error, Unsendable):
        return str(error)
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
