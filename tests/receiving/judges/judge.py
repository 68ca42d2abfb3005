"""Judges deliveries by the page's functions: a line of base64 fields in, true or false a line out."""

import base64
import sys

from snippet import verify_body, verify_standard, verify_timestamped  # type: ignore[import-not-found]


def judge(kind: str, secret: str, event_id: str, timestamp: str, signature: str, now: str, body: bytes) -> bool:
    """What the page's function for this kind says."""
    clock = {"now": float(now)} if now else {}
    judges = {
        "standard": lambda: verify_standard(secret, event_id, timestamp, signature, body, **clock),
        "timestamped": lambda: verify_timestamped(secret, signature, body, **clock),
        "body": lambda: verify_body(secret, signature, body),
    }
    verdict: bool = judges[kind]()
    return verdict


for line in sys.stdin:
    *texts, body = (base64.b64decode(field) for field in line.rstrip("\n").split("\t"))
    kind, secret, event_id, timestamp, signature, now = (text.decode() for text in texts)
    sys.stdout.write(f"{judge(kind, secret, event_id, timestamp, signature, now, body)}\n".lower())
