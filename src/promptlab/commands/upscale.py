"""`promptlab upscale`: enlarge images, as an ordinary sweep over parents."""

from __future__ import annotations

import argparse

from promptlab.commands import choosing

DEFAULT = "animevideov3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    choosing.add_arguments(parser)
    parser.add_argument(
        "--model", default=DEFAULT, help=f"the upscaler, of conf/model (default: {DEFAULT})"
    )


def run(args: argparse.Namespace) -> int:
    """Do what `draw` does; return its exit code."""
    return draw(args)[0]


def draw(args: argparse.Namespace) -> tuple[int, str]:
    """Enlarge what was chosen; return the sweep's exit code and its run folder."""
    from promptlab.commands.sweep import draw_arguments

    targets, overrides = choosing.split_words(args.words)
    chosen = choosing.choose(args, targets)
    code, run_folder = draw_arguments(
        [
            *(["--plan"] if args.plan else []),
            "--multirun",
            f"model={args.model}",
            f"parent={','.join(chosen.image_ids)}",
            f"runs_dir={args.runs_dir}",
            *choosing.named(chosen, overrides, "_upscaled"),
        ]
    )
    if not args.plan:
        choosing.bring_pages_up_to_date(chosen)
    return code, run_folder
