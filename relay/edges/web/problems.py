"""Whatever goes wrong is told as a problem (RFC 9457) with a code; what is relay's own fault tells no details."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

import structlog
from aiohttp import web

from relay.messages import Complaint, Problem, Refusal
from relay.ports import StoreUnavailable

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Of requests, as the framework has it."""

log = structlog.get_logger()

RETRY_AFTER = 5
"""Seconds after which a client may ask again while the store is away."""

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class Wrong(Exception):
    """A request that is answered with a problem. `headers` go with the answer; `close` ends the connection."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Complaint] = (),
        *,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        # What concerns no part concerns the whole, so that every problem lists what is wrong.
        self.errors = tuple(errors) or (Complaint(path="", message=detail),)
        self.headers = dict(headers or {})
        self.close = close


def unprocessable(errors: Sequence[Complaint]) -> Wrong:
    """A request whose parts are wrong, each named."""
    told = (f"{it.path}: {it.message}" if it.path else it.message for it in errors)
    return Wrong(422, "invalid_request", "; ".join(told), errors)


def as_problems(handle: Handler) -> Handler:
    """The handler, with the problem as its answer where it raises. A client that has hung up is told none."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handle(request)
        except Wrong as wrong:
            return answered(wrong)
        except Refusal as refusal:
            return answered(Wrong(refusal.status, refusal.code.value, str(refusal), refusal.complaints))
        except StoreUnavailable as error:
            log.warning("store.unavailable", stage="http", route=_route(request), error=str(error))
            detail = "relay's store does not answer now: nothing was recorded, ask again"
            return answered(Wrong(503, "store_unavailable", detail, headers={"Retry-After": str(RETRY_AFTER)}))
        except web.HTTPException as error:
            return answered(_of_framework(request, error))
        except ConnectionError:
            if request.transport is not None and not request.transport.is_closing():
                raise
            return web.Response()  # nobody gets it
        except Exception:
            log.exception("http.request_failed", method=request.method, route=_route(request))
            return answered(Wrong(500, "internal_error", "a defect in relay: its log has the trace"))

    return answer


def _of_framework(request: web.BaseRequest, error: web.HTTPException) -> Wrong:
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    detail = {
        404: f"there is nothing at {request.path}: GET /docs lists what there is",
        405: f"{request.method} is not answered here; what is: {allow.get('Allow', '').replace(',', ', ')}",
        417: "of all expectations only 100-continue is met",
    }.get(error.status, error.reason)
    return Wrong(error.status, _CODES.get(error.status, "invalid_request"), detail, headers=allow)


def _route(request: web.BaseRequest) -> str:
    """The route's pattern: the path itself may hold a callback's token."""
    assert isinstance(request, web.Request)
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def body_of(wrong: Wrong) -> bytes:
    """What tells what is wrong, as JSON."""
    problem = Problem(
        title=HTTPStatus(wrong.status).phrase,
        status=wrong.status,
        code=wrong.code,
        detail=str(wrong),
        errors=tuple(complaint.wire() for complaint in wrong.errors),
    )
    return problem.model_dump_json().encode()


def answered(wrong: Wrong) -> web.Response:
    """The answer that tells what is wrong."""
    answer = web.Response(
        body=body_of(wrong), status=wrong.status, headers=wrong.headers, content_type="application/problem+json"
    )
    if wrong.close:
        answer.force_close()
    return answer
