"""Icons to pixels: every subject in every style on white, in one array on disk.

Takes subjects with SVG documents; returns `Pictures` (uint8 pixels with subject and style numbers
and the held-out mark), cached in one .npz. Does not know about captions, tokens or models.

    python -m training.rasterize            draw and cache it
    python -m training.rasterize --pack     write its packed form as well
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from training.folders import DATA_DIR
from training.packed import pack, packed_path, read_packed
from training.pictures import Pictures
from training.sources import style_names
from training.subjects import Subject, load_subjects

IMAGE_SIZE_PX = 160
MARGIN_PX = 5  # white all round, so that shifts and turns do not cut anything off
HELD_OUT_SHARE = 0.05
HELD_OUT_SEED = 20261122


def rasterize_svg(
    svg: str, size_px: int = IMAGE_SIZE_PX, margin_px: int = MARGIN_PX
) -> NDArray[np.uint8]:
    """Draw one SVG document centered on a white square: uint8 [size_px, size_px, 3]."""
    inner_px = size_px - 2 * margin_px
    png = resvg_py.svg_to_bytes(svg_string=svg, width=inner_px, skip_system_fonts=True)
    drawing = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    if drawing.height > inner_px:
        drawing = drawing.resize((inner_px * drawing.width // drawing.height, inner_px))
    canvas = Image.new("RGBA", (size_px, size_px), "white")
    corner = ((size_px - drawing.width) // 2, (size_px - drawing.height) // 2)
    canvas.alpha_composite(drawing, corner)
    return np.asarray(canvas.convert("RGB"))


def choose_held_out(
    subject: NDArray[np.int64], share: float = HELD_OUT_SHARE, seed: int = HELD_OUT_SEED
) -> NDArray[np.bool_]:
    """Mark pairs that training never sees: at most one a subject, so the rest shows the subject."""
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(subject), dtype=bool)
    taken: set[int] = set()
    for index in rng.permutation(len(subject)):
        if held_out.sum() >= share * len(subject):
            break
        if int(subject[index]) not in taken:
            held_out[index] = True
            taken.add(int(subject[index]))
    return held_out


def rasterize(subjects: Sequence[Subject], size_px: int = IMAGE_SIZE_PX) -> Pictures:
    """Draw every icon of every subject; blank drawings are left out."""
    pixels, subject_numbers, style_numbers = [], [], []
    start, styles = time.monotonic(), style_names()
    for number, subject in enumerate(subjects):
        for style in sorted(subject.icons, key=styles.index):
            picture = rasterize_svg(subject.icons[style], size_px)
            if picture.min() > 250:
                print(f"blank, left out: {subject.name} in {style}", flush=True)
                continue
            pixels.append(picture)
            subject_numbers.append(number)
            style_numbers.append(styles.index(style))
        if number % 200 == 0:
            print(
                f"{number}/{len(subjects)} subjects, {time.monotonic() - start:.0f} s", flush=True
            )
    subject_array = np.array(subject_numbers)
    return Pictures(
        np.stack(pixels),
        subject_array,
        np.array(style_numbers),
        choose_held_out(subject_array),
        tuple(subject.name for subject in subjects),
        tuple(subject.aliases for subject in subjects),
    )


def cache_path() -> Path:
    """Where the data set is cached."""
    return DATA_DIR / f"pictures_{IMAGE_SIZE_PX}px.npz"


def load_pictures(path: Path | None = None) -> Pictures:
    """Read the cached data set, or its packed form, or build it."""
    path = path or cache_path()
    if not path.exists() and packed_path(path).exists():
        return read_packed(packed_path(path))
    if not path.exists():
        pictures = rasterize(load_subjects())
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp.npz")
        np.savez(aside, pixels=pictures.pixels, **pictures.describe())
        aside.replace(path)
    with np.load(path) as arrays:
        return Pictures.from_arrays(arrays["pixels"], arrays)


def main() -> None:
    """Cache the data set, and pack it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", action="store_true")
    options = parser.parse_args()
    pictures = load_pictures()
    held_out = int(pictures.is_held_out.sum())
    print(f"{len(pictures)} images, {len(pictures.subjects)} subjects, {held_out} held out")
    if options.pack:
        path = packed_path(cache_path())
        pack(pictures, path)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
