"""One job of a whole relay, delivered in every way that relay signs."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from relay.simulators.trifacta import TrifactaSimulator
from tests.receiving.page import Signed
from tests.running import RECIPE, running, settings
from tests.stages.receiver import Heard, receiving

KEYS = {
    "standard": ("whsec_bWFkZSB1cCBmb3IgdGhpcyB0ZXN0", "a key with ünusual letters"),
    "timestamped": ("a key with ünusual letters", "whsec_taken as it is"),
    "body": ("a key with ünusual letters", "whsec_taken as it is"),
}
HEADERS = {"standard": "webhook-signature"}
METHODS = ("POST", "GET", "DELETE")
OWN = {"text": "$jobStatus, and then an ü"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A delivery as it came, and the key that its receiver has."""

    kind: str
    secret: str
    heard: Heard

    @property
    def signed(self) -> Signed:
        """As it has to be judged."""
        headers = self.heard.headers
        return Signed(
            kind=self.kind,
            secret=self.secret,
            signature=headers[HEADERS.get(self.kind, "x-webhook-signature")],
            body=self.heard.body,
            id=headers["webhook-id"],
            timestamp=headers["webhook-timestamp"],
        )


async def delivered(folder: Path) -> list[Delivered]:
    """Every kind of signature under every kind of key, with every method that makes a difference to it."""
    combined = [(kind, key, method) for kind, keys in KEYS.items() for key in keys for method in METHODS]
    async with receiving() as receiver, TrifactaSimulator(duration=0.0, token="t") as vendor:
        hooks = [_hook(f"{receiver.url}/{place}", *each) for place, each in enumerate(combined)]
        async with running(folder, settings(folder, vendor)) as relay:
            await _ask(f"{relay.server.url}/v1/jobs", hooks)
            await receiver.until(lambda heard: len(heard) == len(hooks))
    by_place = {int(heard.target.removeprefix("/")): heard for heard in receiver.heard}
    return [
        Delivered(kind=kind, secret=key, heard=by_place[place])
        for place, (kind, key, _) in zip(itertools.count(), combined, strict=False)
    ]


def _hook(url: str, kind: str, key: str, method: str) -> Mapping[str, Any]:
    return {"url": url, "signature": kind, "secretKey": key, "method": method, "body": OWN}


async def _ask(url: str, hooks: Sequence[Mapping[str, Any]]) -> None:
    completion = {"mode": "poll", "pollInterval": 0.1}
    asked = {"connection": "tri", "parameters": RECIPE, "completion": completion, "webhooks": hooks}
    async with aiohttp.ClientSession() as session, session.post(url, json=asked) as answer:
        assert answer.status == 202, await answer.text()
