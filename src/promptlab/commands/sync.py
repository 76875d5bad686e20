"""`promptlab sync`: bring MLflow up to date with a run."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "folder", nargs="?", metavar="RUN", help="a run folder (default: the newest)"
    )
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")
    parser.add_argument(
        "--uri",
        help="MLflow's tracking URI (default: the store that the run was tracked in)",
    )
    parser.add_argument(
        "--restore", action="store_true", help="log again what was deleted in MLflow"
    )


def run(args: argparse.Namespace) -> int:
    """Log what MLflow lacks; the second time nothing."""
    from tqdm import tqdm

    from promptlab.redaction import redact_text
    from promptlab.store import newest_run, read_run
    from promptlab.tracking import options_of_run, resolve_tracking_uri, sync

    folder = args.folder or newest_run(args.runs_dir)
    run = read_run(folder)
    options = options_of_run(run.paths, run.record, args.uri)
    with tqdm(unit="image", disable=None, leave=False) as progress:
        report = sync(folder, options, progress=progress.update, restore=args.restore)
    store = redact_text(resolve_tracking_uri(options.uri))
    print(
        f"{store} holds {report.num_images} images of {folder} in {report.num_runs} runs; "
        f"{report.num_written} were missing."
    )
    return 0
