"""Verdicts that come from served pages: written to the run's picks at once.

Takes picks as pages send them, returns what was kept and what other people have said meanwhile.
Whoever has a name by their link signs with it, whatever the page says.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from promptlab.errors import PromptlabError, ReportError
from promptlab.serve.access import Visitor
from promptlab.serve.door import Guarded, read_json, visitor_of
from promptlab.serve.live import is_rating_blind
from promptlab.serve.rooms import Room
from promptlab.verdicts.picks import Pick

if TYPE_CHECKING:
    from promptlab.serve.server import Server

MAX_PICKS = 1000  # of one request
MAX_BYTES = 2**20  # of one request
MAX_WHO = 200  # characters of a name
SKEW_S = 5.0  # a clock that is further off is put right
_KEYS = ("image_id", "rating", "is_favourite", "is_reject", "note")


def routes(server: Server) -> list[Guarded]:
    """Return the routes of verdicts."""
    rooms = server.rooms

    async def picks(request: Request) -> Response:
        """Keep a page's verdicts; answer with what was kept and what is new."""
        try:
            room = await rooms.open(request.path_params["name"])
        except ReportError:
            room = None
        if room is None:
            raise HTTPException(404, "There is no such run.")
        document = await read_json(request)
        entries, version = document.get("picks"), document.get("version")
        if not isinstance(entries, list) or len(entries) > MAX_PICKS:
            raise HTTPException(400, f"picks: expected a list of at most {MAX_PICKS} verdicts.")
        visitor = visitor_of(request)
        who = signed(str(document.get("who") or ""), visitor)
        if any(_names_unknown(entry, room) for entry in entries):
            await asyncio.to_thread(room.look)  # nobody watches, and the run may have grown
        skew = _skew(document.get("sent_at"))
        kept: list[Pick] = []
        refused = []
        for entry in entries:
            try:
                pick = _pick(entry, visitor, skew)
                if pick.image_id not in room.sheet.image_ids:
                    raise ReportError("This run has no such image.")
                kept.append(pick)
            except (ReportError, OverflowError) as error:  # overflow: a time far from now
                refused.append(str(error)[:300])
        try:
            await room.said.record(kept)
            if not room.num_watchers:  # then nobody reads what others write
                await asyncio.to_thread(room.said.read)
        except (PromptlabError, OSError) as error:
            raise HTTPException(503, f"The verdicts could not be kept: {error}") from error
        since = version if isinstance(version, str) else ""
        version = room.said.version()
        only = who if is_rating_blind(visitor) else None
        news = await asyncio.to_thread(room.said.news_since, since, only)
        answer = {"num_kept": len(kept), "refused": refused, "news": news, "version": version}
        return JSONResponse(answer)

    path = "/runs/{name}/picks"
    return [Guarded(path, picks, role="rate", methods=["POST"], max_bytes=MAX_BYTES)]


def signed(who: str, visitor: Visitor) -> str:
    """Return the name that verdicts of a visitor bear: that of their link is always in it.

    Several people may share a link, and tell their own names.
    """
    who = who[:MAX_WHO]
    if not visitor.name or who == visitor.name or who.endswith(f" ({visitor.name})"):
        return who
    return f"{who} ({visitor.name})" if who else visitor.name


def _pick(entry: Any, visitor: Visitor, skew: datetime.timedelta) -> Pick:
    """Return a verdict that a page sent, at the server's time; ReportError if it is none."""
    if not isinstance(entry, Mapping):
        raise ReportError("A verdict is an object.")
    given = {key: entry[key] for key in _KEYS if key in entry}
    who = entry.get("who") or ""
    texts = (given.get("image_id"), given.get("note", ""), who, entry.get("picked_at"))
    flags = (given.get("is_favourite", False), given.get("is_reject", False))
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(flag, bool) for flag in flags
    ):
        raise ReportError("A verdict has texts and true or false in their places.")
    pick = Pick(**given, who=signed(who, visitor), picked_at=entry["picked_at"])
    moment = datetime.datetime.fromisoformat(pick.picked_at) + skew
    now = datetime.datetime.now(datetime.UTC)
    return Pick(**given, who=pick.who, picked_at=min(moment, now).isoformat())


def _names_unknown(entry: Any, room: Room) -> bool:
    image_id = entry.get("image_id") if isinstance(entry, Mapping) else None
    return isinstance(image_id, str) and image_id not in room.sheet.image_ids


def _skew(sent_at: Any) -> datetime.timedelta:
    """Return what a page's clock lacks, none for one that is nearly right."""
    try:
        moment = datetime.datetime.fromisoformat(sent_at)
        skew = datetime.datetime.now(datetime.UTC) - moment.astimezone(datetime.UTC)
    except (TypeError, ValueError, OverflowError):
        return datetime.timedelta()
    return skew if abs(skew.total_seconds()) > SKEW_S else datetime.timedelta()
