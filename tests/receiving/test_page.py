"""What the page tells receivers' developers holds: its examples are relay's, and its functions judge rightly."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.core import signature
from relay.core.schedule import WEBHOOK_SCHEDULE
from relay.messages import Webhook
from tests.receiving.deliveries import Delivered
from tests.receiving.judging import LANGUAGES, judged
from tests.receiving.page import PAGE, Signed, examples, snippet

# --- its examples ---


def _made_by_relay(example: Signed) -> str:
    assert example.now is not None
    return {
        "standard": lambda: signature.standard(example.secret, example.id, int(example.timestamp), example.body),
        "timestamped": lambda: signature.timestamped(example.secret, example.body, example.now or 0),
        "body": lambda: signature.body_only(example.secret, example.body),
    }[example.kind]()


def test_the_examples_are_what_relay_signs() -> None:
    """Every header that the page shows is what relay would send."""
    actual = [_made_by_relay(example) for example in examples()]

    assert [example.signature for example in examples()] == actual


def test_there_is_an_example_of_everything() -> None:
    """Each kind of signature is shown with a body and without, and `standard` with both kinds of key."""
    shown = {(each.kind, bool(each.body), each.secret.startswith("whsec_")) for each in examples()}
    others = {(kind, full, False) for kind in ("timestamped", "body") for full in (True, False)}

    assert {("standard", True, True), ("standard", False, True), ("standard", True, False), *others} == shown


def test_the_schedule_and_the_time_limit_are_relays() -> None:
    """The page's words for the pauses between attempts, and for the patience with an answer, are relay's defaults."""
    words = {5: "5 s", 30: "30 s", 120: "2 min", 600: "10 min", 1800: "30 min"}
    words |= {hours * 3600: f"{hours} h" for hours in (2, 5, 10, 14, 20, 24)}
    *pauses, last = [words[int(pause)] for pause in WEBHOOK_SCHEDULE[1:]]
    text = " ".join(PAGE.read_text(encoding="utf-8").split())

    assert f"after {', '.join(pauses)} and {last}, each" in text
    assert f"({Webhook(url='https://hooks.example.com/').timeout:g} s unless it says otherwise)" in text


# --- its functions ---


def _known(name: str) -> object:
    missing = pytest.mark.skipif(not LANGUAGES[name].there, reason=f"{name} is not installed here")
    return pytest.param(name, marks=missing)


languages = pytest.mark.parametrize("language", [_known(name) for name in LANGUAGES])


@languages
def test_functions_accept_the_examples(language: str, tmp_path: Path) -> None:
    """The page's functions find every example of the page good, up to five minutes before and after."""
    good = [replace(each, now=(each.now or 0) + off) for each in examples() for off in (-299.5, 0, 299.5)]
    actual = judged(LANGUAGES[language], tmp_path, good)

    assert [True] * len(good) == actual


@languages
def test_functions_accept_what_relay_sends(language: str, tmp_path: Path, deliveries: list[Delivered]) -> None:
    """The page's functions, by their own clock, find every delivery of a running relay good."""
    actual = judged(LANGUAGES[language], tmp_path, [each.signed for each in deliveries])

    assert [True] * len(deliveries) == actual


@languages
def test_functions_accept_one_good_signature_of_several(language: str, tmp_path: Path) -> None:
    """While a secret rotates the holder of either one finds its signature, wherever it stands."""
    plain = [each for each in examples() if each.kind == "standard"]
    other = "v1," + base64.b64encode(bytes(32)).decode()
    several = [f"{other} {{}}", f"{{}} {other}", f"v2,x {other} {{}}"]
    rotating = [replace(each, signature=form.format(each.signature)) for each in plain for form in several]
    actual = judged(LANGUAGES[language], tmp_path, rotating)

    assert [True] * len(rotating) == actual


def _tampered(good: Signed) -> Iterator[Signed]:
    now = good.now or 0
    yield replace(good, body=good.body + b" ")
    yield replace(good, body=b"other")
    yield replace(good, secret="another key")
    yield replace(good, secret="whsec_YW5vdGhlciBrZXk=")
    for header in ("", " ", "v1,", "t=,sha256=", "x", "\u00fc", good.signature[:-1], good.signature + "\n"):
        yield replace(good, signature=header)
    yield replace(good, signature=good.signature.swapcase())
    if good.kind == "standard":
        yield replace(good, id="evt_another")
        yield replace(good, timestamp=str(int(good.timestamp) - 1))
        yield from (replace(good, timestamp=text) for text in ("", "x", "-1", f"{good.timestamp}.0", "9" * 40))
        yield replace(good, signature=good.signature.replace("v1,", "v2,"))
    if good.kind == "timestamped":
        yield replace(good, signature=good.signature.replace("t=1", "t=2"))
        yield replace(good, signature=good.signature.replace("sha256=", "sha1="))
    if good.kind != "body":
        yield replace(good, now=now + 302)
        yield replace(good, now=now - 302)


@languages
def test_functions_refuse_what_was_tampered_with(language: str, tmp_path: Path) -> None:
    """Another body, key, id or time, a missing or broken header, a replay: the page's functions refuse them all."""
    bad = [each for example in examples() for each in _tampered(example)]
    accepted = [each for each, good in zip(bad, judged(LANGUAGES[language], tmp_path, bad), strict=True) if good]

    assert [] == accepted


@languages
def test_functions_refuse_what_was_tampered_with_on_its_way(
    language: str, tmp_path: Path, deliveries: list[Delivered]
) -> None:
    """A running relay's delivery with another body than it sent is refused."""
    bad = [replace(each.signed, body=each.signed.body + b"x") for each in deliveries]
    actual = judged(LANGUAGES[language], tmp_path, bad)

    assert [False] * len(bad) == actual


@pytest.mark.parametrize("block", [each.block for each in LANGUAGES.values()])
def test_functions_compare_in_constant_time(block: str) -> None:
    """Every language compares with the function that it has for secrets."""
    means = {
        "python": "hmac.compare_digest(",
        "js": "timingSafeEqual(",
        "php": "hash_equals(",
        "java": "MessageDigest.isEqual(",
        "go": "hmac.Equal(",
    }

    assert means[block] in snippet(block)
