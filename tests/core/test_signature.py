"""Signatures that others can verify, and the check of those that vendors send."""

import base64
import json
import time

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from relay.core.signature import BadKey, body_only, standard, standard_key, timestamped, verify_timestamped

BODY = b'{"type":"onJobSuccess","data":{"jobId":"job_1"}}'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLAIN = "a plain key"
SECONDS = 1_800_000_000
HEX_MS = "2488d41040239eaf73256fd8037b7e2feec2bb7971576cb834f6ba4af9a12dbc"
HEX_S = "15957a23049e1b26ca18c06ba014e1c2afbf764e56e4d6716a589bb57229e174"
HEX_BODY = "6779b3e06c05d44b2f18c8f801e666de34a9d3a43f069723cabbf2ac45a2d43a"
"""Made by `openssl dgst -sha256 -hmac 'a plain key'`."""

keys = st.binary(min_size=1, max_size=64)
plain_keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.encode)


# --- signing ---


def test_standard_vectors() -> None:
    """Standard Webhooks v1 over id, timestamp and body, under a key in base64 or as text."""
    assert "v1,9lfPbiosoGNAq6RonsDvT5ttgit5Xt9pnEcrIqMtjbs=" == standard(SECRET, "evt_1", SECONDS, BODY)
    assert "v1,JTa5LdpBJEHKAz/xIbhrNOWqUmiPBOB8DPrQ75a/+CY=" == standard(PLAIN, "evt_1", SECONDS, BODY)


def test_timestamped_vector() -> None:
    """`t=<ms>,sha256=<hex>` over timestamp and body; what is less than a millisecond is dropped."""
    assert f"t=1800000000000,sha256={HEX_MS}" == timestamped(PLAIN, BODY, SECONDS + 0.0004)


def test_body_vector() -> None:
    """The hex HMAC of the body alone."""
    assert HEX_BODY == body_only(PLAIN, BODY)


@given(key=keys, text=st.text())
def test_the_official_libraries_verify(key: bytes, text: str) -> None:
    """What relay signs under `whsec_` keys, the libraries that receivers use accept, and no other body for it."""
    secret = "whsec_" + base64.b64encode(key).decode()
    now = int(time.time())
    body = json.dumps({"text": text}).encode()
    signature = standard(secret, "evt_1", now, body)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}

    for library in (standardwebhooks.Webhook, svix.Webhook):
        library(secret).verify(body, headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            library(secret).verify(body + b" ", headers)


@given(key=plain_keys, body=bodies)
def test_the_official_libraries_verify_text_keys(key: str, body: bytes) -> None:
    """A key without the prefix is its text: a receiver gives the library those bytes."""
    now = int(time.time())
    signature = standard(key, "evt_1", now, body)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}

    assert standard_key(key) == key.encode()
    standardwebhooks.Webhook(key.encode()).verify(body, headers, json_parse=False)


def test_several_signatures_verify_while_a_secret_rotates() -> None:
    """Receivers that hold the old or the new secret both accept a header with both signatures."""
    old, new = SECRET, "whsec_" + base64.b64encode(b"the next key").decode()
    now = int(time.time())
    both = f"{standard(new, 'evt_1', now, BODY)} {standard(old, 'evt_1', now, BODY)}"
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": both}

    for secret in (old, new):
        svix.Webhook(secret).verify(BODY, headers)


@pytest.mark.parametrize(
    "secret", ["whsec_not base64!", "whsec_abc", "whsec_MfKQ\n", "whsec_\u00e9\u00e9\u00e9\u00e9", "whsec_", ""]
)
def test_a_key_that_is_none_is_refused(secret: str) -> None:
    """What can't be read as a key, or is empty, is no key; the error does not show it."""
    with pytest.raises(BadKey) as problem:
        standard_key(secret)

    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(problem.value)


# --- verifying ---

MS = f"t=1800000000000,sha256={HEX_MS}"
S = f"t=1800000000,sha256={HEX_S}"


@pytest.mark.parametrize("header", [MS, S, f"  {MS} ", MS.replace(HEX_MS, HEX_MS.upper())])
@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_good_signature_is_accepted(header: str, off: int) -> None:
    """Seconds and milliseconds are read, five minutes off at most, whatever the case of the digits."""
    assert verify_timestamped(header, PLAIN, BODY, SECONDS + off) is None


@pytest.mark.parametrize("header", [MS, S])
@pytest.mark.parametrize("off", [-301, 301, 10**9])
def test_a_stale_signature_is_refused(header: str, off: int) -> None:
    """A signature from long ago, or from ahead of time, is a replay."""
    expected = "the signature's timestamp is more than 300 s off"

    assert expected == verify_timestamped(header, PLAIN, BODY, SECONDS + off)


@pytest.mark.parametrize(
    ("header", "secret", "body"),
    [
        (MS, PLAIN, BODY + b" "),
        (MS, PLAIN, b""),
        (MS, "another key", BODY),
        (MS.replace("t=18", "t=17"), PLAIN, BODY),
        (MS.replace("t=1800000000000", "t=1800000000"), PLAIN, BODY),
        (f"t=1800000000000,sha256={HEX_BODY}", PLAIN, BODY),
    ],
)
def test_a_wrong_signature_is_refused(header: str, secret: str, body: bytes) -> None:
    """Another body, key or time than was signed is refused, even when it is fresh."""
    assert "the signature does not match the body" == verify_timestamped(header, secret, body, SECONDS)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=,sha256=",
        HEX_MS,
        f"sha256={HEX_MS}",
        f"t=180,sha256={HEX_MS}",
        f"t=-1800000000,sha256={HEX_MS}",
        f"t=1800000000.5,sha256={HEX_MS}",
        f"t={'9' * 400},sha256={HEX_MS}",
        f"{MS},",
        f"{MS}\n{MS}",
        MS[:-1],
        MS.replace("a", "\u00e9"),
        MS.replace("t=1800000000000", "t=\u0661\u0668\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660"),
    ],
)
def test_garbage_is_no_signature(header: str) -> None:
    """A header of another form is refused, and says which form is due."""
    expected = "the signature header is not t=<timestamp>,sha256=<hex>"

    assert expected == verify_timestamped(header, PLAIN, BODY, SECONDS)


@given(st.text(max_size=100), st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.binary(max_size=50))
def test_no_header_breaks_the_check(header: str, secret: str, body: bytes) -> None:
    """Whatever comes is answered with a reason, and the reason never names the secret."""
    why = verify_timestamped(header, "canary" + secret, body, SECONDS)

    assert isinstance(why, str)
    assert "canary" not in why


@given(plain_keys, st.binary(max_size=60), st.integers(SECONDS - 10**8, SECONDS + 10**8))
def test_what_relay_signs_it_accepts(secret: str, body: bytes, now: int) -> None:
    """Signing and checking agree."""
    assert verify_timestamped(timestamped(secret, body, now), secret, body, now) is None
