"""`promptlab verify`: draw a sample of a run again and compare pixels and files."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.errors import ParameterError, StoreError

if TYPE_CHECKING:
    from promptlab.store import Run

EXIT_DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "folder", nargs="?", metavar="RUN", help="a run folder (default: the newest)"
    )
    parser.add_argument("--sample", type=int, default=20, help="images to draw (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the sample (default: 0)")
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")


def run(args: argparse.Namespace) -> int:
    """Draw the sample, say what differs; the exit code is 1 if anything does."""
    from promptlab.store import newest_run, read_run

    if args.sample < 1:
        raise ParameterError(f"--sample {args.sample}: expected at least 1 image.")
    found = read_run(args.folder or newest_run(args.runs_dir))
    rows = [row for row in found.rows() if row["status"] != "failed"]
    if not rows:
        raise StoreError(f"{found.paths.root} holds no image to verify.")
    sample = random.Random(args.seed).sample(rows, min(args.sample, len(rows)))
    problems = [*check_files(found, sample), *redraw_and_compare(found, sample)]
    for problem in problems:
        print(problem)
    num_bad = len({problem.partition(":")[0] for problem in problems})
    print(f"{len(sample) - num_bad} of {len(sample)} images are bit for bit the same.")
    return EXIT_DIFFERENT if problems else 0


def check_files(run: Run, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with the stored PNGs of some rows."""
    import hashlib
    import io

    from PIL import Image

    problems = []
    for row in rows:
        png = run.image_bytes(row["image_id"])
        if png is None:
            problems.append(f"{row['image_id']}: its PNG is gone")
            continue
        try:
            pixels = Image.open(io.BytesIO(png)).convert("RGB").tobytes()
        except (OSError, SyntaxError) as error:
            problems.append(f"{row['image_id']}: its PNG cannot be read ({error})")
            continue
        if hashlib.sha256(pixels).hexdigest() != row["sha256"]:
            problems.append(f"{row['image_id']}: its PNG holds other pixels than were drawn")
    return problems


def redraw_and_compare(run: Run, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which rows come out otherwise when they are drawn again."""
    import hashlib
    import json

    import numpy as np

    from promptlab.engine import draw
    from promptlab.records import Request

    row_from_id = {row["image_id"]: row for row in rows}
    problems = []
    for (name, fingerprint), model in _open_models(run, rows).items():
        requests = [
            Request(image_id, row["prompt"], row["seed"], json.loads(row["params"]))
            for image_id, row in row_from_id.items()
            if (row["model"], row["model_fingerprint"]) == (name, fingerprint)
        ]
        for result in draw(model, requests):
            row = row_from_id[result.request.image_id]
            if result.pixels is None:
                problems.append(f"{row['image_id']}: cannot be drawn again: {result.error}")
                continue
            pixels = np.ascontiguousarray(result.pixels)
            if hashlib.sha256(pixels.data).hexdigest() != row["sha256"]:
                where = f"on {model.device} in {model.dtype}"
                problems.append(
                    f"{row['image_id']}: comes out otherwise {where}, was drawn on "
                    f"{row['device']} in {row['dtype']}: seed {row['seed']}, {row['prompt'][:50]!r}"
                )
    return problems


def _open_models(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    from promptlab.models.registry import open_model

    nodes = run.meta.get("models_config", {})
    models = {}
    for key, described in run.meta.get("models", {}).items():
        identity = (described["name"], described["fingerprint"])
        if identity not in {(row["model"], row["model_fingerprint"]) for row in rows}:
            continue
        model = open_model(nodes.get(key))
        if model.fingerprint != described["fingerprint"]:
            raise StoreError(
                f"The weights of {described['name']} have changed: expected the fingerprint "
                f"{described['fingerprint']}, got {model.fingerprint}. This run cannot be verified "
                "with them."
            )
        models[identity] = model
    if not models:
        raise StoreError(f"{run.paths.sweep_yaml} does not say which models drew this run.")
    return models
