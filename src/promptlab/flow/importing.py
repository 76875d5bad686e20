"""Importing: a folder of images that other tools drew becomes a run.

Takes a folder, leaves a run folder with copies of its images as PNG, their rows and a contact
sheet; the originals are only read. The same folder again adds what is new. Draws nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from promptlab import identity
from promptlab.atomic import write_files
from promptlab.configs.settings import Settings
from promptlab.errors import ReportError
from promptlab.flow.foreign import SUFFIXES, Origin, read_image
from promptlab.flow.provenance import versions
from promptlab.flow.runs import choose_run_folder
from promptlab.machine import usable_cores
from promptlab.models.imported import ImportedModel
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan, PlannedModel, axes_of_cells
from promptlab.png import compress, hash_pixels
from promptlab.records import IMPORTED, Cell, Drawn, ImageFacts, Scalar
from promptlab.report import write_contact_sheet
from promptlab.run_record import RunRecord
from promptlab.store import StoreOptions, open_store

MAX_AXIS_VALUES = 50  # a parameter with more values is no axis, but stays among the parameters


@dataclass(frozen=True, slots=True)
class ForeignImage:
    """One file that can be imported."""

    path: Path
    origin: Origin
    sha256: str  # of the pixels
    width: int  # px
    height: int  # px


@dataclass(slots=True)
class Imported:
    """What came of an import."""

    paths: RunPaths
    num_new: int = 0
    num_known: int = 0  # images that the run held before
    copies: dict[Path, Path] = field(default_factory=dict)  # file -> the equal one that counts
    problems: dict[Path, str] = field(default_factory=dict)  # file -> why it was left out
    tools: dict[str, int] = field(default_factory=dict)  # tool ("" unknown) -> number of files


def import_folder(folder: str, runs_dir: str = "runs", name: str | None = None) -> Imported:
    """Make a run of the images below a folder, or add to the run that it has become before.

    An image without a seed gets the next free number of its prompt and parameters. Raises
    ReportError if the folder holds no image.
    """
    root = Path(folder)
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
    )
    if not files:
        raise ReportError(
            f"{folder} holds no image: expected a folder with {', '.join(sorted(SUFFIXES))} files."
        )
    problems: dict[Path, str] = {}
    images = list(_look_at(files, problems))
    copies: dict[Path, Path] = {}
    plan, requests = _plan(root, name or root.resolve().name, images, copies)
    chosen = choose_run_folder(plan, Settings(name=plan.sweep, runs_dir=runs_dir))
    done = Imported(chosen.paths, copies=copies, problems=problems)
    for image in images:
        done.tools[image.origin.tool] = done.tools.get(image.origin.tool, 0) + 1
    record = RunRecord(
        command=("promptlab", "import", folder),
        models_config={key: planned.node for key, planned in plan.models.items()},
        versions=versions(),
    )
    with open_store(chosen.paths, plan, StoreOptions(reuse=False), record=record) as store:
        done.num_known = store.num_done
        pending = {r.image_id for key in plan.models for r in store.pending(key)}
        for path, (cell, seed) in requests.items():
            request = plan.request(cell, seed)
            if request.image_id in pending:
                pixels, _ = read_image(path)
                store.add(Drawn(request, _facts(path, pixels), compress(pixels)))
                done.num_new += 1
    _write_list(done, root, {p: plan.request(*found).image_id for p, found in requests.items()})
    if done.num_new:
        write_contact_sheet(chosen.paths.root)
    return done


def _look_at(files: Iterable[Path], problems: dict[Path, str]) -> Iterator[ForeignImage]:
    """Yield what each file says of itself; files that cannot be read are problems."""

    def look(path: Path) -> ForeignImage | str:
        try:
            pixels, origin = read_image(path)
        except ValueError as error:
            return str(error)
        height, width = pixels.shape[:2]
        return ForeignImage(path, origin, hash_pixels(pixels), width, height)

    files = list(files)
    with ThreadPoolExecutor(usable_cores(), "promptlab-import") as pool:
        for path, found in zip(files, pool.map(look, files), strict=True):
            if isinstance(found, str):
                problems[path] = found
            else:
                yield found


def _plan(
    root: Path, name: str, images: Iterable[ForeignImage], copies: dict[Path, Path]
) -> tuple[Plan, dict[Path, tuple[Cell, int]]]:
    """Return the plan of imported images, and the cell and seed of each file."""
    images = list(images)
    axes = _axis_names(images)
    models: dict[str, PlannedModel] = {}
    cells: dict[str, Cell] = {}
    seeds: dict[str, dict[int, ForeignImage]] = {}
    place: dict[Path, tuple[str, int]] = {}
    for image in sorted(images, key=lambda image: image.origin.seed is None):
        origin, number = image.origin, 1
        while True:
            params = {**origin.params, **({"copy": number} if number > 1 else {})}
            cell = _cell(image, params, axes)
            known = seeds.setdefault(cell.cell_id, {})
            seed = _next_free(known) if origin.seed is None else origin.seed
            equal = next((k for k, v in known.items() if v.sha256 == image.sha256), None)
            if equal is not None:  # the same picture of the same cell
                copies[image.path] = known[equal].path
                break
            if seed not in known:
                known[seed] = image
                cells[cell.cell_id] = cell
                models.setdefault(cell.model_key, _planned_model(image))
                place[image.path] = (cell.cell_id, seed)
                break
            number += 1  # another picture with the same seed: another copy of the cell
    whole = {
        cell_id: dataclasses.replace(cell, seeds=tuple(seeds[cell_id]))
        for cell_id, cell in cells.items()
    }
    plan = Plan(
        sweep=name,
        sweep_id=identity.hash_id({"imported": str(root.resolve()), "name": name}),
        axes=axes_of_cells(list(whole.values())),
        cells=tuple(whole.values()),
        models=models,
    )
    return plan, {path: (whole[cell_id], seed) for path, (cell_id, seed) in place.items()}


def _axis_names(images: Iterable[ForeignImage]) -> tuple[str, ...]:
    """Return the parameters that vary over few values: the sheet's axes."""
    images = list(images)
    names = dict.fromkeys(name for image in images for name in image.origin.params)
    varying = []
    for name in names:
        values = {image.origin.params.get(name) for image in images}
        if 1 < len(values) <= MAX_AXIS_VALUES:
            varying.append(name)
    return tuple(varying)


def _cell(image: ForeignImage, params: dict[str, Scalar], axes: Iterable[str]) -> Cell:
    origin = image.origin
    arm = {"model": _model_key(origin), "params": params}
    return Cell(
        cell_id=identity.hash_id({**arm, "prompt": origin.prompt}),
        arm_id=identity.hash_id(arm),
        job_id=0,
        subject=origin.prompt,
        style="none",
        template="plain",
        prompt=origin.prompt,
        model=origin.model,
        model_key=_model_key(origin),
        params=params,
        axes={name: params.get(name) for name in axes},
        seeds=(),
    )


def _model_key(origin: Origin) -> str:
    return f"{origin.model}-{_fingerprint(origin)}"


def _fingerprint(origin: Origin) -> str:
    return identity.hash_id({"imported": origin.model, "hash": origin.model_hash})


def _planned_model(image: ForeignImage) -> PlannedModel:
    model = ImportedModel(image.origin.model, _fingerprint(image.origin), image.width, image.height)
    node = {
        "_target_": "promptlab.models.imported.ImportedModel",
        "name": model.name,
        "fingerprint": model.fingerprint,
        "width": model.width,
        "height": model.height,
    }
    return PlannedModel.of(model, IMPORTED, node)


def _next_free(known: Iterable[int]) -> int:
    taken = set(known)
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _facts(path: Path, pixels: np.ndarray) -> ImageFacts:
    height, width = pixels.shape[:2]
    return ImageFacts(
        status="ok",
        width=width,
        height=height,
        sha256=hash_pixels(pixels),
        seconds=0.0,
        batch_size=1,
        device=IMPORTED,
        dtype="unknown",
        created_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
    )


def _write_list(done: Imported, root: Path, ids: dict[Path, str]) -> None:
    """Write imported.csv into the run folder: what became of every file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file", "image_id", "left_out_because"])
    for path in sorted({*ids, *done.copies, *done.problems}):
        reason = done.problems.get(path, "")
        if path in done.copies:
            reason = f"the same picture as {done.copies[path].relative_to(root)}"
        writer.writerow([path.relative_to(root).as_posix(), ids.get(path, ""), reason])
    if "://" not in done.paths.root:
        target = done.paths.join("imported.csv")
        data = text.getvalue().encode("utf-8", "replace")
        write_files({target: data}, is_durable=False)
