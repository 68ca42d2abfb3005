"""The addresses that vendors call back: one for each job, unguessable, and the secret that goes with it.

Both follow from the job's id and relay's own key, so that nothing of them is kept and a forged one is turned away
without asking the store. While keys rotate, what an older key made still counts.
"""

import hmac
from collections.abc import Callable, Sequence
from functools import lru_cache

from relay.core.fixed import fixed
from relay.core.job import Job
from relay.core.vendor import CallbackAddress

MAC_DIGITS = 40
"""Of a token's MAC, in hexadecimal: 160 bits are more than anybody guesses."""
DERIVED = 4096
"""HMACs that are kept at hand."""
RECOGNISED = 256
"""Tokens, real ones and forged, of which it is kept at hand what they name."""
Derive = Callable[[bytes, str], list[bytes]]
"""HMACs of a text under a labelled subkey of each key of the ring, the current one first."""


@fixed
class Named:
    """The job that a token names, and what it does at the vendor."""

    connection: str
    operation: str
    job_id: str


class Callbacks:
    """Makes and recognises callback addresses. Without a public URL no vendor can call, and there is none."""

    def __init__(self, derive: Derive, public_url: str | None) -> None:
        # Asked for with the submit and again with the callback.
        self._derived = lru_cache(DERIVED)(lambda label, text: [digest.hex() for digest in derive(label, text)])
        # Asked for before a callback's body is read and again with it.
        self.recognise = lru_cache(RECOGNISED)(self._named)
        self._base = f"{public_url.rstrip('/')}/v1/callbacks/" if public_url is not None else None

    @property
    def possible(self) -> bool:
        """Whether vendors can reach relay."""
        return self._base is not None

    def address(self, job: Job) -> CallbackAddress | None:
        """Where the vendor reports this job, None if it is not to."""
        if not job.spec.callback or self._base is None:
            return None
        name = f"{job.spec.connection}.{job.spec.action}.{job.id}"
        mac = self._derived(b"callback-token", name)[0][:MAC_DIGITS]
        return CallbackAddress(url=f"{self._base}{name}.{mac}", secret=self.secrets(job.id)[0])

    def _named(self, token: str) -> Named | None:
        """The job that the token names, None unless relay made it."""
        name, _, mac = token.rpartition(".")
        parts = name.split(".")
        if len(parts) != 3 or not token.isascii():
            return None
        known = [hmac.compare_digest(mac, own[:MAC_DIGITS]) for own in self._derived(b"callback-token", name)]
        connection, operation, job_id = parts
        return Named(connection=connection, operation=operation, job_id=job_id) if any(known) else None

    def secrets(self, job_id: str) -> Sequence[str]:
        """The secrets that the job's callbacks may be signed with, the current one first."""
        return self._derived(b"callback-secret", job_id)
