"""Panning against a fixed number of seeds, at equal numbers of images.

Takes a run with many seeds a cell and one of its scores; replays both: what would have been drawn
next is there already. Prints the mean best score of both, and their difference with its interval.

    promptlab sweep +sweeps=subject_x_style seeds=24 tracking=null
    promptlab score --with tiny_subject
    python -m benchmarks.panning RUN --score tiny_subject
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict

import numpy as np

from promptlab.paths import RunPaths
from promptlab.planning.seeds import FIRST_SEEDS
from promptlab.scores.panning import Until, choose_round
from promptlab.store import read_run
from promptlab.verdicts import read_scores


def read_cells(root: str, name: str) -> np.ndarray:
    """Return the scores [cell, seed] of a run whose cells have equally many."""
    rows = read_run(root).rows(["image_id", "cell_id", "seed"])
    scores = read_scores([RunPaths(root).scores_parquet], [row["image_id"] for row in rows])
    (score,) = [score for score in scores if score.name == name]
    cells: defaultdict[str, list[float]] = defaultdict(list)
    for row, value in zip(rows, score.values, strict=True):
        if value is not None:
            cells[row["cell_id"]].append(value)
    longest = max(map(len, cells.values()))
    return np.array([values for values in cells.values() if len(values) == longest])


def pan(scores: np.ndarray, until: Until, num_images: int) -> float:
    """Return the mean best score of cells [cell, seed] after panning with so many images."""
    num_drawn = np.full(len(scores), min(FIRST_SEEDS, scores.shape[1]))
    while True:
        # A cell whose seeds are all drawn cannot get more here; it could in a sweep.
        known = {
            str(cell): scores[cell, :count].tolist()
            for cell, count in enumerate(num_drawn)
            if count < scores.shape[1]
        }
        chosen = choose_round(known, until, num_images - int(num_drawn.sum()))
        if not chosen:
            break
        for cell, count in chosen.items():
            num_drawn[int(cell)] = min(num_drawn[int(cell)] + count, scores.shape[1])
    return float(np.mean([row[:count].max() for row, count in zip(scores, num_drawn, strict=True)]))


def compare(
    scores: np.ndarray, threshold: float, seeds_a_cell: int, num_resampled: int, num_orders: int = 8
) -> dict[str, float]:
    """Return mean best scores, and the expected difference with its interval of 95 %.

    The interval comes from resampling cells; for each choice of cells, the difference is the mean
    over several orders of their seeds. `wins` is the share of single replays that panning wins.
    """
    until = Until("score", True, threshold, None)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(num_resampled):
        cells = scores[rng.integers(len(scores), size=len(scores))]
        for _ in range(num_orders):
            cells = rng.permuted(cells, axis=1)
            panned = pan(cells, until, seeds_a_cell * len(cells))
            found.append((panned, float(cells[:, :seeds_a_cell].max(1).mean())))
    both = np.array(found).reshape(num_resampled, num_orders, 2)
    apart = both[:, :, 0] - both[:, :, 1]
    low, high = np.quantile(apart.mean(1), (0.025, 0.975)).tolist()
    return {
        "seeds_a_cell": seeds_a_cell,
        "fixed": float(both[:, :, 1].mean()),
        "panned": float(both[:, :, 0].mean()),
        "difference": float(apart.mean()),
        "low": low,
        "high": high,
        "wins": float((apart > 0).mean()),
    }


def main() -> None:
    """Read the command line and print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--score", default="tiny_subject")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--replays", type=int, default=200)
    options = parser.parse_args()
    scores = read_cells(options.run, options.score)
    print(f"{scores.shape[0]} cells, up to {scores.shape[1]} seeds, {options.score}")
    print("| images a cell | fixed number | panned | difference | wins |\n|---|---|---|---|---|")
    found = []
    for seeds_a_cell in (4, 6, 8):
        one = compare(scores, options.threshold, seeds_a_cell, options.replays)
        found.append(one)
        print(
            f"| {seeds_a_cell} | {one['fixed']:.3f} | {one['panned']:.3f} | "
            f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) | "
            f"{one['wins']:.0%} |"
        )
    print(json.dumps({"run": options.run, "score": options.score, "results": found}))


if __name__ == "__main__":
    main()
