"""`promptlab queue`: what `promptlab serve` draws and will draw; add, cancel and move entries.

Writes the queue's file, so no server need run: an entry waits until one does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ConfigError, PromptlabError

if TYPE_CHECKING:
    from promptlab.serve.entries import Entry
    from promptlab.serve.queue import Queue

NUM_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "add", "cancel", "move"),
        help="list (default); add ARGS… as of `promptlab sweep`; cancel N; move N [--before M]",
    )
    parser.add_argument("entry", nargs="?", type=int, metavar="N", help="number of an entry")
    parser.add_argument(
        "--before", type=int, metavar="M", help="move before this entry (default: behind all)"
    )
    parser.add_argument("--runs-dir", default="runs", help="the folder that the server serves")


def run(args: argparse.Namespace) -> int:
    """Print the queue or change an entry; return the exit code."""
    queue = _open(args.runs_dir)
    if args.action == "list":
        for line in describe(queue.entries(NUM_SHOWN)):
            print(line)
        return 0
    if args.entry is None:
        raise ConfigError(f"promptlab queue {args.action}: expected the number of an entry.")
    if queue.get(args.entry) is None:
        raise PromptlabError(f"There is no entry {args.entry}. `promptlab queue` lists them.")
    if args.action == "cancel":
        if not queue.cancel(args.entry):
            raise PromptlabError(f"Entry {args.entry} has ended already.")
        print(f"Entry {args.entry} is cancelled; what it has drawn is kept.")
    elif not queue.move(args.entry, args.before):
        raise PromptlabError("Only entries that wait can be moved, among each other.")
    return 0


def add(arguments: Sequence[str]) -> int:
    """Queue a command line of `promptlab sweep`, as it stands; return the exit code.

    The server runs it in its own working directory. Its `runs_dir` names the queue.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: promptlab queue add ARGS…   with ARGS as of promptlab sweep, runs_dir=… too")
        return 0 if arguments else 2
    if "--plan" in arguments:
        raise ConfigError("--plan draws nothing: promptlab sweep --plan … prints it at once.")
    given = [a.partition("=")[2] for a in arguments if a.startswith("runs_dir=")]
    entry = _open(given[-1].strip("'\"") if given else "runs").add(list(arguments))
    print(f"Entry {entry.entry_id} waits.")
    return 0


def describe(entries: Sequence[Entry]) -> list[str]:
    """Return one line an entry."""
    from promptlab.serve.wishes import line_of

    if not entries:
        return ["The queue is empty. promptlab queue add subject='a fox' adds to it."]
    lines = []
    for entry in entries:
        total = entry.num_images if entry.num_pending is None else entry.num_pending
        count = f"{entry.num_drawn}/{'?' if total is None else total}"
        shown = line_of(entry.argv).removeprefix("promptlab sweep ")
        error = f"  ({entry.error.splitlines()[0]})" if entry.error else ""
        lines.append(f"{entry.entry_id:>5}  {entry.status:<9}  {count:>9}  {shown}{error}")
    return lines


def _open(runs_dir: str) -> Queue:
    from promptlab.serve.queue import QUEUE_PATH, Queue

    if "://" in runs_dir:
        raise ConfigError(f"{runs_dir}: expected a local folder; the queue is a file in it.")
    return Queue(Path(runs_dir) / QUEUE_PATH)
