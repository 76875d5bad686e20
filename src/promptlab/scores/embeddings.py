"""Vectors of images, kept beside the run that holds them and computed once.

Takes a run and an embedder; returns vectors by image_id, from
`embeddings/<embedder>.parquet` (image_id, vector: a fixed-size list of float16) as far as it has
them. Knows no scorer.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from promptlab.scores.protocol import Embedder
from promptlab.store import Run
from promptlab.store.lock import wait_for_lock
from promptlab.store.storage import open_storage

FINGERPRINT_KEY = b"promptlab.fingerprint"
BATCH = 32  # images in memory at once
NUM_LOOKS = 10  # at the parts of a run that is being written
LOCK_PATIENCE_S = 30.0  # for another one who writes vectors of the same run


def embed_run(
    run: Run, embedder: Embedder, progress: Callable[[int], object] = lambda count: None
) -> dict[str, np.ndarray]:
    """Return the vector of every image of a run that can be read, computing those that lack."""
    path = run.paths.join("embeddings", f"{embedder.name}.parquet")
    storage = open_storage(run.paths.root)
    storage.make_folder(run.paths.join("embeddings"))
    wanted = set(drawn_ids(run))
    with wait_for_lock(f"{path}.lock", LOCK_PATIENCE_S):
        try:
            known = _read(storage.read_bytes(path), embedder.fingerprint)
        except FileNotFoundError:
            known = {}
        missing = wanted - known.keys()
        if missing:
            embedder.load()
            for batch in batches(read_pixels(run, missing)):
                vectors = embedder.embed([pixels for _, pixels in batch]).astype(np.float16)
                known |= zip([image_id for image_id, _ in batch], vectors, strict=True)
                progress(len(batch))
            embedder.unload()
            storage.write_files({path: _write(known, embedder.fingerprint)})
    return {image_id: known[image_id] for image_id in known if image_id in wanted}


def drawn_ids(run: Run) -> list[str]:
    """Return the images of a run, each once, in the order of drawing."""
    table = run.table(["image_id", "sha256"])
    pairs = zip(table["image_id"].to_pylist(), table["sha256"].to_pylist(), strict=True)
    return list(dict.fromkeys(image_id for image_id, sha256 in pairs if sha256 is not None))


def read_pixels(run: Run, image_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (image_id, uint8 [height, width, 3]) of the images that can be read.

    Parts that the run's writer merges meanwhile are looked for again.
    """
    from PIL import Image

    open_ids = set(image_ids)
    for _ in range(NUM_LOOKS):
        try:
            for image_id, png in run.iter_images(set(open_ids)):
                open_ids.discard(image_id)
                try:
                    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
                except (OSError, SyntaxError):  # `promptlab verify` names damaged files
                    continue
                yield image_id, pixels
            return
        except FileNotFoundError:
            run.refresh()


def batches(
    images: Iterable[tuple[str, np.ndarray]], size: int = BATCH
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Yield images in lists of `size`."""
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(data: bytes, fingerprint: str) -> dict[str, np.ndarray]:
    """Return a file's vectors; none if another fingerprint made them."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    if (table.schema.metadata or {}).get(FINGERPRINT_KEY, b"").decode() != fingerprint:
        return {}
    column = table["vector"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)
    return dict(zip(table["image_id"].to_pylist(), vectors, strict=True))


def _write(known: Mapping[str, np.ndarray], fingerprint: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = np.stack(list(known.values()))
    flat = pa.array(vectors.ravel(), pa.float16())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = pa.table({"image_id": pa.array(list(known), pa.string()), "vector": column})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({FINGERPRINT_KEY: fingerprint}), buffer)
    return buffer.getvalue()
