"""Turn pictures into image tokens once, plain and in many changed versions.

Takes the pictures and the frozen image encoder; leaves `shards/NNN.npz`, each with one version of
every training picture: tokens and the change that its caption must name. Shard 0 holds the
pictures as they are, including the held-out ones for measuring. The transformer's training picks
up shards as they appear, so this runs beside it.

    python -m training.tokenize_images --shards 13
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.augment import (
    BACKGROUNDS,
    COLOR_WORDS,
    recolor,
    repeat_side_by_side,
    set_background,
    warp,
)
from training.captions import NUMBER_WORDS, Change
from training.folders import RUNS_DIR
from training.pictures import Pictures
from training.pixel_model import DetokenizerSize, ImageEncoder, quantize
from training.rasterize import load_pictures
from training.train_tokenizer import read_batch

CHANGE_SHARES = {
    "jitter": 0.58,
    "color": 0.17,
    "background": 0.10,
    "small": 0.03,
    "huge": 0.02,
    "mirrored": 0.04,
    "tilted": 0.02,
    "upside_down": 0.01,
    "count": 0.03,
}


@dataclass(frozen=True)
class Shard:
    """One version of many pictures."""

    row: NDArray[np.int64]  # [version], index into the pictures
    tokens: NDArray[np.int64]  # [version, token]
    changes: tuple[Change, ...]

    def save(self, path: Path) -> None:
        """Write aside, then rename."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp.npz")
        changes = np.array([f"{change.kind}:{change.value}" for change in self.changes])
        np.savez(aside, row=self.row, tokens=self.tokens.astype(np.uint16), changes=changes)
        os.replace(aside, path)

    @classmethod
    def load(cls, path: Path) -> Shard:
        """Read one shard."""
        with np.load(path) as arrays:
            changes = tuple(Change(*text.split(":")) for text in arrays["changes"].tolist())
            return cls(arrays["row"], arrays["tokens"].astype(np.int64), changes)


def draw_changes(count: int, rng: np.random.Generator) -> list[Change]:
    """Choose a change for each of `count` pictures."""
    kinds = rng.choice(list(CHANGE_SHARES), count, p=list(CHANGE_SHARES.values()))
    changes = []
    for kind in kinds.tolist():
        value = ""
        if kind == "color":
            value = str(rng.choice(list(COLOR_WORDS)))
        elif kind == "background":
            value = str(rng.choice(list(BACKGROUNDS)))
        elif kind == "count":
            value = NUMBER_WORDS[int(rng.integers(2, 5))]
        changes.append(Change(kind, value))
    return changes


def apply_changes(pixels: Tensor, changes: list[Change], rng: np.random.Generator) -> Tensor:
    """Change a batch of pictures [image, 3, row, column] as their captions will say."""
    pixels = pixels.clone()
    number_from_word = {word: number for number, word in NUMBER_WORDS.items()}
    count = len(changes)
    scale, turn_deg, shift = [1.0] * count, [0.0] * count, np.zeros((count, 2))
    for index, change in enumerate(changes):
        if change.kind == "color":
            pixels[index] = recolor(pixels[index], change.value)
        elif change.kind == "count":
            pixels[index] = repeat_side_by_side(pixels[index], number_from_word[change.value])
        elif change.kind == "jitter":
            scale[index] = rng.uniform(0.88, 1.04)
            turn_deg[index] = rng.normal(0, 4)
            shift[index] = rng.uniform(-0.04, 0.04, 2)
        elif change.kind == "small":
            scale[index] = rng.uniform(0.5, 0.6)
        elif change.kind == "huge":
            scale[index] = rng.uniform(1.3, 1.45)
        elif change.kind == "mirrored":
            scale[index] = -1.0
        elif change.kind == "tilted":
            turn_deg[index] = rng.choice([-1, 1]) * rng.uniform(20, 30)
        elif change.kind == "upside_down":
            turn_deg[index] = 180.0
    moved = [i for i in range(count) if scale[i] != 1 or turn_deg[i] != 0 or shift[i].any()]
    if moved:
        pixels[moved] = warp(
            pixels[moved],
            [scale[i] for i in moved],
            [turn_deg[i] for i in moved],
            shift[moved].tolist(),
        )
    for index, change in enumerate(changes):
        if change.kind == "background":
            pixels[index] = set_background(pixels[index], change.value)
    return pixels


def load_encoder(path: Path, device: str) -> tuple[ImageEncoder, DetokenizerSize]:
    """Read the frozen image encoder."""
    saved = torch.load(path, map_location=device)
    size = DetokenizerSize.of_grid(saved["size"]["image_grid"])
    encoder = ImageEncoder(size)
    encoder.load_state_dict(saved["encoder"])
    encoder = encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder.eval(), size


@torch.no_grad()
def encode(encoder: ImageEncoder, size: DetokenizerSize, pixels: Tensor) -> NDArray[np.int64]:
    """Pictures in 0..1 to tokens [image, token]."""
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        _, tokens = quantize(encoder(pixels), size.levels)
    return tokens.cpu().numpy()


def make_shard(
    pictures: Pictures, encoder: ImageEncoder, size: DetokenizerSize, number: int, device: str
) -> Shard:
    """Tokenize one version of every picture; the same number gives the same shard."""
    rng = np.random.default_rng((2, number))
    if number == 0:
        rows = np.arange(len(pictures))
        changes = [Change()] * len(rows)
    else:
        rows = np.flatnonzero(~pictures.is_held_out)
        changes = draw_changes(len(rows), rng)
    tokens = []
    for start in range(0, len(rows), 64):
        part = slice(start, start + 64)
        pixels = read_batch(pictures, rows[part], size.image_size_px, device)
        if number:
            pixels = apply_changes(pixels, changes[part], rng)
        tokens.append(encode(encoder, size, pixels))
    return Shard(rows, np.concatenate(tokens), tuple(changes))


def main() -> None:
    """Read the command line and write the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=13)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    pictures = load_pictures()
    encoder, size = load_encoder(options.out / "tokenizer.pt", options.device)
    for number in range(options.shards):
        path = options.out / "shards" / f"{number:03d}.npz"
        if not path.exists():
            start = time.monotonic()
            make_shard(pictures, encoder, size, number, options.device).save(path)
            print(f"shard {number}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
