"""The three signature kinds of outgoing webhooks, and the check of the one that vendors send.

`standard`     Standard Webhooks v1: `v1,<base64>` over `<id>.<timestamp>.<body>`.
`timestamped`  `t=<ms>,sha256=<hex>` over `<t>.<body>`.
`body`         hex HMAC-SHA256 of the body alone.

Bodies are raw bytes: sign what is sent, verify what came.
"""

import binascii
import hashlib
import hmac
import re

PREFIX = "whsec_"
_TIMESTAMPED = re.compile(r"t=([0-9]{10,16}),sha256=([0-9a-fA-F]{64})")
_MILLISECONDS = 1e11
"""A timestamp above this is in milliseconds: as seconds it would lie in the year 5138."""


class BadKey(ValueError):
    """A secret key cannot be used as one."""


def standard_key(secret: str) -> bytes:
    """The key behind `whsec_` (base64), or the text itself; raises BadKey."""
    coded = secret.removeprefix(PREFIX)
    try:
        key = secret.encode() if coded == secret else binascii.a2b_base64(coded, strict_mode=True)
    except ValueError as error:
        raise BadKey("what follows `whsec_` is not base64") from error
    if not key:
        raise BadKey("the key is empty: anybody could sign with it")
    return key


def standard(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header of Standard Webhooks; `timestamp` in Unix seconds."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    # Not hmac.digest: it lets go of the interpreter's lock for as little as this.
    digest = hmac.new(standard_key(secret), signed, hashlib.sha256).digest()
    return "v1," + binascii.b2a_base64(digest, newline=False).decode()


def timestamped(secret: str, body: bytes, now: float) -> str:
    """`t=<ms>,sha256=<hex>`; `now` in Unix seconds."""
    stamp = str(int(now * 1000))
    return f"t={stamp},sha256={_stamped_digest(secret, stamp, body)}"


def body_only(secret: str, body: bytes) -> str:
    """The hex HMAC-SHA256 of the body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify_timestamped(header: str, secret: str, body: bytes, now: float, tolerance: float = 300.0) -> str | None:
    """Why a `timestamped` header is not valid at `now`, None if it is. Seconds and milliseconds are both read."""
    match = _TIMESTAMPED.fullmatch(header.strip())
    if match is None:
        return "the signature header is not t=<timestamp>,sha256=<hex>"
    stamp, digest = match.groups()
    if not hmac.compare_digest(_stamped_digest(secret, stamp, body), digest.lower()):
        return "the signature does not match the body"
    sent = int(stamp) / 1000 if int(stamp) > _MILLISECONDS else int(stamp)
    if abs(now - sent) > tolerance:
        return f"the signature's timestamp is more than {tolerance:.0f} s off"
    return None


def _stamped_digest(secret: str, stamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
