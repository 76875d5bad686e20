"""Images in the layout of MLflow's `log_image`: each PNG and the small WebP that its charts show.

Takes encoded images by their stem, leaves both files of each in a folder: aside, or at once where
MLflow keeps a run's artifacts, if that is on this machine. Knows no run and no row.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def local_folder(artifact_uri: str) -> Path | None:
    """Return the folder of a run's artifacts if MLflow's client writes them to one itself."""
    if urlsplit(artifact_uri).scheme not in ("", "file"):
        return None
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    return Path(LocalArtifactRepository(artifact_uri).artifact_dir)


def write_images(
    folder: Path, png_from_stem: Mapping[str, bytes], thumbnail_px: int, num_threads: int
) -> None:
    """Write each image before its small one: who finds both has both whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with _mapper(num_threads) as map_:
        small = map_(lambda png: shrink(png, thumbnail_px), png_from_stem.values())
        for (stem, png), webp in zip(png_from_stem.items(), small, strict=True):
            name = stem.removeprefix("images/")
            Path(folder, f"{name}.png").write_bytes(png)
            Path(folder, f"{name}+compressed.webp").write_bytes(webp)


@contextlib.contextmanager
def _mapper(num_threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Return `map`, over threads if there are several: Pillow leaves Python's lock."""
    if num_threads == 1:
        yield map
    else:
        with ThreadPoolExecutor(num_threads) as threads:
            yield threads.map


def shrink(png: bytes, longest_px: int) -> bytes:
    """Return the small WebP that MLflow's charts show at its own size."""
    from PIL import Image

    image: Any = Image.open(io.BytesIO(png))
    scale = longest_px / max(image.size)
    if scale < 1:  # MLflow enlarges small ones itself; here that would cost twice the time
        width, height = (max(1, int(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)  # 2/3 of bicubic's time
    buffer = io.BytesIO()
    image.save(buffer, "webp", method=0)  # half the time of the default for a fifth more bytes
    return buffer.getvalue()
