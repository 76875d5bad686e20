"""Saved pipelines, built once a session, and requests for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from promptlab.models.diffusers import DiffusersModel, open_pipeline
from promptlab.models.diffusers.libraries import import_diffusers
from promptlab.models.protocol import normalize_params
from promptlab.planning.requests import make_request
from promptlab.records import Request, Result, Source

PARAMS = {"steps": 2, "width": 32, "height": 32}
Build = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function from a family's name to the folder of its pipeline."""
    if find_spec("diffusers") is None:
        pytest.skip("needs promptlab[diffusers]")
    import_diffusers()
    from tests.models.diffusers import tiny_pipelines

    folder = tmp_path_factory.mktemp("pipelines")
    return functools.cache(lambda name: tiny_pipelines.build(name, folder))


@pytest.fixture(scope="session")
def build_lora(build: Build) -> Callable[[str, int], Path]:
    """Return a function from a family and a seed to a LoRA file that fits the family."""
    from tests.models.diffusers import tiny_pipelines

    return functools.cache(
        lambda name, seed: tiny_pipelines.build_lora(build(name), f"lora{seed}", seed)
    )


@dataclass
class Opened:
    """A loaded model and how to ask it for images."""

    model: DiffusersModel

    def request(
        self, prompt: str = "a fox", seed: int = 0, source: Source | None = None, **params: Any
    ) -> Request:
        """Return the request of an image of 32 px in 2 steps."""
        found = self.model.parameters.items()
        accepted = {name: p for name, p in found if source or not p.is_for_source}
        settled = self.model.settle(normalize_params("tiny", accepted, {**PARAMS, **params}))
        return make_request(self.model, self.model.describe(), prompt, seed, settled, source)

    def draw(self, *requests: Request) -> dict[str, Result]:
        """Return the results by image_id."""
        return {result.request.image_id: result for result in self.model.draw(requests)}

    def pixels(self, *requests: Request) -> list[bytes]:
        """Return the pixels of each request, in their order."""
        results = self.draw(*requests)
        found = [results[request.image_id] for request in requests]
        assert [result.error for result in found] == [None] * len(found)
        return [result.pixels.tobytes() for result in found]


@pytest.fixture(scope="module")
def load(build: Build) -> Iterator[Callable[..., Opened]]:
    """Return a function that opens and loads the pipeline of a family; each once a module."""

    @functools.cache
    def opened(name: str, batch_size: int = 3, **options: Any) -> Opened:
        model = open_pipeline(str(build(name)), batch_size=batch_size, **options)
        model.load()
        return Opened(model)

    yield opened
    opened.cache_clear()
