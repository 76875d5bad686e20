"""Judge the packaged model by what it draws: the table and the sheets of its model card.

Takes a model folder, drawn through promptlab's own engine, and the judge; leaves
`evaluation.json`, a Markdown table and sheets. Every figure counts single samples (seed 0) unless
it says otherwise.

    python -m training.evaluate
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from promptlab.models.dalle import DalleModel, open_folder
from promptlab.records import Request
from training.augment import COLOR_WORDS
from training.captions import standard_caption
from training.folders import PACKAGE_DIR, RUNS_DIR
from training.judge import Judges, ask, load_judges, rank_of
from training.pictures import Pictures
from training.pixel_model import mark_style
from training.rasterize import load_pictures
from training.sample import save_grid
from training.sources import STYLES
from training.tokenize_images import encode, load_encoder
from training.train_detokenizer import load_detokenizer
from training.train_tokenizer import read_batch

NUM_CANDIDATES = 8
SAMPLE_SEED = 9
# fmt: off
COLOR_SUBJECTS = (
    "fox", "cat", "dog", "octopus", "bus", "red apple", "rose", "red heart", "robot", "owl",
    "house", "umbrella", "fish", "butterfly", "frog",
)
# fmt: on
HUES_DEG = {"red": 0, "orange": 28, "yellow": 50, "green": 120, "blue": 215, "purple": 275}
SHEET_SUBJECTS = (
    "fox",
    "robot",
    "red apple",
    "octopus",
    "rocket",
    "pizza",
    "red heart",
    "house",
    "sunflower",
    "guitar",
    "owl",
    "airplane",
)


@dataclass(frozen=True)
class Extent:
    """How many pictures are drawn; random samples (seeded) where it is less than all."""

    trained: int = 10_000  # pairs, one a subject
    held_out: int = 10_000  # pairs
    best_cells: int = 100  # trained pairs drawn with eight seeds each


@dataclass(frozen=True)
class Trial:
    """Pictures asked for, by subject and style number."""

    prompts: tuple[str, ...]
    subject: NDArray[np.int64]
    style: NDArray[np.int64]


def draw(
    model: DalleModel, prompts: Sequence[str], params: Mapping[str, Any], seeds: Sequence[int]
) -> NDArray[np.uint8]:
    """Draw every prompt with its seed: uint8 [image, row, column, 3], in order."""
    requests = [
        Request(f"{index:016x}", prompt, seed, params)
        for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    pixels: dict[str, NDArray[np.uint8]] = {}
    for result in model.draw(requests):
        if result.pixels is None:
            raise RuntimeError(f"{result.request.prompt!r} failed: {result.error}")
        pixels[result.request.image_id] = result.pixels
    return np.stack([pixels[request.image_id] for request in requests])


def trial_of(pictures: Pictures, rows: NDArray[np.int64]) -> Trial:
    """The prompts of existing pairs."""
    subject, style = pictures.subject[rows], pictures.style[rows]
    prompts = tuple(
        standard_caption(pictures.subjects[s], STYLES[t])
        for s, t in zip(subject, style, strict=True)
    )
    return Trial(prompts, subject, style)


def one_pair_a_subject(pictures: Pictures, limit: int | None = None) -> NDArray[np.int64]:
    """One trained pair of every subject, its style chosen at random (seeded)."""
    rng = np.random.default_rng(SAMPLE_SEED)
    shuffled = rng.permutation(np.flatnonzero(~pictures.is_held_out))
    _, first = np.unique(pictures.subject[shuffled], return_index=True)
    rows = rng.permutation(shuffled[first])
    return np.sort(rows[:limit])


def held_out_pairs(pictures: Pictures, limit: int) -> NDArray[np.int64]:
    """The held-out pairs, or a random sample of them (seeded)."""
    rows = np.flatnonzero(pictures.is_held_out)
    return np.sort(np.random.default_rng(SAMPLE_SEED).permutation(rows)[:limit])


def score(pixels: NDArray[np.uint8], trial: Trial, judges: Judges) -> dict[str, float]:
    """Shares of pictures whose subject and style the judge names."""
    subject, style = ask(judges.subject, pixels), ask(judges.style, pixels)
    rank = rank_of(subject, trial.subject)
    return {
        "images": len(pixels),
        "subject_top1": float((rank == 0).mean()),
        "subject_top5": float((rank < 5).mean()),
        "style": float((rank_of(style, trial.style) == 0).mean()),
    }


def score_best(pixels: NDArray[np.uint8], trial: Trial, judges: Judges) -> dict[str, float]:
    """The same, taking of each cell's candidates the one whose subject the judge ranks best."""
    subject, style = ask(judges.subject, pixels), ask(judges.style, pixels)
    repeated = np.repeat(trial.subject, NUM_CANDIDATES)
    rank = rank_of(subject, repeated).reshape(-1, NUM_CANDIDATES)
    style_ok = rank_of(style, np.repeat(trial.style, NUM_CANDIDATES)).reshape(rank.shape) == 0
    best = rank.argmin(1)
    cells = np.arange(len(rank))
    return {
        "cells": len(rank),
        "single_top1": float((rank == 0).mean()),
        "single_top5": float((rank < 5).mean()),
        "best_top1": float((rank[cells, best] == 0).mean()),
        "best_top5": float((rank[cells, best] < 5).mean()),
        "best_style": float(style_ok[cells, best].mean()),
    }


def main_hue(pixels: NDArray[np.uint8]) -> str:
    """The color word for the hue that most of a picture's colored pixels have; "" if none has."""
    rgb = pixels.reshape(-1, 3).astype(np.float64) / 255
    value, least = rgb.max(1), rgb.min(1)
    saturation = (value - least) / np.maximum(value, 1e-6)
    colored = (saturation > 0.25) & (value > 0.2)
    if colored.mean() < 0.01:
        return ""
    chosen, top, span = rgb[colored], value[colored], (value - least)[colored]
    red, green, blue = chosen.T
    sector = np.where(
        top == red,
        (green - blue) / span % 6,
        np.where(top == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    angle = sector * 60
    pink = (angle > 312) & (angle < 350)
    distances = np.stack([np.abs((angle - hue + 180) % 360 - 180) for hue in HUES_DEG.values()], 1)
    names = np.array([*HUES_DEG])[distances.argmin(1)]
    names[pink] = "pink"
    weights = (span * top)[:, None]
    words = [*HUES_DEG, "pink"]
    return max(words, key=lambda word: float(weights[names == word].sum()))


def is_color(word: str, pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture's main hue has this name; light red counts as pink, too."""
    found = main_hue(pixels)
    return found == word or (word == "pink" and found == "red" and _is_light(pixels))


def _is_light(pixels: NDArray[np.uint8]) -> bool:
    rgb = pixels.reshape(-1, 3).astype(np.float64)
    colored = rgb.max(1) - rgb.min(1) > 40
    return bool(rgb[colored].min(1).mean() > 110)


def nearest_training_rows(
    pictures: Pictures, pixels: NDArray[np.uint8], size_px: int = 40
) -> NDArray[np.int64]:
    """For each picture the training picture with the least squared pixel difference."""
    rows = np.flatnonzero(~pictures.is_held_out)
    known = torch.cat(
        [read_batch(pictures, part, size_px).flatten(1) for part in np.array_split(rows, 40)]
    )
    drawn = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    drawn = torch.nn.functional.interpolate(drawn, (size_px, size_px), mode="area").flatten(1)
    return rows[torch.cdist(drawn, known).argmin(1).numpy()]


def redraw(pictures: NDArray[np.uint8], styles: NDArray[np.int64], runs: Path) -> NDArray[np.uint8]:
    """Real pictures [image, row, column, 3] turned into tokens and drawn from them again."""
    encoder, size = load_encoder(runs / "tokenizer.pt", "cpu")
    detokenizer = load_detokenizer(runs / "detokenizer.pt")
    drawn = []
    for start in range(0, len(pictures), 64):
        pixels = torch.from_numpy(pictures[start : start + 64]).permute(0, 3, 1, 2).float() / 255
        if pixels.shape[-1] != size.image_size_px:
            pixels = torch.nn.functional.interpolate(
                pixels, (size.image_size_px, size.image_size_px), mode="area"
            )
        with torch.no_grad():
            codes = torch.from_numpy(encode(encoder, size, pixels))
            tokens = mark_style(codes, torch.from_numpy(styles[start : start + 64]), size)
            pixels = detokenizer(tokens).clamp(0, 1)
        drawn.append((pixels.permute(0, 2, 3, 1) * 255).round().byte().numpy())
    return np.concatenate(drawn)


def evaluate(
    model: DalleModel, params: dict[str, Any], runs: Path, folder: Path, extent: Extent
) -> dict[str, Any]:
    """Measure everything, write the sheets, and return the figures."""
    pictures = load_pictures()
    judges = load_judges(runs)
    report: dict[str, Any] = {"params": params, "fingerprint": model.fingerprint}
    rows = np.flatnonzero(pictures.is_held_out)
    real, asked = pictures.pixels[rows], trial_of(pictures, rows)
    report["judge_on_real_held_out"] = score(real, asked, judges)
    if (runs / "tokenizer.pt").exists():
        report["judge_on_redrawn_held_out"] = score(redraw(real, asked.style, runs), asked, judges)

    trained = trial_of(pictures, one_pair_a_subject(pictures, extent.trained))
    start = time.monotonic()
    pixels = draw(model, trained.prompts, params, [0] * len(trained.prompts))
    report["images_per_s"] = len(pixels) / (time.monotonic() - start)
    report["trained_pairs"] = score(pixels, trained, judges)

    held_out_rows = held_out_pairs(pictures, extent.held_out)
    held_out = trial_of(pictures, held_out_rows)
    pixels = draw(model, held_out.prompts, params, [0] * len(held_out.prompts))
    report["held_out_pairs"] = score(pixels, held_out, judges)
    _save_nearest(pictures, held_out_rows[:32], pixels[:32], folder / "held_out.webp")

    few = trial_of(pictures, one_pair_a_subject(pictures, extent.best_cells))
    prompts = [prompt for prompt in few.prompts for _ in range(NUM_CANDIDATES)]
    seeds = list(range(NUM_CANDIDATES)) * len(few.prompts)
    report["best_of_8"] = score_best(draw(model, prompts, params, seeds), few, judges)

    pairs = [(color, subject) for subject in COLOR_SUBJECTS for color in COLOR_WORDS]
    prompts = [
        f"{color} {subject} in the style of {style}"
        for (color, subject), style in zip(
            pairs, ["noto", "twemoji", "fluent flat", "openmoji", "emojione"] * 99, strict=False
        )
    ]
    pixels = draw(model, prompts, params, [0] * len(prompts))
    right = [is_color(color, one) for (color, _), one in zip(pairs, pixels, strict=True)]
    report["color_words"] = {"images": len(right), "right": float(np.mean(right))}
    save_grid(pixels[:70], len(COLOR_WORDS), folder / "colors.webp")

    prompts = [standard_caption(name, style) for name in SHEET_SUBJECTS for style in STYLES]
    save_grid(draw(model, prompts, params, [0] * len(prompts)), len(STYLES), folder / "sheet.webp")
    return report


def _save_nearest(
    pictures: Pictures, rows: NDArray[np.int64], pixels: NDArray[np.uint8], path: Path
) -> None:
    """Write triples: drawn, the real picture that was held out, the nearest training picture."""
    nearest = nearest_training_rows(pictures, pixels)
    size_px = pixels.shape[1]
    cells = []
    for drawn, row, close in zip(pixels, rows, nearest, strict=True):
        for number in (row, close):
            real = Image.fromarray(pictures.pixels[number]).resize((size_px, size_px))
            cells.append(np.asarray(real))
        cells.insert(-2, drawn)
    save_grid(np.stack(cells), 12, path, 72)


def markdown_table(report: Mapping[str, Any]) -> str:
    """The figures beside the bars that the model is held to."""
    trained, held_out = report["trained_pairs"], report["held_out_pairs"]
    best, color = report["best_of_8"], report["color_words"]
    real = report["judge_on_real_held_out"]
    redrawn = report.get("judge_on_redrawn_held_out", {})
    rows = [
        ("style, trained pairs", trained["style"], "95 %"),
        (f"subject top-1, {trained['images']} trained pairs", trained["subject_top1"], "50 %"),
        ("subject top-5, the same", trained["subject_top5"], "80 %"),
        ("style, held-out pairs", held_out["style"], "90 %"),
        (f"subject top-1, {held_out['images']} held-out pairs", held_out["subject_top1"], ""),
        ("subject top-5, the same", held_out["subject_top5"], "60 %"),
        ("color words", color["right"], "80 %"),
        (f"subject top-1, single sample, {best['cells']} cells", best["single_top1"], ""),
        ("subject top-1, best of 8 of the same cells", best["best_top1"], ""),
        ("subject top-5, single sample", best["single_top5"], ""),
        ("subject top-5, best of 8", best["best_top5"], ""),
        ("judge itself on real held-out pairs: style", real["style"], ""),
        ("judge itself on real held-out pairs: subject top-1", real["subject_top1"], ""),
        ("judge itself on real held-out pairs: subject top-5", real["subject_top5"], ""),
    ]
    names = {"style": "style", "subject_top1": "subject top-1", "subject_top5": "subject top-5"}
    rows += [
        (f"judge on the same, drawn again from their tokens: {name}", redrawn[key], "")
        for key, name in names.items()
        if redrawn
    ]
    lines = ["| what | measured | bar |", "|---|---|---|"]
    lines += [f"| {what} | {100 * share:.1f} % | {bar} |" for what, share, bar in rows]
    return "\n".join(lines)


def main() -> None:
    """Read the command line and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=PACKAGE_DIR)
    parser.add_argument("--runs", type=Path, default=RUNS_DIR)
    parser.add_argument("--sheets", type=Path, default=Path(__file__).parent / "sheets")
    parser.add_argument("--trained", type=int, default=Extent.trained)
    parser.add_argument("--held-out", type=int, default=Extent.held_out)
    parser.add_argument("--best-cells", type=int, default=Extent.best_cells)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    extent = Extent(options.trained, options.held_out, options.best_cells)
    model = open_folder(str(options.folder), device=options.device, dtype="float32")
    params = {name: parameter.default for name, parameter in model.parameters.items()}
    model.load()
    options.sheets.mkdir(parents=True, exist_ok=True)
    report = evaluate(model, params, options.runs, options.sheets, extent)
    (options.sheets / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
    print(markdown_table(report))


if __name__ == "__main__":
    main()
