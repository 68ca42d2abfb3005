"""Whether relay lives, whether it is ready, and its numbers. None of these needs a token."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from relay.edges.web.route import STOPPING, Call, Route
from relay.ports import StoreUnavailable

READY_TIMEOUT = 5.0
"""Seconds after which a check that does not answer counts as failed."""


async def livez(_: Call) -> web.Response:
    """Asks nobody."""
    return _json({"status": "ok"})


async def readyz(call: Call) -> web.Response:
    """200 while the store answers: a broker outage must not shut out the vendors' callbacks."""
    state = await _readiness(call)
    if call.request.app[STOPPING].begun:
        stopping = {"status": "stopping", "reason": "relay is shutting down"}
        return _json({**state, "status": "degraded", "checks": {**state["checks"], "http": stopping}}, 503)
    return _json(state, 200 if state["checks"]["store"]["status"] == "ok" else 503)


async def _readiness(call: Call) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            return await call.doors.readiness()
    except StoreUnavailable as error:
        reason = str(error)
    except TimeoutError:
        reason = f"no answer within {READY_TIMEOUT:g} seconds"
    return {"status": "degraded", "checks": {"store": {"status": "failed", "reason": reason}}}


async def metrics(call: Call) -> web.Response:
    """Prometheus' text format."""
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    return web.Response(body=await call.doors.metrics(), headers=headers)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


ROUTES = (
    Route(
        method="GET",
        path="/livez",
        handle=livez,
        summary="Whether the process lives.",
        scopes=None,
        answers={200: "It does."},
    ),
    Route(
        method="GET",
        path="/readyz",
        handle=readyz,
        summary="Whether requests and callbacks can be taken, and how store and broker fare.",
        scopes=None,
        answers={200: "Ready, perhaps degraded.", 503: "Not ready: the store does not answer, or relay is stopping."},
    ),
    Route(
        method="GET",
        path="/metrics",
        handle=metrics,
        summary="Metrics for Prometheus.",
        scopes=None,
        answers={200: "Prometheus' text format."},
        media="text/plain",
    ),
)
