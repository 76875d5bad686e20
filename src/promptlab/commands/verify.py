"""`promptlab verify`: draw a sample of a run again and compare pixels and files."""

from __future__ import annotations

import argparse
import random

from promptlab.errors import ParameterError, StoreError

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
    """Draw the sample again and print what differs; the exit code is 1 if anything does."""
    from promptlab.flow.verification import verify
    from promptlab.store import newest_run, read_run

    if args.sample < 1:
        raise ParameterError(f"--sample {args.sample}: expected at least 1 image.")
    found = read_run(args.folder or newest_run(args.runs_dir))
    rows = [row for row in found.rows() if row["status"] != "failed"]
    if not rows:
        raise StoreError(f"{found.paths.root} holds no image to verify.")
    sample = random.Random(args.seed).sample(rows, min(args.sample, len(rows)))
    problems = verify(found, sample, args.runs_dir).problems
    for image_id, problem in problems:
        print(f"{image_id}: {problem}")
    num_bad = len({image_id for image_id, _ in problems})
    print(f"{len(sample) - num_bad} of {len(sample)} images are bit for bit the same.")
    return EXIT_DIFFERENT if problems else 0
