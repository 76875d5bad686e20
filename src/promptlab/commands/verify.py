"""`promptlab verify`: draw a sample of a run again and compare pixels and files."""

from __future__ import annotations

import argparse
import random
from typing import TYPE_CHECKING

from promptlab.errors import ParameterError, StoreError

if TYPE_CHECKING:
    from promptlab.flow.verification import Verification

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
    verified = verify(found, sample, args.runs_dir)
    for image_id, problem in verified.problems:
        print(f"{image_id}: {problem}")
    print(describe(verified, len(sample)))
    return EXIT_DIFFERENT if verified.problems else 0


def describe(verified: Verification, num_images: int) -> str:
    """Return in one or two lines how many images came out the same."""
    if verified.unpromised:
        names = ", ".join(sorted(verified.unpromised))
        return f"{names} promises no equal pixels: only the files of its images were checked."
    num_near = len(verified.levels)
    num_bad = len({image_id for image_id, _ in verified.problems} | verified.levels.keys())
    text = f"{num_images - num_bad} of {num_images} images are bit for bit the same."
    if num_near:
        text += (
            f"\n{num_near} {'was' if num_near == 1 else 'were'} drawn on another kind of "
            f"processor: at most {max(verified.levels.values())} of 255 levels apart."
        )
    return text
