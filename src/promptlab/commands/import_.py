"""`promptlab import FOLDER`: make a run of images that other tools drew.

Reads the folder's images and what they say of themselves; writes a run folder. Changes no original.
"""

from __future__ import annotations

import argparse

from promptlab.flow.summary import count

SHOWN = 10  # files that were left out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder of images, sub-folders included")
    parser.add_argument("--runs-dir", default="runs", help="where the run folder goes")
    parser.add_argument("--name", help="the sweep's name (default: the folder's)")


def run(args: argparse.Namespace) -> int:
    """Import the folder and print what came of it."""
    from promptlab.flow.importing import import_folder

    done = import_folder(args.folder, args.runs_dir, args.name)
    known = f", {done.num_known:,} already here" if done.num_known else ""
    print(f"{count(done.num_new, 'image')} imported{known} → {done.paths.root}")
    for tool, number in sorted(done.tools.items()):
        print(
            f"  {count(number, 'file')} of {tool or 'no known tool: prompt and seed are unknown'}"
        )
    if done.copies:
        print(f"  {count(len(done.copies), 'file')} left out: the same picture as another one")
    for path, problem in [*done.problems.items()][:SHOWN]:
        print(f"  left out: {path}: {problem}")
    if len(done.problems) > SHOWN:
        print(f"  … {len(done.problems) - SHOWN:,} more left out; imported.csv has all")
    print(f"Contact sheet:  {done.paths.index_html}")
    return 0
