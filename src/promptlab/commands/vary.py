"""`promptlab vary`: draw images anew from images, as an ordinary sweep over parents."""

from __future__ import annotations

import argparse

from promptlab.commands import choosing

NUM_SEEDS = 8  # variations of each image, unless the command says otherwise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    choosing.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do what `draw` does; return its exit code."""
    return draw(args)[0]


def draw(args: argparse.Namespace) -> tuple[int, str]:
    """Draw variations of what was chosen; return the sweep's exit code and its run folder."""
    from promptlab.commands.sweep import draw_arguments

    targets, overrides = choosing.split_words(args.words)
    chosen = choosing.choose(args, targets)
    if not any(override.lstrip("+").startswith("seeds=") for override in overrides):
        overrides = [f"seeds={NUM_SEEDS}", *overrides]
    code, run_folder = draw_arguments(
        [
            *(["--plan"] if args.plan else []),
            f"--from-images={','.join(chosen.image_ids)}",
            f"runs_dir={args.runs_dir}",
            *choosing.named(chosen, overrides, "_varied"),
        ]
    )
    if not args.plan:
        choosing.bring_pages_up_to_date(chosen)
    return code, run_folder
