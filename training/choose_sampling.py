"""Choose the sampling defaults: draw a few trained pairs with each, and ask the judge.

Takes a model folder and the judges; prints a table. Asks for a random sample of trained pairs of
its own, and for no held-out ones: what the model is judged by must not choose how it draws.

    python -m training.choose_sampling --temperatures 0.2,0.4 --factors 2,4
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptlab.models.dalle import open_folder
from training.evaluate import draw, score, trial_of
from training.folders import PACKAGE_DIR, RUNS_DIR
from training.judge import load_judges
from training.pictures import Pictures
from training.rasterize import load_pictures

SAMPLE_SEED = 31


def trained_pairs(pictures: Pictures, limit: int) -> NDArray[np.int64]:
    """A random sample of trained pairs (seeded), at most one a subject."""
    rows = np.random.default_rng(SAMPLE_SEED).permutation(np.flatnonzero(~pictures.is_held_out))
    _, first = np.unique(pictures.subject[rows], return_index=True)
    return np.sort(rows[np.sort(first)[:limit]])


def numbers(text: str) -> list[float]:
    """Read "0.2,0.4"."""
    return [float(part) for part in text.split(",")]


def main() -> None:
    """Read the command line, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--temperatures", type=numbers, default=[0.2, 0.4, 0.6])
    parser.add_argument("--top-ks", type=numbers, default=[32])
    parser.add_argument("--factors", type=numbers, default=[2, 4, 6])
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--folder", type=Path, default=PACKAGE_DIR)
    parser.add_argument("--runs", type=Path, default=RUNS_DIR)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    pictures, judges = load_pictures(), load_judges(options.runs)
    trial = trial_of(pictures, trained_pairs(pictures, options.pairs))
    model = open_folder(str(options.folder), device=options.device, dtype="float32")
    model.load()
    print("| temperature | top-k | factor | subject top-1 | top-5 | style |")
    print("|---|---|---|---|---|---|")
    for temperature, top_k, factor in itertools.product(
        options.temperatures, options.top_ks, options.factors
    ):
        params = {
            "temperature": temperature,
            "top_k": int(top_k),
            "supercondition_factor": factor,
        }
        found = score(draw(model, trial.prompts, params, [0] * len(trial.prompts)), trial, judges)
        shares = (found["subject_top1"], found["subject_top5"], found["style"])
        cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
        print(f"| {temperature} | {top_k:.0f} | {factor} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
