"""`promptlab pick`: judge an image, take in the picks of a contact sheet, or list them.

Writes picks.parquet of the run that holds the image, brings the run's page and MLflow up to it.
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

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="IMAGE_ID | RUN",
        help="images by id, or its beginning; with --import, --list or --export: run folders "
        "(default: the newest)",
    )
    parser.add_argument("--runs-dir", default="runs", help="where images and runs are looked for")
    verdict = parser.add_argument_group("verdict")
    verdict.add_argument("--rating", type=int, choices=range(1, 6), help="1 to 5")
    verdict.add_argument("--favourite", "--favorite", action="store_true", help="mark it")
    verdict.add_argument("--reject", action="store_true", help="mark it as no good")
    verdict.add_argument("--note", help="a remark")
    verdict.add_argument("--clear", action="store_true", help="take every verdict on it back")
    verdict.add_argument("--who", default=picks.default_who(), help="who judges (default: you)")
    many = parser.add_mutually_exclusive_group()
    many.add_argument(
        "--import", dest="import_path", metavar="PICKS.JSON", help="take in a page's picks"
    )
    many.add_argument("--list", action="store_true", help="print the current picks")
    many.add_argument("--export", action="store_true", help="print them as picks.json")
    parser.add_argument("--no-report", action="store_true", help="leave the contact sheet as it is")
    parser.add_argument("--no-sync", action="store_true", help="leave MLflow as it is")


def run(args: argparse.Namespace) -> int:
    """Do what was asked and say what changed."""
    if args.import_path:
        return _import(args)
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
    _bring_up_to_date(touched, args)
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
    roots = _roots(args)
    try:
        text = sys.stdin.read() if args.import_path == "-" else _read(args.import_path)
    except OSError as error:
        raise ReportError(f"{args.import_path} cannot be read: {error.strerror}.") from error
    given = picks.picks_from_json(text, args.who)
    strangers = {pick.image_id for pick in given}
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
    _bring_up_to_date(roots, args)
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return ""  # no text: refused as no picks.json


def _image_ids(root: str) -> set[str]:
    from promptlab.store import read_run

    return set(read_run(root).table(["image_id"])["image_id"].to_pylist())


def _roots(args: argparse.Namespace) -> list[str]:
    from promptlab.store import newest_run

    return args.targets or [newest_run(args.runs_dir)]


def _print_picks(args: argparse.Namespace) -> int:
    current = [pick for root in _roots(args) for pick in picks.current_picks(root).values()]
    if args.export:
        print(json.dumps(json.loads(picks.picks_to_json(current)), indent=1))
        return 0
    for pick in current:
        note = f"  {pick.note[:60]!r}" if pick.note else ""
        print(f"{pick.image_id}  {pick.picked_at[:16]}  {pick.who}  {describe(pick)}{note}")
    if not current:
        print("No picks yet.")
    return 0


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


def _bring_up_to_date(roots: Iterable[str], args: argparse.Namespace) -> None:
    """Bring pages and MLflow up to the picks; these are safe already, so problems are warnings."""
    for root in dict.fromkeys(roots):
        for name, bring in (("the page", _report), ("MLflow", _sync)):
            if getattr(args, f"no_{bring.__name__.strip('_')}"):
                continue
            try:
                bring(root)
            except PromptlabError as error:
                log.warning("The picks are kept, but %s is not up to date: %s", name, error)


def _report(root: str) -> None:
    from promptlab.report import write_contact_sheet

    write_contact_sheet(root)


def _sync(root: str) -> None:
    """Bring MLflow up to the run, if it ever held it."""
    from promptlab.paths import RunPaths
    from promptlab.store import read_run
    from promptlab.store.storage import open_storage
    from promptlab.tracking import options_of_run, sync
    from promptlab.tracking.marks import MARKER_FILE

    if open_storage(root).modified_at(RunPaths(root).join(MARKER_FILE)) is not None:
        run = read_run(root)
        sync(root, options_of_run(run.paths, run.record))
