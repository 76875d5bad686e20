"""The page of the queue, and the files that it is made of.

Returns files of this package by the names that are listed here. Knows nothing of the queue.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from promptlab.serve.door import Guarded

if TYPE_CHECKING:
    from promptlab.serve.server import Server

PAGE = "queue.html"
OWN = ("queue.css", "queue.js", "compose.js", "entries.js", "manifest.json", "icon.svg")
OF_THE_SHEET = ("sheet.css", "views.css", "dom.js", "memory.js", "outbox.js", "text.js")
MEDIA_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "json": "application/manifest+json",
    "svg": "image/svg+xml",
}


def routes(server: Server) -> list[Guarded]:
    """Return the routes of the page."""
    return [
        Guarded("/", page, role="view", is_page=True),
        Guarded("/static/{name}", static, role="view"),
    ]


async def page(request: Request) -> Response:
    """Answer with the page of the queue."""
    return _file("promptlab.serve", PAGE)


async def static(request: Request) -> Response:
    """Answer with a file of the page."""
    name = request.path_params["name"]
    if name in OWN:
        return _file("promptlab.serve", name)
    if name in OF_THE_SHEET:
        return _file("promptlab.report", name)
    raise HTTPException(404, "There is nothing here.")


def _file(package: str, name: str) -> Response:
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(_read(package, name), media_type=media_type)


@cache
def _read(package: str, name: str) -> bytes:
    return resources.files(package).joinpath("static", name).read_bytes()
