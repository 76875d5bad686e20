"""`promptlab score [RUN …]`: give images scores, say what they are worth, renew page and MLflow.

Writes scores.parquet and scores_summary.parquet of each run. Draws nothing.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.commands.pick import bring_up_to_date
from promptlab.configs.vocabulary import find_options, opening_comment

if TYPE_CHECKING:
    from promptlab.scores.scoring import Tally

CSV_COLUMNS = ("image_id", "subject", "style", "template", "model", "seed", "prompt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders (default: the newest)")
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")
    parser.add_argument(
        "--with",
        dest="scorers",
        nargs="+",
        metavar="NAME",
        help="scorers, or all that need nothing else (all); default: what fits the run's models",
    )
    parser.add_argument("--list", action="store_true", help="list the scorers")
    parser.add_argument(
        "--retry-failed", action="store_true", help="score images again on which a scorer failed"
    )
    parser.add_argument(
        "--words",
        metavar="A,B,…",
        help="bias audit: which of these words the images are nearest to",
    )
    parser.add_argument(
        "--eye", metavar="NAME", help="what sees the words: tiny, or a CLIP scorer (default: fits)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write the runs' images and scores as CSV")
    parser.add_argument("--no-report", action="store_true", help="leave the contact sheet as it is")
    parser.add_argument("--no-sync", action="store_true", help="leave MLflow as it is")


def run(args: argparse.Namespace) -> int:
    """Score the runs and print what each scorer did."""
    if args.list:
        for option in find_options("scorer").values():
            print(
                f"{option.name:<14}{'(yours) ' if option.is_own else ''}{opening_comment(option)}"
            )
        return 0
    from tqdm import tqdm

    from promptlab.scores.bias import audit, describe_audit
    from promptlab.scores.registry import (
        default_embedder,
        default_scorers,
        open_embedder,
        open_scorers,
    )
    from promptlab.scores.scoring import score_run
    from promptlab.scores.summary import describe_summary, write_summary
    from promptlab.store import newest_run, read_run

    has_failed = False
    roots = args.runs or [newest_run(args.runs_dir)]
    for root in roots:
        models = set(read_run(root).table(["model"])["model"].to_pylist())
        scorers = open_scorers(args.scorers or default_scorers(models))
        with tqdm(unit="image", disable=None, leave=False) as progress:
            tallies = score_run(
                root, scorers, retry_failed=args.retry_failed, progress=progress.update
            )
        print(root)
        for tally in tallies:
            print(f"  {describe(tally)}")
        found = []
        if args.words:
            eye = open_embedder(args.eye or default_embedder(models))
            words = [word.strip() for word in args.words.split(",") if word.strip()]
            found = audit(read_run(root), eye, words)
        rows = write_summary(root, found)
        print("\n".join([*describe_summary(rows), *describe_audit(found)]))
        has_failed |= any(tally.num_failed for tally in tallies)
    bring_up_to_date(roots, args, "scores")
    if args.csv:
        _write_csv(roots, args.csv)
        print(args.csv)
    return 1 if has_failed else 0


def describe(tally: Tally) -> str:
    """Return in one line what a scorer did: "sharpness: 24 scored, 8 known"."""
    parts = [f"{tally.num_scored:,} scored"]
    if tally.num_known:
        parts.append(f"{tally.num_known:,} known")
    if tally.num_failed:
        parts.append(f"{tally.num_failed:,} failed ({tally.first_error})")
    cost_usd = getattr(tally.scorer, "cost_usd", None)  # of a judge whose prices are known
    if cost_usd is not None:
        parts.append(f"${cost_usd:.4f}")
    return f"{tally.scorer.name}: {', '.join(parts)}"


def _write_csv(roots: Sequence[str], path: str) -> None:
    """Write one line an image, one column a score."""
    from promptlab.atomic import replacing
    from promptlab.paths import RunPaths
    from promptlab.store import read_run
    from promptlab.verdicts import read_scores

    rows = [row for root in roots for row in read_run(root).rows([*CSV_COLUMNS, "sha256"])]
    rows = [row for row in rows if row.pop("sha256") is not None]
    files = [RunPaths(root).scores_parquet for root in roots]
    scores = read_scores(files, [row["image_id"] for row in rows])
    with (
        replacing(str(Path(path)), is_durable=False) as aside,
        open(aside, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*CSV_COLUMNS, *(score.name for score in scores)])
        for number, row in enumerate(rows):
            writer.writerow([*row.values(), *(score.values[number] for score in scores)])
