"""`promptlab taste [RUN …]`: learn from picks what the person likes, and score images by it.

Writes taste.json in the working directory, and scores of the named runs.
"""

from __future__ import annotations

import argparse

from promptlab.commands.pick import bring_up_to_date


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs with picks (default: newest)")
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")
    parser.add_argument(
        "--with",
        dest="embedder",
        metavar="NAME",
        help="whose vectors to read: tiny, measures, or a scorer with vectors (clip)",
    )
    parser.add_argument("--no-score", action="store_true", help="fit only")
    parser.add_argument("--no-report", action="store_true", help="leave the contact sheet as it is")
    parser.add_argument("--no-sync", action="store_true", help="leave MLflow as it is")


def run(args: argparse.Namespace) -> int:
    """Fit, say how good it is, and score."""
    from promptlab.scores.registry import default_embedder, open_embedder, open_scorer
    from promptlab.scores.scoring import score_run
    from promptlab.scores.taste import TASTE_FILE, fit_taste, write_taste
    from promptlab.store import newest_run, read_run

    roots = args.runs or [newest_run(args.runs_dir)]
    models = {m for root in roots for m in read_run(root).table(["model"])["model"].to_pylist()}
    name = args.embedder or default_embedder(models)
    taste = fit_taste(roots, open_embedder(name), name)
    write_taste(taste)
    interval = "" if taste.auc_low is None else f" ({taste.auc_low:.2f} to {taste.auc_high:.2f})"
    print(
        f"{TASTE_FILE}: fitted on {taste.num_judged} judged images, {taste.num_picked} of them "
        f"picked, by the vectors of {name}."
    )
    print(
        f"On cells left out it tells picked from other images with an AUC of {taste.auc:.2f}"
        f"{interval}; 0.5 is chance."
    )
    if taste.auc_low is None or taste.auc_low <= 0.5:
        print("That is not clearly better than chance: judge more images before you trust it.")
    if not args.no_score:
        for root in roots:
            score_run(root, [open_scorer("taste")])
        bring_up_to_date(roots, args, "scores")
        print(f"Sort by it: promptlab report {roots[0]} --sort taste")
    return 0
