"""A stand-in vendor that watches how it is asked, and can race its callbacks against polls."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from relay.core.flow import JsonValue
from relay.simulators.server import Do
from relay.simulators.trifacta import Fate, JobGroup, TrifactaSimulator

BALANCER_PATIENCE = 0.5
"""Seconds after which a relay that takes no callback counts as away."""
LOOK = 0.02
"""Seconds between looks whether the vendor answers again."""
CONTRADICTION: Mapping[str, str] = {"Complete": "Failed", "Failed": "Complete"}


class WatchedVendor(TrifactaSimulator):
    """Trifacta, with eyes.

    `pace`: seconds that every answer takes. `shut`: whether all answers wait until it is not. `racing`: recipes whose
    job ends when it is first polled, and whose callback sets out at that moment; True where it says the opposite of
    the poll's answer. `doors`: where callbacks go that come to a relay which is away, as a load balancer would see to
    it.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.pace = 0.0
        self.shut = False
        self.racing: dict[str, bool] = {}
        self.doors: Sequence[str] = ()
        self.most_requests = 0
        """The most requests that were here at a time."""
        self.most_jobs = 0
        """The most jobs that ran at a time."""
        self.arrivals: list[float] = []
        """When each request came, by the loop's clock."""
        self.crowded: list[str] = []
        """Jobs about which two requests of a kind were here at a time."""
        self._requests: Counter[tuple[str, str]] = Counter()

    def look_anew(self) -> None:
        """Forget what was seen."""
        self.most_requests = self.most_jobs = 0
        self.arrivals.clear()
        self.crowded.clear()

    async def answer(
        self, request: web.Request, on: str, do: Do, *, subject: str = "", job: str = ""
    ) -> web.StreamResponse:
        """Answer, and write down who else was here."""
        about = on, job
        self._requests[about] += 1
        self.arrivals.append(time.monotonic())
        self.most_requests = max(self.most_requests, self._requests.total())
        if self._requests[about] > 1:
            self.crowded.append(f"{on} {job}")
        try:
            while self.shut:
                await asyncio.sleep(LOOK)
            if self.pace:
                await asyncio.sleep(self.pace)
            return await super().answer(request, on, do, subject=subject, job=job)
        finally:
            self._requests[about] -= 1

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        group = self.job_groups.get(request.match_info["id"])
        if group is not None and str(group.recipe) in self.racing and group.ended is None:
            self.finish(str(group.id))
        return await super()._poll(request)

    def _group(self, body: Mapping[str, JsonValue], recipe: JsonValue, key: str | None, fate: Fate) -> JobGroup:
        group = super()._group(body, recipe, key, fate)
        now = asyncio.get_running_loop().time()
        self.most_jobs = max(self.most_jobs, sum(each.share(now) < 1.0 for each in self.job_groups.values()))
        return group

    async def _call_back(self, group: JobGroup, status: str, *, forged: bool = False) -> None:
        said = CONTRADICTION[status] if self.racing.get(str(group.recipe)) else status
        await super()._call_back(group, said, forged=forged)

    async def _send(self, group: JobGroup, hook: Mapping[str, JsonValue], status: str, *, forged: bool) -> int | None:
        url = str(hook["url"])
        for door in ("", *self.doors):
            try:
                async with asyncio.timeout(BALANCER_PATIENCE):
                    sent = {**hook, "url": f"{door}{urlsplit(url).path}" if door else url}
                    answer = await super()._send(group, sent, status, forged=forged)
            except TimeoutError:
                answer = None
            if answer is not None:
                return answer
        return None
