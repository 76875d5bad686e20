"""What the tests of models behind HTTP share."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from promptlab import engine, redaction
from promptlab.models import http
from promptlab.models.complete import complete
from promptlab.models.http.pace import Clock
from promptlab.models.protocol import normalize_params
from promptlab.planning.requests import make_request
from promptlab.records import Request, Result
from tests.models.http.fakes import WORKFLOW, Fake

QUICK = {"first_wait_s": 0.01, "connect_s": 2.0, "read_s": 5.0}


class FastClock(Clock):
    """Time that passes at once when somebody waits."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.time_s

    def wait(self, seconds: float, stop: threading.Event) -> None:
        with self._lock:
            self.time_s += max(0.0, seconds)
            self.waits.append(seconds)
        super().wait(0.0, stop)


@pytest.fixture(autouse=True)
def _no_secret_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_KEPT_OUT", set())


def open_model(api: str, fake: Fake, path: Path, **further: Any) -> http.HttpModel:
    """Return a model of each API, of 32 × 32 px."""
    given = {**QUICK, **further}
    if api == "openai":
        extra = {"size": "size", "quality": "quality", "output_format": "output_format"}
        given = {"model": "gpt-image-2", "extra": extra, "key_variable": None, **given}
        return http.open_openai(base_url=f"{fake.url}/v1", **given)
    if api == "replicate":
        given = {
            "model": "someone/paints",
            "extra": {"seed": "seed"},
            "key_variable": None,
            **given,
        }
        return http.open_replicate(base_url=f"{fake.url}/v1", **given)
    if api == "comfyui":
        workflow = path / "workflow_api.json"
        workflow.write_text(json.dumps(WORKFLOW))
        bindings = {"prompt": "6.text", "seed": "3.seed", "width": "5.width", "height": "5.height"}
        given = {"workflow": str(workflow), "bindings": bindings, **given}
        return http.open_comfyui(base_url=fake.url, **given)
    return http.open_a1111(base_url=fake.url, **given)


SIZES = {"openai": {"size": "32x32"}, "a1111": {"width": 64, "height": 64}}


def make_requests(
    model: http.HttpModel, number: int, prompt: str = "a fox", **params: Any
) -> list[Request]:
    """Return requests of one prompt with all parameters filled in."""
    given = normalize_params(model.name, model.parameters, params)
    whole = complete(model)
    return [make_request(whole, whole.describe(), prompt, seed, given) for seed in range(number)]


def draw(model: http.HttpModel, requests: Sequence[Request]) -> dict[int, Result]:
    """Load, draw and unload; return the results by seed."""
    results = list(engine.draw_all(model, requests))
    assert len(results) == len({r.request.image_id for r in results}) == len(requests)
    return {result.request.seed: result for result in results}
