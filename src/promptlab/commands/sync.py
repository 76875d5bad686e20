"""`promptlab sync`: bring MLflow up to the images of a run."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from promptlab.records import RunRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "folder", nargs="?", metavar="RUN", help="a run folder (default: the newest)"
    )
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")
    parser.add_argument(
        "--uri",
        help="MLflow's tracking URI (default: the sweep's own, else MLFLOW_TRACKING_URI, else "
        "./mlflow.db)",
    )


def run(args: argparse.Namespace) -> int:
    """Log what MLflow lacks; the second time nothing."""
    from tqdm import tqdm

    from promptlab.store import newest_run, read_run
    from promptlab.tracking import TrackingOptions, resolve_tracking_uri, sync

    folder = args.folder or newest_run(args.runs_dir)
    options = TrackingOptions(**recorded_options(read_run(folder).record))
    if args.uri is not None:
        options = dataclasses.replace(options, uri=args.uri)
    with tqdm(unit="image", disable=None, leave=False) as progress:
        report = sync(folder, options, progress=progress.update)
    print(
        f"{resolve_tracking_uri(options.uri)} holds {report.num_images} images of {folder} in "
        f"{report.num_runs} runs; {report.num_written} were missing."
    )
    return 0


def recorded_options(record: RunRecord) -> dict[str, Any]:
    """Return how the sweep itself was tracked: where and how laid out, so that a sync goes on."""
    tracking = record.config.get("tracking")
    if not isinstance(tracking, dict):
        return {}
    return {
        name: tracking[name] for name in ("uri", "image_axis", "log_images") if name in tracking
    }
