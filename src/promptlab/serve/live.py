"""The live sheet: a run's page, the data and pictures that it asks for, and what is new of it.

Takes requests that access has let in; answers with the page that a file holds as well, whose rows
come by server-sent events while they are drawn. An event's id is the rows so far, so that a stream
that was cut resumes where it ended. Images are asked for by id, runs by a name of the listing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import html
import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from promptlab.errors import ReportError
from promptlab.report import page
from promptlab.serve.access import Visitor
from promptlab.serve.door import Guarded, visitor_of
from promptlab.serve.rooms import Room, Rooms
from promptlab.verdicts.picks import default_who

if TYPE_CHECKING:
    from promptlab.serve.server import Server

BEAT_S = 15.0  # without news: proxies close what is silent
RETRY_MS = 2000  # a page whose stream was cut asks again after so long
MAX_PACK = 64  # images of one pack
KEPT = "private, max-age=86400, immutable"  # an image's bytes do not change
NOT_KEPT = "no-store"
_IMAGE_ID = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_MESSAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2"><title>{title}</title></head>
<body><p>{text}</p></body></html>
"""


def routes(server: Server) -> list[Guarded]:
    """Return the routes of the live sheet."""
    live = _Live(server.rooms)
    return [
        Guarded("/runs/", live.runs, role="view"),
        Guarded("/runs/{name}/", live.page, role="view", is_page=True),
        Guarded("/runs/{name}/sheet.js", live.sheet, role="view"),
        Guarded("/runs/{name}/pack/{number}.js", live.pack, role="view"),
        Guarded("/runs/{name}/images/{image_id}.png", live.image, role="view"),
        Guarded("/runs/{name}/thumbnails/{image_id}.webp", live.thumbnail, role="view"),
        Guarded("/runs/{name}/newest", live.newest, role="view"),
        Guarded("/runs/{name}/events", live.events, role="view"),
    ]


class _Live:
    """The handlers."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms

    async def runs(self, request: Request) -> Response:
        """Answer with the names of all runs, the newest first."""
        names = await asyncio.to_thread(self.rooms.names)
        return JSONResponse({"runs": names[:500]})

    async def page(self, request: Request) -> Response:
        """Answer with the page of a run, which asks for its data."""
        name = request.path_params["name"]
        try:
            room = await self.rooms.open(name, is_fresh=True)
        except ReportError:  # it has begun, and neither its plan nor a row is there
            text = "This run has no image yet. The page opens with the first one."
            return HTMLResponse(_MESSAGE.format(title=html.escape(name), text=text))
        if room is None:
            return _missing()
        parts = page.page_parts(room.sheet.data.title, None, (), "sheet.js", is_served=True)
        policy = f"{page.page_policy(is_served=True)}; frame-ancestors 'none'"
        headers = {"Content-Security-Policy": policy}
        return HTMLResponse("".join(parts), headers=headers)

    async def sheet(self, request: Request) -> Response:
        """Answer with the data of a run's page as a script."""
        room = await self._room(request)
        if room is None:
            return _missing()
        visitor = visitor_of(request)
        is_blind = is_rating_blind(visitor)
        served = {
            "picks": "picks",
            "pack": "pack",
            "act": "act",
            "role": visitor.role,
            "link": visitor.name,
            "who": visitor.name or default_who(),
            "is_blind": is_blind,
            "picks_version": "" if is_blind else room.said.version(),
        }
        picks = [] if is_blind else list(room.said.history)
        text = await asyncio.to_thread(room.sheet.document, picks, served)
        return _script(page.data_script(text))

    async def pack(self, request: Request) -> Response:
        """Answer with thumbnails and commands of some images as a script."""
        room = await self._room(request)
        image_ids = request.query_params.get("ids", "").split(",")
        number = request.path_params["number"]
        is_known = len(image_ids) <= MAX_PACK and all(map(_is_id, image_ids))
        if room is None or not is_known or not _NUMBER.fullmatch(number):
            return _missing()
        text = await asyncio.to_thread(room.sheet.pack, image_ids)
        rows = [room.sheet.row(image_id) for image_id in image_ids]
        is_whole = all(row and row["sha256"] for row in rows)
        return _script(page.pack_script(int(number), text), KEPT if is_whole else NOT_KEPT)

    async def image(self, request: Request) -> Response:
        """Answer with the PNG of an image."""
        room = await self._room(request)
        image_id = request.path_params["image_id"]
        if room is None or not _is_id(image_id):
            return _missing()
        data = await asyncio.to_thread(room.sheet.png, image_id)
        return _picture(data, "image/png")

    async def thumbnail(self, request: Request) -> Response:
        """Answer with the thumbnail of an image."""
        room = await self._room(request)
        image_id = request.path_params["image_id"]
        if room is None or not _is_id(image_id):
            return _missing()
        data = await asyncio.to_thread(room.sheet.thumbnail, image_id)
        return _picture(data, "image/webp")

    async def newest(self, request: Request) -> Response:
        """Answer with the images of a run that were drawn last, and how far it is."""
        try:
            room = await self._room(request)
        except ReportError:
            return JSONResponse({"image_ids": [], "progress": None})
        if room is None:
            return _missing()
        if not room.num_watchers:
            await asyncio.to_thread(room.look)
        progress = dataclasses.asdict(room.progress)
        newest = room.sheet.newest(6)
        return JSONResponse(
            {"image_ids": newest, "progress": progress}, headers={"Cache-Control": "no-store"}
        )

    async def events(self, request: Request) -> Response:
        """Answer with the news of a run, for as long as its page is open."""
        room = await self._room(request)
        if room is None:
            return _missing()
        last = request.headers.get("last-event-id") or request.query_params.get("from", "0")
        is_known = _NUMBER.fullmatch(last) and request.query_params.get("sheet") == room.sheet.token
        stream = (
            _stream(room, int(last), is_rating_blind(visitor_of(request)))
            if is_known
            else _reload()
        )
        return StreamingResponse(
            stream,
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _room(self, request: Request) -> Room | None:
        return await self.rooms.open(request.path_params["name"])


async def _reload() -> AsyncIterator[str]:
    """Tell a page that its numbers are those of another time."""
    yield event("reload", {})


async def _stream(room: Room, num_rows: int, is_blind: bool) -> AsyncIterator[str]:
    """Yield a run's news from some number of rows on."""
    yield f"retry: {RETRY_MS}\n\n"
    version = room.said.version()
    progress = None
    await room.watch()
    try:
        while not room.is_closed:
            num_changes = room.num_changes
            for number, text in room.chunks_after(num_rows):
                num_rows = number
                yield f"event: chunk\nid: {number}\ndata: {text}\n\n"
            if room.progress != progress:
                progress = room.progress
                yield event("progress", dataclasses.asdict(progress))
            if room.said.version() != version and not is_blind:
                text, version = room.said.event_since(version)
                yield f"event: picks\ndata: {text}\n\n"
            if not await room.wait(num_changes, BEAT_S):
                yield ": still here\n\n"
    finally:
        room.leave()


def event(name: str, value: Any) -> str:
    """Return one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=True)}\n\n"


def is_rating_blind(visitor: Visitor) -> bool:
    """Tell whether who asks may rate and nothing more: without others' verdicts in view."""
    return visitor.role == "rate"


def _is_id(text: str) -> bool:
    return _IMAGE_ID.fullmatch(text) is not None


def _missing() -> Response:
    return JSONResponse({"error": "There is nothing here."}, 404)


def _script(text: str, caching: str = NOT_KEPT) -> Response:
    return Response(text, media_type="text/javascript", headers={"Cache-Control": caching})


def _picture(data: bytes | None, media_type: str) -> Response:
    if data is None:
        return _missing()
    return Response(data, media_type=media_type, headers={"Cache-Control": KEPT})
