"""`promptlab report [RUN …]`: build the contact sheet of one run, or of several on one page.

Reads run folders, writes pages and pictures. Draws nothing and talks to no server.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from promptlab.report import (
    ReportOptions,
    SheetFiles,
    publish,
    write_contact_sheet,
    write_standalone,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    defaults = ReportOptions()
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders (default: the newest)")
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="write here (default: the run's folder; of several runs, one below reports/)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--rows", metavar="AXIS", help="the axis shown as rows when the page opens")
    parser.add_argument(
        "--columns", metavar="AXIS", help="the axis shown as columns when the page opens"
    )
    parser.add_argument("--sort", metavar="SCORE", help="the score that orders candidates")
    parser.add_argument("--pdf", action="store_true", help="contact_sheet.pdf as well")
    parser.add_argument(
        "--best", action="store_true", help="copy the best image of each cell to best/"
    )
    parser.add_argument(
        "--animate", metavar="AXIS", help="contact_sheet.webp and .gif, a frame a value of AXIS"
    )
    parser.add_argument("--no-png", action="store_true", help="do not write contact_sheet.png")
    parser.add_argument(
        "--standalone", metavar="FILE", help="one HTML file with everything inside, to send"
    )
    parser.add_argument(
        "--publish", metavar="NAME", help="write reports/NAME/: one HTML file and the PNG"
    )
    parser.add_argument(
        "--single-file-mb",
        type=float,
        default=defaults.single_file_mb,
        metavar="MB",
        help="thumbnails inside index.html up to here, beside it above (default: %(default)g)",
    )
    parser.add_argument(
        "--thumbnail-px",
        type=int,
        default=defaults.thumbnail_px,
        metavar="PX",
        help="longest side of thumbnails (default: %(default)d)",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="how many (default: all CPUs)")
    parser.add_argument("--workers", type=int, dest="processes", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Build what was asked for and print the paths."""
    from promptlab.store import newest_run

    runs = args.runs or [newest_run(args.runs_dir)]
    options = ReportOptions(
        output=args.output,
        single_file_mb=args.single_file_mb,
        thumbnail_px=args.thumbnail_px,
        processes=args.processes,
        png=not args.no_png,
        pdf=args.pdf,
        best=args.best,
        animate=args.animate,
        rows=args.rows,
        columns=args.columns,
        sort=args.sort,
    )
    if args.standalone:
        written = write_standalone(runs, args.standalone, options)
        print(written or "Not written: too large for one file.")
        if written and args.open:
            _open(written)
        return 0 if written else 1
    files = publish(runs, args.publish, options) if args.publish else None
    files = files or write_contact_sheet(runs, options)
    _print(files)
    if args.open:
        _open(files.index_html)
    return 0


def _print(files: SheetFiles) -> None:
    """Print every file, but of the images in best/ only how many."""
    print(files.index_html)
    if files.contact_sheet_png:
        print(files.contact_sheet_png)
    best = [path for path in files.others if Path(path).parent.name == "best"]
    for path in files.others:
        if path not in best:
            print(path)
    if best:
        print(f"{Path(best[0]).parent}: {len(best)} image{'' if len(best) == 1 else 's'}")


def _open(path: str) -> None:
    import webbrowser

    url = path if "://" in path else Path(path).resolve().as_uri()
    if not webbrowser.open(url):
        print(f"No browser could be started: open {url}")
