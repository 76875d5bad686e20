"""A1111, Forge and sd-server: POST /sdapi/v1/txt2img, one prompt a call.

The checkpoint is set for the whole server, since Forge ignores the one that a request names, and
is checked in every answer. What is free is drawn again rather than asked for.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from promptlab.models.http.client import Client
from promptlab.models.http.service import Answer, Fields, RefusedError, Sent
from promptlab.models.protocol import Parameter
from promptlab.records import Request

_HASH = re.compile(r"\[(\w+)\]\s*$")

PARAMETERS: Mapping[str, Parameter] = {
    "steps": Parameter(int, 20, 1, 1000, description="sampling steps"),
    "guidance_scale": Parameter(float, 7.0, 0.0, 100.0, description="cfg_scale"),
    "negative_prompt": Parameter(str, "", description="what the picture should not show"),
    "sampler": Parameter(str, "Euler a", description="as the server calls it"),
    "scheduler": Parameter(str, "Automatic", description="as the server calls it"),
    "width": Parameter(int, 512, 64, 8192, description="px"),
    "height": Parameter(int, 512, 64, 8192, description="px"),
}
FIELDS = {"guidance_scale": "cfg_scale", "sampler": "sampler_name"}


class A1111Service:
    """One checkpoint of a server with A1111's API."""

    image_size = (512, 512)
    is_seeded = True
    can_find = False
    is_idempotent = False

    def __init__(self, url: str, checkpoint: str | None, extra: Fields) -> None:
        self.checkpoint = checkpoint
        self.fields = Fields(
            {"seed": "seed", **{name: FIELDS.get(name, name) for name in PARAMETERS}}
            | dict(extra.field_from_parameter),
            extra.constants,
        )
        self.parameters: Mapping[str, Parameter] = {**extra.parameters, **PARAMETERS}
        self.identity: Mapping[str, Any] = {
            "api": "a1111",
            "url": url,
            "checkpoint": checkpoint,
            "constants": dict(extra.constants),
        }

    def price_of(self, request: Request) -> float | None:
        """Return None: the server is one's own."""
        return None

    def begin(self, client: Client) -> None:
        """Have the server load the checkpoint."""
        if self.checkpoint is not None:
            client.post("/sdapi/v1/options", {"sd_model_checkpoint": self.checkpoint})

    def draw(self, client: Client, request: Request, sent: Sent) -> Answer:
        """Ask for one image and wait for it."""
        body = {
            "prompt": request.prompt,
            "batch_size": 1,
            "n_iter": 1,
            "send_images": True,
            "save_images": False,
            **self.fields.of(request),
        }
        reply = client.post("/sdapi/v1/txt2img", body)
        info = json.loads(reply.get("info") or "{}")
        self._check(info, request)
        images = reply["images"]
        if len(images) != 1:
            raise RefusedError(f"the server sent {len(images)} images, asked for 1")
        return Answer(base64.b64decode(images[0].rpartition(",")[2], validate=True))

    def _check(self, info: Mapping[str, Any], request: Request) -> None:
        """Refuse another checkpoint or seed than was asked for, where the answer says so."""
        seed = info.get("seed")
        if seed is not None and int(seed) != request.seed:
            raise RefusedError(f"the server drew seed {seed}, asked for {request.seed}")
        if self.checkpoint is None:
            return
        asked = _HASH.search(self.checkpoint)
        name = re.sub(r"\.(safetensors|ckpt|gguf)$", "", _HASH.sub("", self.checkpoint).strip())
        name = name.replace("\\", "/").rpartition("/")[2]
        drawn_by, drawn_hash = info.get("sd_model_name"), info.get("sd_model_hash")
        if (drawn_by and drawn_by != name) or (asked and drawn_hash and asked[1] != drawn_hash):
            raise RefusedError(f"{drawn_by} [{drawn_hash}] drew, asked for {self.checkpoint}")

    def find(self, client: Client, request: Request, sent: Sent) -> Answer | None:
        """Return None: this API keeps no answers."""
        return None

    def cancel(self, client: Client, sent: Sent) -> None:
        """Interrupt what the server draws."""
        client.post("/sdapi/v1/interrupt", {})
