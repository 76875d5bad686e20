"""Which requests of a plan are open: neither in the run folder nor in an earlier run.

Takes a plan and the index of a run folder; says which images are open and which cells wait for
each. Writes nothing and locks nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.records import Cell, Request
from promptlab.store.index import RowIndex
from promptlab.store.parts import check_part, list_parts
from promptlab.store.reuse import FoundPart, find_images
from promptlab.store.runs import list_runs
from promptlab.store.speed import Drawer, seconds_per_image
from promptlab.store.storage import open_storage

Waiting = tuple[Cell, int]  # a cell and one of its seeds


@dataclass(frozen=True)
class StoreOptions:
    """How a run folder is written."""

    embed_images: bool = True  # PNG bytes in images.parquet as well as in images/
    reuse: bool = True  # take finished images from the earlier runs below runs_dir
    retry_failed: bool = False  # draw failed images again; the newer row takes the older's place
    runs_dir: str | None = None  # where earlier runs lie; None: the run folder's own folder
    part_rows: int = 100  # images acknowledged at once, at most
    flush_s: float = 5.0  # images of a slow model are acknowledged at least this often

    def __post_init__(self) -> None:
        if self.part_rows < 1 or not self.flush_s >= 0:
            raise StoreError(
                f"store.part_rows={self.part_rows}, store.flush_s={self.flush_s}: expected at "
                "least 1 row and 0 seconds."
            )


@dataclass(frozen=True, slots=True)
class Survey:
    """How much of a plan is drawn already."""

    num_done: int  # rows that stay as they are
    num_failed: int  # of these, failed ones
    num_reused: int  # images that earlier runs hold
    num_pending: int  # images to draw
    seconds_per_image: Mapping[str, float] = field(default_factory=dict)  # by model_key, if known


@dataclass(frozen=True)
class OpenRequests:
    """The requests of a plan that have no row to keep."""

    waiting: dict[str, list[Waiting]]  # by image_id: the cells that want this image
    requests: dict[str, dict[str, Request]]  # by model_key and image_id, in the plan's order
    num_done: int
    num_failed: int


def open_requests(plan: Plan, index: RowIndex, *, retry_failed: bool) -> OpenRequests:
    """Return the requests that have no row yet, or a failed one that is to be retried."""
    waiting: defaultdict[str, list[Waiting]] = defaultdict(list)
    requests: dict[str, dict[str, Request]] = {}
    num_done = num_failed = 0
    for model_key in plan.models:
        open_here = requests.setdefault(model_key, {})
        for cell, request in plan.requests(model_key):
            status = index.status((cell.cell_id, request.seed))
            if status is not None and not (status == "failed" and retry_failed):
                num_done += 1
                num_failed += status == "failed"
                continue
            if request.image_id not in waiting:
                open_here[request.image_id] = request
            waiting[request.image_id].append((cell, request.seed))
    return OpenRequests(dict(waiting), requests, num_done, num_failed)


def find_reusable(paths: RunPaths, options: StoreOptions, image_ids: set[str]) -> list[FoundPart]:
    """Find images in this run (another cell's) and, if wanted, in earlier ones."""
    if not image_ids:
        return []
    folders = [paths.root]
    if options.reuse:
        runs_dir = options.runs_dir or paths.root.rpartition("/")[0] or "."
        folders += list_runs(runs_dir)
    return find_images(image_ids, folders)


def survey(
    paths: RunPaths | None,
    plan: Plan,
    options: StoreOptions = StoreOptions(),
) -> Survey:
    """Say what `open_store` would find, writing and locking nothing.

    `paths` is the run folder that would be continued, None for a new one.
    """
    index = RowIndex()
    if paths is not None:
        storage = open_storage(paths.root)
        for part in list_parts(storage, paths.images_parquet).parts:
            if check_part(storage, part, with_images=False):
                index.read(storage, part)
    todo = open_requests(plan, index, retry_failed=options.retry_failed)
    where = paths or RunPaths(f"{options.runs_dir or 'runs'}/.new")
    found = find_reusable(where, options, set(todo.waiting))
    num_reused = sum(len(part.image_ids) for part in found)
    drawers = {
        key: Drawer(planned.model.name, planned.numerics.device, planned.numerics.dtype)
        for key, planned in plan.models.items()
    }
    speeds = seconds_per_image(drawers.values(), options.runs_dir or "runs")
    return Survey(
        todo.num_done,
        todo.num_failed,
        num_reused,
        len(todo.waiting) - num_reused,
        {key: speeds[drawer] for key, drawer in drawers.items() if drawer in speeds},
    )
