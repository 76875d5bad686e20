"""Run folders to build contact sheets of, written by the store itself.

`make_run` writes a real run of small painted pictures: subjects × styles × seeds, and any further
axes; with failures, picks and scores where a test asks for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from promptlab import identity
from promptlab.finishing import finish
from promptlab.paths import RunPaths
from promptlab.planning.plan import Axis, Plan, PlannedModel
from promptlab.records import Cell, Numerics, Request, Result, Scalar
from promptlab.run_record import RunRecord
from promptlab.store import StoreOptions, open_store
from tests.painters import PARAMETERS, PaintModel

SUBJECTS = ("a fox", "a robot", "a lighthouse", "a tiger")
STYLES = ("noto", "openmoji", "twemoji")
DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}


def make_run(
    root: Path,
    *,
    subjects: Sequence[str] = SUBJECTS,
    styles: Sequence[str] = STYLES,
    num_seeds: int = 2,
    axes: Mapping[str, Sequence[Scalar]] | None = None,  # further ones; a sampling parameter too
    params: Mapping[str, Scalar] | None = None,
    model: PaintModel | None = None,
    sweep: str = "foxes",
    fails_on: str = "",
    unseen: str = "",
    parent_ids: Sequence[str] = (),
    embed_images: bool = True,
    prompt: str = "{subject}, {style}",
    grain: float = 0.0,
    unpainted: Sequence[str] = (),  # words that change the prompt and not the picture
) -> str:
    """Write a run folder and return its path."""
    model = model or PaintModel(size=48)
    plan = make_plan(subjects, styles, num_seeds, axes, params, model, sweep, parent_ids, prompt)
    root.parent.mkdir(parents=True, exist_ok=True)
    options = StoreOptions(embed_images=embed_images, reuse=False)
    with open_store(
        RunPaths(str(root)), plan, options, record=RunRecord(argv=("seeds=2",))
    ) as store:
        for request in store.pending(model.name):
            result = _result(request, model.size, fails_on, unseen, grain, unpainted)
            store.add(finish(result, Numerics(model.device, model.dtype)))
    return str(root)


def make_plan(
    subjects: Sequence[str] = SUBJECTS,
    styles: Sequence[str] = STYLES,
    num_seeds: int = 2,
    axes: Mapping[str, Sequence[Scalar]] | None = None,
    params: Mapping[str, Scalar] | None = None,
    model: PaintModel | None = None,
    sweep: str = "foxes",
    parent_ids: Sequence[str] = (),
    prompt: str = "{subject}, {style}",
) -> Plan:
    """Return the plan of a run: subjects × styles × seeds, and any further axes."""
    model = model or PaintModel(size=48)
    axes = dict(axes or {})
    params = {**DEFAULTS, **(params or {})}
    cells = tuple(
        _cells(subjects, styles, range(num_seeds), axes, params, model, tuple(parent_ids), prompt)
    )
    spanned = {"subject": subjects, "style": styles, **axes, "seed": range(num_seeds)}
    return Plan(
        sweep=sweep,
        sweep_id=identity.hash_id([sweep, [cell.cell_id for cell in cells]]),
        axes=tuple(Axis(name, tuple(v)) for name, v in spanned.items() if len(v) > 1),
        cells=cells,
        models={model.name: PlannedModel.of(model)},
    )


def _cells(
    subjects: Sequence[str],
    styles: Sequence[str],
    seeds: Sequence[int],
    axes: Mapping[str, Sequence[Scalar]],
    params: Mapping[str, Scalar],
    model: PaintModel,
    parent_ids: tuple[str, ...],
    prompt: str,
) -> Iterator[Cell]:
    """Yield a cell for every combination, in the order of a sweep."""
    number = itertools.count()
    for subject, style in itertools.product(subjects, styles):
        for values in itertools.product(*axes.values()):
            further = dict(zip(axes, values, strict=True))
            cell_params = {**params, **{k: v for k, v in further.items() if k in params}}
            extra = {k: v for k, v in further.items() if k not in params}
            text = prompt.format(subject=subject, style=style) + "".join(
                f", {value}" for value in extra.values()
            )
            yield Cell(
                cell_id=identity.hash_id([subject, style, further, params, model.fingerprint]),
                arm_id=identity.hash_id([style, further, params]),
                job_id=next(number),
                subject=subject,
                style=style,
                template="plain",
                prompt=text,
                model=model.name,
                model_key=model.name,
                params=cell_params,
                axes=further,
                seeds=tuple(seeds),
                parent_ids=parent_ids,
            )


def _result(
    request: Request,
    size: int,
    fails_on: str,
    unseen: str,
    grain: float,
    unpainted: Sequence[str],
) -> Result:
    if fails_on and fails_on in request.prompt:
        return Result(request, error=f"ValueError: {fails_on[:40]} cannot be painted")
    seconds = 0.5 + (request.seed % 7) / 10
    prompt = request.prompt
    for word in unpainted:
        prompt = prompt.replace(word, "")
    pixels = paint(replace(request, prompt=prompt), size, grain)
    return Result(request, pixels, seconds=seconds, batch_size=4, unseen=unseen)


def paint(request: Request, size: int, grain: float = 0.0) -> np.ndarray:
    """Return a soft picture of a ball, colored by the request: uint8 [size, size, 3]."""
    digest = identity.hash_id([request.prompt, request.seed, dict(request.params)])
    ground, light, ball, place = np.array_split(
        np.frombuffer(bytes.fromhex(digest * 2), np.uint8), 4
    )
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    slope = (y[..., None] + 1) / 2
    picture = ground[:3] * (1 - slope) + light[:3] * slope
    center = (place[:2].astype(np.float32) / 255 - 0.5) * 0.8
    distance = np.sqrt((x - center[0]) ** 2 + (y - center[1]) ** 2)
    inside = np.clip((0.55 - distance) * 12, 0, 1)[..., None]
    shade = 1.15 - 0.6 * distance[..., None]
    picture = picture * (1 - inside) + ball[:3] * shade * inside
    if grain:  # as hard to compress as a photograph
        noise = np.random.default_rng(int(digest, 16)).normal(0, grain, (size, size, 1))
        picture = picture + noise.astype(np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def write_scores(root: str, scores: Mapping[str, float], name: str = "agreement") -> None:
    """Write scores.parquet: one numeric column, joined by image_id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image_id": list(scores), name: list(scores.values())})
    pq.write_table(table, RunPaths(root).scores_parquet)
