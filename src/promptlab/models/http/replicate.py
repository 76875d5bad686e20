"""Replicate by plain HTTP: a prediction is made, asked for until it ends, its file fetched at once.

A version by its hash pins the weights; the official models have none. A prediction outlives its
connection and is found again by its id, or among the newest by its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from promptlab.models.http.client import Client
from promptlab.models.http.prices import Price
from promptlab.models.http.service import (
    Answer,
    CallError,
    Fields,
    RefusedError,
    Sent,
    size_in,
    text_of,
)
from promptlab.models.protocol import Parameter
from promptlab.records import Request

WAIT_S = 60  # that the server holds the first answer back for, its own limit
POLL_S = 1.0  # between two questions; each further one waits longer, up to
MAX_POLL_S = 5.0
CLOCKS_S = 300.0  # that the server's clock may be behind ours
MAX_PAGES = 10  # of a hundred predictions that are looked through for a lost one


class ReplicateService:
    """One model of Replicate."""

    image_size = (1024, 1024)
    can_find = True
    is_idempotent = False

    def __init__(
        self, url: str, model: str, version: str | None, fields: Fields, price: Price
    ) -> None:
        self.model, self.version, self.fields, self.price = model, version, fields, price
        self.is_seeded = fields.is_seeded
        self.parameters: Mapping[str, Parameter] = fields.parameters
        self.identity: Mapping[str, Any] = {
            "api": "replicate",
            "model": model,
            "version": version,
            "constants": dict(fields.constants),
        }

    def price_of(self, request: Request) -> float | None:
        """Return the price of an image, or of the seconds that one usually takes."""
        return self.price.estimate(request.prompt, None, size_in(request.params))

    def begin(self, client: Client) -> None:
        """Do nothing: the first request tells whether token and model are right."""

    def draw(self, client: Client, request: Request, sent: Sent) -> Answer:
        """Make a prediction and wait for its end."""
        body: dict[str, Any] = {"input": self._input(request)}
        if self.version is None:
            path = f"/models/{self.model}/predictions"
        else:
            path, body["version"] = "/predictions", self.version
        prediction = client.post(path, body, {"Prefer": f"wait={WAIT_S}"})
        sent.is_known_as(prediction["id"])
        return self._ended(client, request, prediction)

    def find(self, client: Client, request: Request, sent: Sent) -> Answer | None:
        """Return the end of a prediction that was made before, None if it never was."""
        if sent.remote_id is None:
            prediction = self._look_for(client, request, sent)
            if prediction is None:
                return None
            sent.is_known_as(prediction["id"])
        return self._ended(client, request, self._ask(client, str(sent.remote_id)))

    def cancel(self, client: Client, sent: Sent) -> None:
        """Do nothing: what runs is paid for, and the next session finds it."""

    def _input(self, request: Request) -> dict[str, Any]:
        return {"prompt": request.prompt, **self.fields.of(request)}

    def _ask(self, client: Client, remote_id: str) -> Mapping[str, Any]:
        prediction: Mapping[str, Any] | None = client.get(f"/predictions/{remote_id}")
        if prediction is None:
            raise RefusedError(f"Replicate knows nothing of its prediction {remote_id} any more")
        return prediction

    def _look_for(self, client: Client, request: Request, sent: Sent) -> Mapping[str, Any] | None:
        """Return the newest prediction of this input made since the request left."""
        path, wanted = "/predictions", self._input(request)
        for _ in range(MAX_PAGES):
            page = client.get(path) or {}
            for prediction in page.get("results", ()):
                made_at = datetime.fromisoformat(prediction["created_at"]).timestamp()
                if made_at < sent.at_s - CLOCKS_S:
                    return None
                is_same_model = prediction.get("model") in (None, self.model)
                if is_same_model and prediction.get("input") == wanted:
                    return dict(prediction)
            _, found, cursor = str(page.get("next") or "").partition("?")
            if not found:
                return None
            path = f"/predictions?{cursor}"
        return None

    def _ended(self, client: Client, request: Request, prediction: Mapping[str, Any]) -> Answer:
        wait_s = POLL_S
        while prediction["status"] in ("starting", "processing"):
            client.wait(wait_s * client.server.first_wait_s)
            wait_s = min(MAX_POLL_S, 1.3 * wait_s)
            prediction = self._ask(client, prediction["id"])
        seconds = (prediction.get("metrics") or {}).get("predict_time")
        cost = self.price.second and seconds and self.price.second * seconds
        if prediction["status"] != "succeeded":
            reason = prediction.get("error") or prediction["status"]
            raise RefusedError(f"Replicate: {reason}", cost)
        drawn_by = prediction.get("version")
        if self.version is not None and drawn_by not in (None, self.version):
            raise RefusedError(f"version {drawn_by} drew, asked for {self.version}", cost)
        output = prediction.get("output")
        files = output if isinstance(output, list) else [output]
        if len(files) != 1 or not isinstance(files[0], str):
            raise RefusedError(
                f"Replicate sent {len(files)} outputs, expected the URL of one", cost
            )
        try:
            image = client.fetch(files[0])
        except CallError as failure:
            if not failure.is_unreachable:
                raise RefusedError(
                    f"the image of {prediction['id']} is gone: {failure}", cost
                ) from None
            raise
        return Answer(image, cost, text_of(request, "output_format"))
