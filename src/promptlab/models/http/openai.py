"""OpenAI's images API, and servers that speak it: POST /images/generations.

OpenAI's own models take no seed and cannot be asked for an answer again. A compatible server says
with `extra` which field takes the seed, the size and whatever else it accepts.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from promptlab.models.http.client import Client
from promptlab.models.http.prices import Price
from promptlab.models.http.service import Answer, Fields, RefusedError, Sent, size_in, text_of
from promptlab.models.protocol import Parameter
from promptlab.records import Request

# What an answer may say of itself, beside the parameter that asks for it.
ECHOED = ("size", "quality", "output_format")


class OpenAiService:
    """One model behind /images/generations."""

    image_size = (1024, 1024)
    can_find = False

    def __init__(
        self, url: str, model: str, fields: Fields, price: Price, *, is_idempotent: bool
    ) -> None:
        self.model, self.fields, self.price = model, fields, price
        self.is_idempotent, self.is_seeded = is_idempotent, fields.is_seeded
        self.parameters: Mapping[str, Parameter] = fields.parameters
        self.identity: Mapping[str, Any] = {
            "api": "openai",
            "url": url,
            "model": model,
            "constants": dict(fields.constants),
        }

    def price_of(self, request: Request) -> float | None:
        """Return an estimate by quality and size; what it cost is in the answer."""
        quality, size = text_of(request, "quality"), size_in(request.params)
        return self.price.estimate(request.prompt, quality, size)

    def begin(self, client: Client) -> None:
        """Do nothing: the first request tells whether key and model are right."""

    def draw(self, client: Client, request: Request, sent: Sent) -> Answer:
        """Ask for one image and wait for it."""
        body = {"model": self.model, "prompt": request.prompt, "n": 1, **self.fields.of(request)}
        reply = client.post("/images/generations", body, {"Idempotency-Key": sent.key})
        cost = self.price.of_tokens(reply.get("usage") or {})
        if reply.get("model") not in (None, self.model):
            raise RefusedError(
                f"the server drew with {reply['model']}, asked for {self.model}", cost
            )
        for name in ECHOED:
            asked, said = request.params.get(name), reply.get(name)
            if None not in (asked, said) and asked not in ("auto", said):
                raise RefusedError(f"the server drew {name} {said}, asked for {asked}", cost)
        images = reply.get("data") or []
        if len(images) != 1:
            raise RefusedError(f"the server sent {len(images)} images, asked for 1", cost)
        encoded, url = images[0].get("b64_json"), images[0].get("url")
        image = base64.b64decode(encoded, validate=True) if encoded else client.fetch(url)
        return Answer(image, cost, text_of(request, "output_format"))

    def find(self, client: Client, request: Request, sent: Sent) -> Answer | None:
        """Return None: this API keeps no answers."""
        return None

    def cancel(self, client: Client, sent: Sent) -> None:
        """Do nothing: this API cannot be asked to stop."""
