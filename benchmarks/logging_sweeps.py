"""Sweeps to be timed: a model that draws nothing, a plan, the pipeline, and the naive loop.

Takes a number of images and a folder, returns seconds. The naive loop is what everybody writes
first: save a PNG with Pillow, append a line of JSON, call `log_image`, one MLflow run per cell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from promptlab import engine
from promptlab.finishing import finishing
from promptlab.identity import hash_id
from promptlab.models.protocol import Model, Parameter
from promptlab.paths import RunPaths, image_path
from promptlab.planning.plan import Axis, Plan, PlannedModel
from promptlab.records import Cell, Request, Result
from promptlab.store import StoreOptions, open_store
from promptlab.tracking import TrackingOptions, open_tracking
from promptlab.tracking.marks import is_tracked

SIZE = 256  # px
NUM_PICTURES = 64  # different ones, handed out in turn
NUM_SEEDS = 2  # images a cell
STYLES = ("noto", "openmoji", "twemoji", "fluent", "fxemoji", "emojione")


class NullModel:
    """Hands out ready pictures."""

    name = "null"
    fingerprint = "0" * 16
    image_size = (SIZE, SIZE)
    dtype = "uint8"
    device = "cpu"
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    is_deterministic = True

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._pictures = [_picture(random) for _ in range(NUM_PICTURES)]

    def load(self) -> None:
        """Do nothing."""

    def unload(self) -> None:
        """Do nothing."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield a ready picture for each request."""
        for number, request in enumerate(requests):
            yield Result(request, pixels=self._pictures[number % NUM_PICTURES], seconds=1e-6)


def _picture(random: np.random.Generator) -> np.ndarray:
    """Return a smooth picture with a little grain: about 100 kB as PNG, as a photograph."""
    coarse = random.integers(0, 256, (16, 16, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    grain = random.integers(-2, 3, smooth.shape)
    return np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def make_plan(num_images: int, model: Model, params: Mapping[str, Any] | None = None) -> Plan:
    """Return a plan of subject × style with NUM_SEEDS seeds a cell."""
    num_cells = num_images // NUM_SEEDS
    cells = []
    for number in range(num_cells):
        subject, style = f"subject {number // len(STYLES)}", STYLES[number % len(STYLES)]
        cells.append(
            Cell(
                cell_id=hash_id([subject, style]),
                arm_id=hash_id(style),
                job_id=number,
                subject=subject,
                style=style,
                template="plain",
                prompt=f"{subject} in the style of {style}",
                model=model.name,
                model_key=model.name,
                params=dict(params or {}),
                axes={},
                seeds=tuple(range(NUM_SEEDS)),
            )
        )
    subjects = tuple(dict.fromkeys(cell.subject for cell in cells))
    axes = (Axis("subject", subjects), Axis("style", STYLES), Axis("seed", (0, 1)))
    return Plan(
        "benchmark", hash_id(num_images), axes, tuple(cells), {model.name: PlannedModel.of(model)}
    )


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the start of a sweep."""

    drawn_s: float  # until the last image was handed over
    kept_s: float  # until every image is on disk, parts merged
    tracked_s: float  # until MLflow holds them too


def draw_with_pipeline(
    root: str,
    plan: Plan,
    uri: str | None,
    on_image: Callable[[int], None] = lambda number: None,
    pace: float = 1.0,
) -> Times:
    """Draw a plan as `promptlab sweep` does; return how long it took.

    With a `pace` of 2, what goes by the clock is done half as often: for a program that is stopped
    half of the time.
    """
    started_at = time.perf_counter()
    paths = RunPaths(root)
    options = TrackingOptions(
        enabled=uri is not None, uri=uri, flush_s=pace * TrackingOptions.flush_s
    )
    stored = StoreOptions(reuse=False, flush_s=pace * StoreOptions.flush_s)
    with open_tracking(paths, options) as tracking:
        with open_store(paths, plan, stored, listeners=[tracking.notify]) as store:
            tracking.begin()
            number = 0
            with finishing(store.add) as finish:
                for model_key, planned in plan.models.items():
                    for result in engine.draw_all(planned.model, store.pending(model_key)):
                        finish(result, planned.numerics)
                        number += 1
                        on_image(number)
            drawn_s = time.perf_counter() - started_at
        kept_s = time.perf_counter() - started_at
    times = Times(drawn_s, kept_s, time.perf_counter() - started_at)
    assert store.counts.ok == plan.num_images, store.counts
    assert uri is None or is_tracked(paths, options), "MLflow does not hold all images"
    return times


def draw_naively(root: str, plan: Plan, uri: str | None) -> float:
    """Draw a plan as everybody's first script does; return the seconds."""
    Path(root, "images").mkdir(parents=True)
    client: Any = None
    experiment, run_id = "", ""
    if uri is not None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.create_experiment(f"naive {root}", Path(root, "artifacts").as_uri())
    started_at = time.perf_counter()
    model = next(iter(plan.models.values())).model
    for cell in plan.cells:
        if client is not None:
            run_id = client.create_run(experiment).info.run_id
            for name in ("subject", "style", "template", "prompt", "model"):
                client.log_param(run_id, name, getattr(cell, name))
        requests = [plan.request(cell, seed) for seed in cell.seeds]
        for result in model.draw(requests):
            request = result.request
            assert result.pixels is not None
            path = Path(root, image_path(cell.prompt, request.seed, request.image_id))
            image = Image.fromarray(result.pixels)
            image.save(path)
            with open(Path(root, "rows.jsonl"), "a", encoding="utf-8") as file:
                row = {"prompt": cell.prompt, "style": cell.style, "seed": request.seed}
                file.write(json.dumps({**row, "path": str(path)}) + "\n")
            if client is not None:
                client.log_image(run_id, image, key="image", step=request.seed)
        if client is not None:
            client.set_terminated(run_id)
    return time.perf_counter() - started_at
