"""The official libraries for Node, Standard Webhooks' and Svix's, in the releases that node/ pins, take what relay
sends."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.receiving.deliveries import Delivered
from tests.receiving.judging import run, verdicts

NODE = Path(__file__).parent / "node"
INSTALL = ("npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")


pytestmark = pytest.mark.skipif(not shutil.which("npm"), reason="Node is not installed here")

Verify = Callable[[list[Delivered], bytes], list[bool]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the libraries."""
    folder = shutil.copytree(NODE, tmp_path_factory.mktemp("npm") / "node")
    run(INSTALL, folder)
    return folder


@pytest.fixture(params=["standardwebhooks", "svix"])
def verify(installed: Path, request: pytest.FixtureRequest) -> Verify:
    """What the library says to deliveries whose bodies got a tail on their way."""

    def verified(deliveries: list[Delivered], tail: bytes) -> list[bool]:
        lines = [json.dumps(_shown(each, tail)) for each in deliveries]
        return verdicts(run(("node", "official.mjs", request.param), installed, "\n".join(lines)))

    return verified


def _shown(delivery: Delivered, tail: bytes) -> dict[str, object]:
    body = base64.b64encode(delivery.heard.body + tail).decode()
    return {"secret": delivery.secret, "headers": dict(delivery.heard.headers), "body": body}


def test_the_library_verifies(verify: Verify, deliveries: list[Delivered]) -> None:
    """Every standard delivery is good: under a coded key and a text, with a body and without."""
    standard = [each for each in deliveries if each.kind == "standard"]

    assert [True] * len(standard) == verify(standard, b"")


def test_the_library_refuses(verify: Verify, deliveries: list[Delivered]) -> None:
    """The same deliveries with another body are not."""
    standard = [each for each in deliveries if each.kind == "standard"]

    assert [False] * len(standard) == verify(standard, b" ")
