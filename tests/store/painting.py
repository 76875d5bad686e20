"""A small deterministic model and plans of it, for the tests of store and tracking."""

import hashlib
import itertools
from typing import ClassVar

import numpy as np

from promptlab import identity
from promptlab.planning.plan import Axis, Plan, PlannedModel
from promptlab.records import Cell, Result

SIZE = 16  # px


class Painter:
    """Paints noise that the whole request determines; draws nothing twice the same by chance."""

    name = "painter"
    fingerprint = "0123456789abcdef"
    image_size = (SIZE, SIZE)
    dtype = "float32"
    device = "cpu"
    parameters: ClassVar = {}
    is_deterministic = True

    def __init__(self, misbehave=None):
        self.drawn = []
        self.misbehave = misbehave

    def load(self):
        pass

    def unload(self):
        pass

    def draw(self, requests):
        for request in requests:
            self.drawn.append(request.image_id)
            if self.misbehave is not None:
                result = self.misbehave(request)
                if result is not None:
                    yield result
                    continue
            yield Result(request, pixels=paint(request.image_id), seconds=0.001)


def paint(image_id, size=SIZE):
    state = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big")
    return np.random.default_rng(state).integers(0, 256, (size, size, 3), np.uint8)


def make_plan(
    subjects=("a fox", "a robot"),
    styles=("noto", "openmoji"),
    seeds=(0, 1),
    axes=None,
    sweep="test",
    model=None,
):
    """Return a plan of subject × style × further axes; `axes` maps name to values."""
    model = model or Painter()
    axes = axes or {}
    cells = []
    grid = itertools.product(subjects, styles, *axes.values())
    for job_id, (subject, style, *values) in enumerate(grid):
        further = dict(zip(axes, values, strict=True))
        params = {"temperature": 1.0, **further}
        prompt = f"{subject}, {style}"
        arm = identity.hash_id([style, model.name, further])
        cells.append(
            Cell(
                cell_id=identity.hash_id([subject, style, model.name, further]),
                arm_id=arm,
                job_id=job_id,
                subject=subject,
                style=style,
                template="plain",
                prompt=prompt,
                model=model.name,
                model_key="painter",
                params=params,
                axes=further,
                seeds=tuple(seeds),
            )
        )
    all_axes = {"subject": subjects, "style": styles, **axes}
    if len(seeds) > 1:
        all_axes["seed"] = seeds
    return Plan(
        sweep=sweep,
        sweep_id=identity.hash_id([sweep, [cell.cell_id for cell in cells], list(seeds)]),
        axes=tuple(Axis(n, tuple(v)) for n, v in all_axes.items() if len(v) > 1),
        cells=tuple(cells),
        models={"painter": PlannedModel.of(model)},
    )
