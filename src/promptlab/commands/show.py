"""`promptlab show`: all facts of an image, and the command that draws it again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("image_id", help="an image's id, or its beginning (it is in the file name)")
    parser.add_argument("--runs-dir", default="runs", help="where runs are looked for")
    parser.add_argument(
        "--command", action="store_true", help="print the command alone, to be run by a shell"
    )


def run(args: argparse.Namespace) -> int:
    """Print all facts of the image, and the command that draws it again."""
    from promptlab.planning.own_words import own_words
    from promptlab.planning.redraw import recorded_model, redraw_command
    from promptlab.store import find_image

    found, row = find_image(args.image_id, args.runs_dir)
    axes = {axis.name: row[axis.column] for axis in found.axes}
    model = recorded_model(found.record, row)
    command = redraw_command(row, model, own_words(row, axes))
    if args.command:
        print(command)
        return 0
    print("\n".join(describe(row, axes, found.paths.root)))
    is_exact = model is None or found.record.models[model.key].is_deterministic
    head = "Draw it again" if is_exact else "Draw another one, whose pixels may differ"
    print(f"\n{head}:\n  {command}")
    return 0


def describe(row: Mapping[str, Any], axes: Mapping[str, Any], run_folder: str) -> list[str]:
    """Return a row in lines for people: what it shows, how it was drawn, where it lies."""
    size = f"{row['width']} × {row['height']} px" if row["width"] else None
    facts = {
        "image": row["image_id"],
        "status": row["status"] if row["error"] is None else f"{row['status']}: {row['error']}",
        "prompt": row["prompt"],
        "not read": "the end of the prompt, which is too long" if row["prompt_truncated"] else None,
        "not seen": row["unseen"] or None,
        "subject": row["subject"],
        "style": row["style"],
        "template": row["template"],
        **axes,
        "seed": row["seed"],
        "model": f"{row['model']} ({row['model_fingerprint']}, {row['dtype']}, {row['device']})",
        **json.loads(row["params"]),
        "size": size,
        "drawn": f"{row['created_at']:%Y-%m-%d %H:%M:%S} UTC, {row['seconds']:.3g} s, "
        f"in a batch of {row['batch_size']}",
        "cost": None if row["cost_usd"] is None else f"{row['cost_usd']:.4g} USD",
        "numerics": row["numerics"] or None,
        "drawn from": _describe_source(row),
        "descends from": ", ".join(row["parent_ids"] or ()) or None,
        "pixels": None if row["sha256"] is None else f"sha256 {row['sha256']}",
        "sweep": f"{row['sweep']}, job {row['job_id']}, cell {row['cell_id']}, arm {row['arm_id']}",
        "run": run_folder,
        "file": None if row["path"] is None else f"{run_folder}/{row['path']}",
    }
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown))
    # Prompts may hold line breaks and terminal codes: print them escaped.
    return [f"{name:<{width}}  {_printable(str(value))}" for name, value in shown.items()]


def _describe_source(row: Mapping[str, Any]) -> str | None:
    if row["source_id"] is None or row["is_source_repeatable"] is not False:
        return row["source_id"]
    return f"{row['source_id']}, which cannot be drawn again: its pixels were used as they are"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
