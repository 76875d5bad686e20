"""The images API that other programs speak: OpenAI's shape, on the models of this server.

Takes a request of `POST /v1/images/generations`, queues it as an urgent entry and answers with the
rows that it drew. Images are streamed as each completes, after partial ones if they were asked for
and the model has previews. Fields that mean nothing here (quality, moderation, user) are ignored
unless the model has such a parameter.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import struct
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from promptlab.configs.vocabulary import find_options, list_options, read_option
from promptlab.errors import PromptlabError
from promptlab.planning.seeds import MAX_SEED
from promptlab.serve.choices import list_choices, model_names
from promptlab.serve.door import Guarded, error_document, read_json, visitor_of
from promptlab.serve.entries import ENDED, Entry
from promptlab.serve.previews import Preview
from promptlab.serve.server import Server, event
from promptlab.serve.wishes import argv_of
from promptlab.store import read_run

LOOK_S = 0.5  # between two looks at the rows of a run that is being drawn
MAX_IMAGES = 64  # of one request: such an entry never waits for a large one
MAX_PARTIAL = 3  # unfinished images sent of each
NAME = "api"  # of the sweeps
UNREAD = frozenset(
    {"quality", "background", "moderation", "user", "safety_identifier", "output_compression"}
    | {"input_fidelity", "output_format"}
)
_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
_COLUMNS = ("image_id", "seed", "status", "error", "width", "height")
_PARTIAL = "image_generation.partial_image"
_FORMAT = {"quality": "auto", "background": "auto", "output_format": "png"}
_NO_TOKENS = {
    **{"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


def routes(server: Server) -> list[Guarded]:
    """Return the routes of the API."""
    api = _ImagesApi(server)
    return [
        Guarded("/v1/models", api.models, role="view"),
        Guarded("/v1/models/{name:path}", api.model, role="view"),
        Guarded("/v1/images/generations", api.generate, role="run", methods=["POST"]),
    ]


@dataclass(frozen=True)
class Asked:
    """A request for images, read."""

    wish: Mapping[str, Any]
    seeds: tuple[int, ...]
    size: tuple[int, int] | None  # px; None: the model's own
    is_url: bool
    is_stream: bool
    num_partial: int = 0  # unfinished images sent of each, at most


class _ImagesApi:
    """The answers of the API."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._is_sizable: dict[str, bool] = {}  # model → whether it has width and height

    async def models(self, request: Request) -> Response:
        """Answer with the models that draw from a prompt."""
        names = await run_in_threadpool(model_names)
        return JSONResponse({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """Answer with one model."""
        name = request.path_params["name"]
        if name not in await run_in_threadpool(model_names):
            raise HTTPException(404, "There is no such model: GET /v1/models lists them.")
        return JSONResponse(_model(name))

    async def generate(self, request: Request) -> Response:
        """Draw images and answer with them, all at once or each as it completes."""
        asked = await run_in_threadpool(read_request, await read_json(request))
        entry = await self._submit(asked, visitor_of(request).name)
        is_https = request.headers.get("x-forwarded-proto") == "https"
        base = f"http{'s' * is_https}://{request.headers['host']}"
        if asked.is_stream:
            stream = self._stream(asked, entry, base)
            return StreamingResponse(stream, media_type="text/event-stream")
        images: list[dict[str, Any]] = []
        errors: list[str] = []
        async for row in self._rows(asked, entry):
            if row["png"] is None:
                errors.append(row["error"])
            else:
                images.append(_image(row, asked, base))
        if not images:
            raise HTTPException(422, f"No image could be drawn: {errors[0]}")
        sizes = {f"{image.pop('width')}x{image.pop('height')}" for image in images}
        content = {"created": int(time.time()), "data": images, "output_format": "png"}
        if len(sizes) == 1:
            content["size"] = sizes.pop()
        return JSONResponse({**content, "errors": errors} if errors else content)

    async def _submit(self, asked: Asked, who: str) -> Entry:
        """Queue the request; a model that has no width and height draws in its own size."""
        forms: list[Mapping[str, Any]] = [asked.wish]
        model = str(asked.wish.get("model", ""))
        if asked.size is not None and self._is_sizable.get(model, True):
            width, height = asked.size
            params = {**asked.wish["params"], "width": width, "height": height}
            forms.insert(0, {**asked.wish, "params": params})
        for form in forms:
            argv = await run_in_threadpool(argv_of, form)
            try:
                entry = await self.server.submit(argv, who=who, source="api", is_urgent=True)
            except PromptlabError as error:
                if form is forms[-1] or not str(error).startswith("Unknown key width"):
                    raise
                self._is_sizable[model] = False
            else:
                return entry
        raise AssertionError("the last form returns or raises")

    async def _rows(self, asked: Asked, entry: Entry) -> AsyncGenerator[dict[str, Any]]:
        """Yield the rows of an entry as they are drawn; raises HTTPException if it fails.

        An unfinished image comes as a row that holds its Preview.
        """
        seen: set[str] = set()
        shown: defaultdict[str, list[int]] = defaultdict(list)  # image_id -> steps
        async with aclosing(self.server.changes(LOOK_S)) as changes:
            async for _ in changes:
                now = await run_in_threadpool(self.server.queue.get, entry.entry_id)
                assert now is not None
                for preview in self.server.previews.of(entry.entry_id):
                    steps = shown[preview.image_id]
                    if len(steps) < asked.num_partial and preview.step not in steps:
                        steps.append(preview.step)
                        yield {"preview": preview, "number": len(steps) - 1}
                if now.run_folder:
                    found = await run_in_threadpool(_read, now.run_folder, asked.seeds, seen)
                    for row in found:
                        seen.add(row["image_id"])
                        yield row
                if len(seen) == len(asked.seeds):  # its sheet may be still being built
                    return
                if now.status in ENDED:
                    if not seen:
                        reason = now.error or f"the entry was {now.status}"
                        raise HTTPException(422, f"Nothing was drawn: {reason}")
                    return
        raise HTTPException(503, "The server is being stopped; what was drawn is kept.")

    async def _stream(self, asked: Asked, entry: Entry, base: str) -> AsyncGenerator[bytes]:
        name = "image_generation.completed"
        try:
            async with aclosing(self._rows(asked, entry)) as rows:
                async for row in rows:
                    if "preview" in row:
                        yield event(_PARTIAL, json.dumps(_partial(**row)).encode())
                        continue
                    if row["png"] is None:
                        failed = error_document(f"An image could not be drawn: {row['error']}")
                        yield event("error", json.dumps(failed).encode())
                        continue
                    image = _image(row, asked, base)
                    document = {
                        **{"type": name, "created_at": int(time.time()), **image},
                        "size": f"{image.pop('width')}x{image.pop('height')}",
                        **_FORMAT,
                        "usage": _NO_TOKENS,
                    }
                    yield event(name, json.dumps(document).encode())
        except HTTPException as error:
            yield event("error", json.dumps(error_document(error.detail)).encode())


def read_request(body: Mapping[str, Any]) -> Asked:
    """Return what a request's body asks for; raises HTTPException for what it may not hold."""
    given = {key: value for key, value in body.items() if value is not None}
    prompt = given.pop("prompt", None)
    if not isinstance(prompt, str) or not prompt.strip():
        raise HTTPException(400, "prompt: expected a text.")
    number = given.pop("n", 1)
    if type(number) is not int or not 1 <= number <= MAX_IMAGES:
        raise HTTPException(400, f"n: expected a whole number from 1 to {MAX_IMAGES}.")
    seed = given.pop("seed", None)
    if seed is None:
        seed = secrets.randbelow(2**31 - number)
    if type(seed) is not int or not 0 <= seed <= MAX_SEED - number:
        raise HTTPException(400, "seed: expected a whole number from 0 on.")
    shape = given.pop("response_format", "b64_json")
    if shape not in ("b64_json", "url"):
        raise HTTPException(400, "response_format: expected b64_json or url.")
    is_stream = given.pop("stream", False)
    if not isinstance(is_stream, bool):
        raise HTTPException(400, "stream: expected true or false.")
    num_partial = given.pop("partial_images", 0)
    if type(num_partial) is not int or not 0 <= num_partial <= MAX_PARTIAL:
        raise HTTPException(400, f"partial_images: expected a number from 0 to {MAX_PARTIAL}.")
    if given.get("output_format", "png") != "png":
        raise HTTPException(400, "output_format: expected png.")
    model = given.pop("model", None) or list_choices()["default"].get("model", "")
    if model not in model_names():
        raise HTTPException(404, f"There is no model {str(model)[:100]!r}: GET /v1/models.")
    style = given.pop("style", "none")
    if style in ("vivid", "natural") and style not in list_options("style"):
        style = "none"  # OpenAI's own words
    accepted = _named_parameters(model)
    written = given.pop("size", "auto")
    size = _size(written)
    params = {key: given[key] for key in given if key not in UNREAD or key in accepted}
    if "size" in accepted and size is not None:
        params["size"], size = written, None
    seeds = tuple(range(seed, seed + number))
    wish = {
        **{"prompt": prompt, "style": style, "model": model, "name": NAME},
        **{"seeds": list(seeds), "params": params},
    }
    return Asked(wish, seeds, size, shape == "url", is_stream, num_partial if is_stream else 0)


def _size(written: Any) -> tuple[int, int] | None:
    """Return a size in px; None for the model's own."""
    if written == "auto":
        return None
    match = _SIZE.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise HTTPException(400, "size: expected WIDTHxHEIGHT in px, such as 1024x1024, or auto.")
    return int(match[1]), int(match[2])


def _named_parameters(model: str) -> set[str]:
    """Return the parameters that a model's file names; others it may have as well."""
    content = read_option(find_options("model")[model])
    node = content.get("model")
    extra = node.get("extra") if isinstance(node, dict) else None
    return {*content, *(extra if isinstance(extra, dict) else ())}


def _read(run_folder: str, seeds: tuple[int, ...], seen: set[str]) -> list[dict[str, Any]]:
    """Return the rows of a request that are new, each with its PNG."""
    name = os.path.basename(run_folder.rstrip("/"))
    try:
        run = read_run(run_folder)
        rows = [
            row
            for row in run.rows(_COLUMNS)
            if row["seed"] in seeds and row["image_id"] not in seen
        ]
        png_of = run.image_bytes
        return [{**row, "run": name, "png": png_of(row["image_id"])} for row in rows]
    except PromptlabError:  # it is just being made
        return []


def _image(row: Mapping[str, Any], asked: Asked, base: str) -> dict[str, Any]:
    if asked.is_url and not asked.is_stream:
        shown = {"url": f"{base}/runs/{quote(row['run'])}/images/{row['image_id']}.png"}
    else:
        shown = {"b64_json": base64.b64encode(row["png"]).decode()}
    return {**shown, **{key: row[key] for key in ("image_id", "seed", "width", "height")}}


def _partial(preview: Preview, number: int) -> dict[str, Any]:
    """Return the event of an unfinished image."""
    width, height = struct.unpack(">II", base64.b64decode(preview.png[:64])[16:24])
    return {
        **{"type": _PARTIAL, "created_at": int(time.time()), "partial_image_index": number},
        **{"b64_json": preview.png, "image_id": preview.image_id, "size": f"{width}x{height}"},
        **_FORMAT,
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "promptlab"}
