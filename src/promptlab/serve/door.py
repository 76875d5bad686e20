"""The door: every request passes it before a route sees it, and every answer after.

Takes an ASGI app whose routes each name the role that they want; adds the checks of access, the
limits of size, and the headers that keep a browser from doing more than the page needs. Knows no
route.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptlab.errors import PromptlabError
from promptlab.serve.access import ROLES, Access, Asked, Refusal, Visitor

MAX_BODY_BYTES = 256 * 1024
MAX_HEADER_BYTES = 16 * 1024
COOKIE_S = 365 * 24 * 3600
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}  # an answer that names one itself keeps its own

Endpoint = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


class Guarded(Route):
    """A route with the role that it wants, and the largest body that it takes."""

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        role: str,
        methods: Sequence[str] = ("GET",),
        is_page: bool = False,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        assert role in ROLES, role
        super().__init__(path, endpoint, methods=list(methods))
        self.role = role
        self.is_page = is_page  # a person reads it: links elsewhere may lead to it
        self.max_bytes = max_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in or refuse it; `request.state.visitor` says who asks."""
        access: Access = scope["app"].state.server.access
        request = Request(scope)
        token = request.query_params.get("token", "") if request.method == "GET" else ""
        admitted = access.admit(
            Asked(
                method=request.method,
                headers=headers_of(scope),
                address=request.client.host if request.client else "",
                cookie=_cookie(request),
                query_token=token,
                is_page=self.is_page,
            ),
            self.role,
        )
        if isinstance(admitted, Refusal):
            await refuse(request, admitted, self.is_page)(scope, receive, send)
        elif token and self.is_page:
            known = token if admitted.name else ""
            await _lead_on(request, known)(scope, receive, send)
        else:
            scope.setdefault("state", {})["visitor"] = admitted
            await super().handle(scope, _limited(receive, scope, self.max_bytes), send)


def headers_of(scope: Scope) -> dict[str, str]:
    """Return a request's headers; of one that is sent twice nothing is believed."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = name.decode("latin-1")
        headers[text] = "?" if text in headers else value.decode("latin-1")
    return headers


def visitor_of(request: Request) -> Visitor:
    """Return who asks, in a route."""
    visitor: Visitor = request.state.visitor
    return visitor


async def read_json(request: Request) -> dict[str, Any]:
    """Return a request's body, a JSON object of plain text; anything else is refused with 400."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Expected a body of application/json.")
    body = await request.body()
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # no halves of characters
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not readable JSON: {error}"[:300]) from None
    if not isinstance(value, dict):
        raise HTTPException(400, "Expected a JSON object.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class Door:
    """The outermost part of the app: Host, sizes, headers of the answers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                added = [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        size = sum(len(name) + len(value) for name, value in scope["headers"])
        size += len(scope.get("raw_path") or b"") + len(scope["query_string"])
        refusal = self.access.check_host(headers_of(scope))
        if size > MAX_HEADER_BYTES:
            refusal = Refusal(431, f"The request's head is larger than {MAX_HEADER_BYTES} bytes.")
        if refusal is not None:
            await refuse(Request(scope), refusal)(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)


def refuse(request: Request, refusal: Refusal, is_page: bool = False) -> Response:
    """Return the answer to a request that is not let in, in the shape that its reader expects."""
    headers = {"retry-after": str(int(refusal.wait_s) + 1)} if refusal.wait_s else {}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if is_page and "text/html" in request.headers.get("accept", ""):
        # A browser that comes by a link elsewhere leaves its cookie out; a step from here has it.
        again = quote("/" + request.url.path.lstrip("/"))
        page = f"<!doctype html><meta charset=utf-8><title>promptlab</title><p>{refusal.reason}"
        page += f'<p><a href="{again}">Continue</a>, if this device was let in before.'
        return Response(page, refusal.status, headers, "text/html")
    return error_response(request, refusal.status, refusal.reason, headers)


def error_response(
    request: Request, status: int, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as JSON; below /v1/ in OpenAI's shape."""
    is_openai = request.url.path.startswith("/v1/")
    content = error_document(reason, status) if is_openai else {"error": reason}
    return JSONResponse(content, status, headers)


def error_document(reason: str, status: int = 400) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": reason, "type": kind, "param": None, "code": None}}


async def explain_http(request: Request, error: Exception) -> Response:
    """Answer an HTTPException."""
    assert isinstance(error, HTTPException)
    return error_response(request, error.status_code, error.detail, error.headers)


async def explain(request: Request, error: Exception) -> Response:
    """Answer an error that promptlab explains."""
    assert isinstance(error, PromptlabError)
    return error_response(request, 400, str(error))


async def confess(request: Request, error: Exception) -> Response:
    """Answer a defect without its details; the server's own log has them."""
    return error_response(request, 500, "The server has a defect: its log says more.")


def _lead_on(request: Request, token: str) -> Response:
    """Keep a token in a cookie, if it is one, and lead to the same address without it.

    The page leads on by itself rather than by a redirect: a browser that came from another site
    would not send a SameSite=Strict cookie along a redirect.
    """
    target = quote("/" + request.url.path.lstrip("/"))
    response = Response(
        f'<!doctype html><meta charset=utf-8><title>promptlab</title><a href="{target}">Open</a>',
        headers={"refresh": f"0; url={target}"},
        media_type="text/html",
    )
    if token:
        response.set_cookie(
            cookie_name(request),
            token,
            max_age=COOKIE_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto") == "https",
        )
    return response


def cookie_name(request: Request) -> str:
    """Return the name of the cookie: servers on several ports of a machine share its cookies."""
    _, port = request.scope.get("server") or ("", 0)
    return f"promptlab_{port}"


def _cookie(request: Request) -> str:
    try:
        jar = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    morsel = jar.get(cookie_name(request))
    return morsel.value if morsel else ""


def _limited(receive: Receive, scope: Scope, max_bytes: int) -> Receive:
    """Return a receiver that refuses a body above the limit, declared or not."""
    too_large = HTTPException(413, f"Expected a body of at most {max_bytes:,} bytes.")
    declared = headers_of(scope).get("content-length", "0")
    num_bytes = int(declared) if declared.isdecimal() else 0

    async def receive_limited() -> Message:
        nonlocal num_bytes
        if num_bytes > max_bytes:
            raise too_large
        message = await receive()
        if message["type"] == "http.request" and not declared.strip("0"):
            num_bytes += len(message.get("body", b""))
            if num_bytes > max_bytes:
                raise too_large
        return message

    return receive_limited
