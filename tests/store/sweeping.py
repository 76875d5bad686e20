"""Drawing a plan into a run folder, and what must then hold; for store and tracking."""

import contextlib
import hashlib
import io
import os

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from promptlab import engine
from promptlab.finishing import finish, finishing
from promptlab.records import Numerics, Result
from promptlab.run_record import RunRecord
from promptlab.store import StoreOptions, open_store, read_run
from tests.store.painting import paint

NUMERICS = Numerics("cpu", "float32")
NO_RECORD = RunRecord()


def drawn(request, pixels=None, **result):
    """Return the finished image of a request, by default the one that the painter draws."""
    if pixels is None and "error" not in result:
        pixels = paint(request.image_id)
    return finish(Result(request, pixels, **result), NUMERICS)


def draw_plan(paths, plan, listeners=(), record=NO_RECORD, **options):
    """Draw what is pending of a plan; return the closed store."""
    options = StoreOptions(**options)
    with (
        open_store(paths, plan, options, record=record, listeners=listeners) as store,
        finishing(store.add) as take,
    ):
        for model_key, planned in plan.models.items():
            for result in engine.draw_all(planned.model, store.pending(model_key)):
                take(result, NUMERICS)
    return store


def draw_and_stop(paths, plan, num_images=None, **options):
    """Draw a plan's images and end as Ctrl-C does: all on disk, nothing compacted."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_store(paths, plan, StoreOptions(**options)) as store,
    ):
        for request in store.pending("painter")[:num_images]:
            store.add(drawn(request))
        raise KeyboardInterrupt


def parts_of(paths):
    """Return the names of a run's parts, in order of writing."""
    return sorted(name for name in os.listdir(paths.images_parquet) if name.startswith("part-"))


def damage(paths, part_name, column, row_group=0):
    """Flip the last byte of a column's pages in one row group."""
    path = f"{paths.images_parquet}/{part_name}"
    group = pq.ParquetFile(path).metadata.row_group(row_group)
    chunks = [group.column(number) for number in range(group.num_columns)]
    (chunk,) = [chunk for chunk in chunks if chunk.path_in_schema == column]
    end = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size
    with open(path, "r+b") as file:
        file.seek(end - 1)
        (byte,) = file.read(1)
        file.seek(end - 1)
        file.write(bytes([byte ^ 255]))


def pixels_of(png):
    """Return the pixels of PNG bytes."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def check_whole(run_folder, plan):
    """Assert that a run folder holds each request of the plan once, its files whole and right."""
    run = read_run(run_folder)
    rows = run.rows()
    asked = {(cell.cell_id, seed) for cell in plan.cells for seed in cell.seeds}
    keys = [(row["cell_id"], row["seed"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert set(keys) == asked
    images = dict(run.iter_images())
    for row in rows:
        if row["status"] == "failed":
            assert row["path"] is None
            assert row["error"]
            continue
        with open(run.paths.join(row["path"]), "rb") as file:
            from_file = file.read()
        assert from_file == images[row["image_id"]]
        assert hashlib.sha256(pixels_of(from_file).tobytes()).hexdigest() == row["sha256"]
    return rows


def essence(rows):
    """Return what must be equal in two runs of one plan, whenever and however they were drawn."""
    names = (
        "cell_id",
        "seed",
        "image_id",
        "status",
        "sha256",
        "prompt",
        "params",
        "arm_id",
        "path",
    )
    return sorted(tuple(row[name] for name in names) for row in rows)
