"""`promptlab pick`: judge an image, import the picks of a contact sheet, list or copy them.

Writes picks.parquet of the run that holds the image, brings the run's page and MLflow up to date.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from promptlab.errors import PromptlabError, ReportError
from promptlab.verdicts import picks
from promptlab.verdicts.picks import Pick
from promptlab.verdicts.picks_file import find_picks_file, runs_of_picks

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="IMAGE_ID | RUN",
        help="images by id, or its beginning; else run folders (default with --list: all; with "
        "--import: those that the file is about; with --export and --copy: the newest)",
    )
    parser.add_argument("--runs-dir", default="runs", help="where images and runs are looked for")
    verdict = parser.add_argument_group("verdict")
    verdict.add_argument("--rating", type=int, choices=range(1, 6), help="1 to 5")
    verdict.add_argument("--favourite", "--favorite", action="store_true", help="mark it")
    verdict.add_argument("--reject", action="store_true", help="reject it")
    verdict.add_argument("--note", help="a remark")
    verdict.add_argument("--clear", action="store_true", help="take every verdict on it back")
    verdict.add_argument("--who", default=picks.default_who(), help="who judges (default: you)")
    many = parser.add_mutually_exclusive_group()
    many.add_argument(
        "--import",
        dest="import_path",
        nargs="?",
        const="",
        metavar="PICKS.JSON",
        help="take in a page's picks, from here or from the downloads (default: the newest there)",
    )
    many.add_argument("--list", action="store_true", help="print the current picks")
    many.add_argument("--export", action="store_true", help="print them as picks.json")
    many.add_argument("--copy", metavar="FOLDER", help="copy the picked PNG files into a folder")
    parser.add_argument("--no-report", action="store_true", help="do not update the contact sheet")
    parser.add_argument("--no-sync", action="store_true", help="do not update MLflow")


def run(args: argparse.Namespace) -> int:
    """Do what was asked and say what changed."""
    if args.import_path is not None:
        return _import(args)
    if args.copy:
        return _copy(args)
    if args.list or args.export:
        return _print_picks(args)
    if not args.targets:
        raise ReportError(
            "Name an image and a verdict (promptlab pick IMAGE_ID --rating 5), or --import "
            "picks.json, or --list."
        )
    return _judge(args)


def _judge(args: argparse.Namespace) -> int:
    from promptlab.store import find_image

    has_verdict = args.rating or args.favourite or args.reject or args.note is not None
    if not (has_verdict or args.clear):
        raise ReportError("Give a verdict: --rating 1…5, --favourite, --reject, --note or --clear.")
    if args.reject and (args.favourite or args.rating):
        raise ReportError("An image is a reject, or it has a rating or is a favourite; not both.")
    touched = []
    for target in args.targets:
        found, row = find_image(target, args.runs_dir)
        root = found.paths.root
        said = picks.newest_by_person(picks.read_picks(root)).get(row["image_id"], [])
        mine = next((pick for pick in said if pick.who == args.who), None)
        pick = _changed(mine if mine and not args.clear else Pick(row["image_id"]), args)
        picks.record_picks(root, [pick])
        touched.append(root)
        print(f"{pick.image_id}  {describe(pick)}  {row['prompt'][:80]!r}")
    bring_up_to_date(touched, args)
    return 0


def _changed(pick: Pick, args: argparse.Namespace) -> Pick:
    """Return a person's verdict with what the arguments change; the rest of it stays."""
    return dataclasses.replace(
        pick,
        rating=args.rating or (None if args.reject else pick.rating),
        is_favourite=args.favourite or (pick.is_favourite and not args.reject),
        is_reject=args.reject or (pick.is_reject and not (args.favourite or args.rating)),
        note=pick.note if args.note is None else args.note,
        who=args.who,
        picked_at=picks.now_utc(),
    )


def _import(args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.import_path == "-" else _read(args.import_path)
    given = picks.picks_from_json(text, args.who)
    strangers = {pick.image_id for pick in given}
    roots = args.targets or runs_of_picks(text, strangers, args.runs_dir)
    num_new = 0
    for root in roots:
        held = _image_ids(root)
        num_new += picks.record_picks(root, (pick for pick in given if pick.image_id in held))
        strangers -= held
    if strangers and len(strangers) == len({pick.image_id for pick in given}):
        raise ReportError(
            f"None of the {len(strangers)} picked images is in {', '.join(roots)}: name the run "
            "that the contact sheet shows (promptlab pick --import picks.json RUN)."
        )
    if strangers:
        log.warning("%d picked images are in none of the runs: left out.", len(strangers))
    print(f"{num_new} new of {len(given)} picks in {', '.join(roots)}")
    bring_up_to_date(roots, args)
    return 0


def _copy(args: argparse.Namespace) -> int:
    """Copy the picked images, bytes and metadata as they are."""
    from promptlab.store import read_run

    folder = Path(args.copy)
    num_copied = 0
    for root in _roots(args):
        run = read_run(root)
        picked = {i for i, pick in picks.current_picks(root).items() if pick.is_pick()}
        path_from_id = {row["image_id"]: row["path"] for row in run.rows(["image_id", "path"])}
        for image_id, content in run.iter_images(sorted(picked)):
            name = Path(path_from_id.get(image_id) or f"{image_id}.png").name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            except OSError as error:
                raise ReportError(f"{folder / name} cannot be written: {error}") from error
            num_copied += 1
        print(f"{len(picked)} picks of {root}")
    print(f"{num_copied} images in {folder}" if num_copied else "No picks yet: nothing is copied.")
    return 0


def _read(name: str) -> str:
    path = find_picks_file(name)
    if str(path) != name:
        print(f"Taking {path}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return ""  # no text: refused as no picks.json
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}.") from error


def _image_ids(root: str) -> set[str]:
    from promptlab.store import read_run

    return set(read_run(root).table(["image_id"])["image_id"].to_pylist())


def _roots(args: argparse.Namespace) -> list[str]:
    from promptlab.store import newest_run

    return args.targets or [newest_run(args.runs_dir)]


def _print_picks(args: argparse.Namespace) -> int:
    if args.export:
        current = [pick for root in _roots(args) for pick in picks.current_picks(root).values()]
        print(json.dumps(json.loads(picks.picks_to_json(current)), indent=1))
        return 0
    from promptlab.store import list_runs

    num_listed = 0
    for root in args.targets or reversed(list_runs(args.runs_dir)):
        num_listed += _list_run(root)
    if not num_listed:
        where = ", ".join(args.targets) or f"the runs below {args.runs_dir}"
        print(f"No verdicts yet in {where}.")
    return 0


def _list_run(root: str) -> int:
    """Print a run's verdicts, each with the words of its prompt; return how many."""
    from promptlab.store import read_run

    current = picks.current_picks(root)
    if not current:
        return 0
    rows = read_run(root).rows(["image_id", "prompt", "seed"])
    words = {row["image_id"]: f"{row['prompt'][:60]!r} seed {row['seed']}" for row in rows}
    print(root)
    for pick in current.values():
        note = f"  {pick.note[:60]!r}" if pick.note else ""
        who = f"  {pick.who}" if pick.who else ""
        what = words.get(pick.image_id, "an image that the run no longer holds")
        print(f"  {pick.image_id}  {pick.picked_at[:16]}{who}  {describe(pick)}  {what}{note}")
    return len(current)


def describe(pick: Pick) -> str:
    """Return a verdict in words: "favourite, 5 of 5"."""
    words = []
    if pick.is_favourite:
        words.append("favourite")
    if pick.is_reject:
        words.append("reject")
    if pick.rating is not None:
        words.append(f"{pick.rating} of 5")
    if pick.note and not words:
        words.append("note")
    return ", ".join(words) or "cleared"


def bring_up_to_date(roots: Iterable[str], args: argparse.Namespace, what: str = "picks") -> None:
    """Bring pages and MLflow up to date; what is new is safe already: problems are warnings."""
    for root in dict.fromkeys(roots):
        for name, bring in (("the page", _report), ("MLflow", _sync)):
            if getattr(args, f"no_{bring.__name__.strip('_')}"):
                continue
            try:
                bring(root)
            except PromptlabError as error:
                log.warning("The %s are kept, but %s is not up to date: %s", what, name, error)


def _report(root: str) -> None:
    from promptlab.report import write_contact_sheet

    write_contact_sheet(root)


def _sync(root: str) -> None:
    """Bring MLflow up to date with the run, if MLflow ever held it."""
    from promptlab.paths import RunPaths
    from promptlab.store import read_run
    from promptlab.store.storage import open_storage
    from promptlab.tracking import options_of_run, sync
    from promptlab.tracking.marks import MARKER_FILE

    if open_storage(root).modified_at(RunPaths(root).join(MARKER_FILE)) is not None:
        run = read_run(root)
        sync(root, options_of_run(run.paths, run.record))
