"""The routes of the queue, and the app that holds them and those of the pages.

Takes what a server shares, returns an ASGI app. Each route names the role that it wants; an app
with one that does not fails when it is made.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from promptlab.errors import PromptlabError
from promptlab.serve import acts, door, images_api, live, pages, verdicts
from promptlab.serve.checks import check
from promptlab.serve.choices import list_choices
from promptlab.serve.door import Guarded, read_json, visitor_of
from promptlab.serve.entries import Entry
from promptlab.serve.queue import QueueFullError
from promptlab.serve.server import KEEPALIVE_S, Server, document_of, event
from promptlab.serve.wishes import argv_of, line_of, with_other_seeds

MAX_CLIENT_ID = 100  # characters
MAX_ENTRY_ID = 2**63 - 1  # of SQLite


class App(Starlette):
    """Starlette behind the door, which also stands before its own answers to errors."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the whole app."""
        return door.Door(super().build_middleware_stack(), self.state.server.access)


def make_app(server: Server, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the app of a server, with further routes; raises TypeError for one without a role."""
    every = [*QueueRoutes(server).routes(), *routes]
    open_doors = [route for route in every if not isinstance(route, Guarded)]
    if open_doors:
        raise TypeError(f"A route names no role: {open_doors[0]!r}. Expected a Guarded route.")
    app = App(
        routes=every,
        exception_handlers={
            HTTPException: door.explain_http,
            PromptlabError: door.explain,
            QueueFullError: _explain_full,
            ClientDisconnect: _explain_disconnect,
            Exception: door.confess,
        },
    )
    app.state.server = server
    app.router.redirect_slashes = False
    return app


def routes_of(server: Server) -> list[Guarded]:
    """Return the routes of everything but the queue: pages, sheets, verdicts, acts, images API."""
    rooms = (pages, live, verdicts, acts, images_api)
    return [route for room in rooms for route in room.routes(server)]


class QueueRoutes:
    """The queue's routes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._document: tuple[int, bytes] = (-1, b"")

    def routes(self) -> list[Guarded]:
        """Return the routes."""
        return [
            Guarded("/api/queue", self.show, role="view"),
            Guarded("/api/queue", self.add, role="run", methods=["POST"]),
            Guarded("/api/queue/events", self.follow, role="view"),
            Guarded("/api/plan", self.plan, role="run", methods=["POST"]),
            Guarded("/api/queue/{entry_id}/cancel", self.cancel, role="run", methods=["POST"]),
            Guarded("/api/queue/{entry_id}/move", self.move, role="run", methods=["POST"]),
            Guarded("/api/queue/{entry_id}/again", self.again, role="run", methods=["POST"]),
            Guarded("/api/choices", self.choices, role="view"),
        ]

    async def show(self, request: Request) -> Response:
        """Answer with the queue as it is."""
        return Response(await self._read(), media_type="application/json")

    async def follow(self, request: Request) -> Response:
        """Answer with an event for every change of the queue, the first at once."""

        async def events() -> AsyncGenerator[bytes]:
            async with aclosing(self.server.changes(KEEPALIVE_S)) as changes:
                async for is_change in changes:
                    yield event("queue", await self._read()) if is_change else b": here\n\n"

        headers = {"x-accel-buffering": "no"}  # for a proxy
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    async def plan(self, request: Request) -> Response:
        """Answer with what a wish would draw."""
        argv, _ = await self._wish(request)
        planned = await self.server.plan(argv)
        return JSONResponse(
            {
                "line": line_of(argv),
                "num_images": planned.num_images,
                "num_cells": planned.num_cells,
                "num_pending": planned.num_pending,
                "prompts": list(planned.prompts),
                "summary": planned.summary,
            }
        )

    async def add(self, request: Request) -> Response:
        """Queue a wish that can be planned."""
        argv, request_id = await self._wish(request)
        added = await self._submit(argv, request, request_id=request_id)
        return JSONResponse(document_of(added), 201)

    async def again(self, request: Request) -> Response:
        """Queue an entry's line once more, with other seeds."""
        entry = await self._entry(request)
        body = await read_json(request)
        await run_in_threadpool(check, entry.argv)  # the owner's own lines may hold more
        argv = await run_in_threadpool(with_other_seeds, entry.argv, body.get("seeds"))
        added = await self._submit(argv, request, entry.of)
        return JSONResponse(document_of(added), 201)

    async def cancel(self, request: Request) -> Response:
        """Cancel an entry."""
        entry = await self._entry(request)
        if not await run_in_threadpool(self.server.queue.cancel, entry.entry_id):
            raise HTTPException(409, f"Entry {entry.entry_id} has ended already.")
        return await self._entry_response(entry.entry_id)

    async def move(self, request: Request) -> Response:
        """Move a waiting entry before another, or behind all."""
        entry = await self._entry(request)
        before = (await read_json(request)).get("before")
        if before is not None and (type(before) is not int or not 0 < before <= MAX_ENTRY_ID):
            raise HTTPException(400, "before: expected the number of an entry, or null.")
        if not await run_in_threadpool(self.server.queue.move, entry.entry_id, before):
            raise HTTPException(409, "Only entries that wait can be moved, among each other.")
        return await self._entry_response(entry.entry_id)

    async def choices(self, request: Request) -> Response:
        """Answer with the styles, templates and models, and what the visitor may do."""
        choices = await run_in_threadpool(list_choices)
        return JSONResponse({**choices, "role": visitor_of(request).role})

    async def _submit(
        self, argv: tuple[str, ...], request: Request, of: str = "", request_id: str = ""
    ) -> Entry:
        who = visitor_of(request).name
        return await self.server.submit(argv, who=who, source="page", of=of, request_id=request_id)

    async def _wish(self, request: Request) -> tuple[tuple[str, ...], str]:
        """Return the arguments of a request's wish, and the id that its client gave it."""
        wish = (await read_json(request)).get("wish")
        if not isinstance(wish, dict):
            raise HTTPException(400, 'Expected {"wish": {…}}.')
        client_id = wish.pop("client_id", "")
        if not isinstance(client_id, str) or len(client_id) > MAX_CLIENT_ID:
            raise HTTPException(400, "client_id: expected a random word.")
        return await run_in_threadpool(argv_of, wish), client_id

    async def _entry(self, request: Request) -> Entry:
        number = request.path_params["entry_id"]
        entry = None
        if number.isascii() and number.isdecimal() and len(number) < 19:
            entry = await run_in_threadpool(self.server.queue.get, int(number))
        if entry is None:
            raise HTTPException(404, "There is no such entry.")
        return entry

    async def _entry_response(self, entry_id: int) -> Response:
        entry = await run_in_threadpool(self.server.queue.get, entry_id)
        assert entry is not None
        return JSONResponse(document_of(entry))

    async def _read(self) -> bytes:
        """Return the queue as JSON; however many ask, it is written once a version."""
        version = await run_in_threadpool(self.server.queue.version)
        if version != self._document[0]:
            entries = await run_in_threadpool(self.server.queue.entries)
            listed = {"version": version, "entries": [document_of(entry) for entry in entries]}
            self._document = version, json.dumps(listed, ensure_ascii=False).encode()
        return self._document[1]


async def _explain_full(request: Request, error: Exception) -> Response:
    return door.error_response(request, 429, str(error), {"retry-after": "60"})


async def _explain_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it
