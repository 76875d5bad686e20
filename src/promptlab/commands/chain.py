"""The steps after a sweep: `then` in its config, such as [vary --picked seeds=9, upscale --picked].

Takes the steps and the run folder that they begin with; each step is a command on the run of the
step before, and draws a run of its own. A step without picks waits: the same command again resumes
there. Knows no step's inside.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import shlex
from collections.abc import Sequence

from promptlab.errors import ConfigError, NoPicksError

log = logging.getLogger(__name__)

VERBS = ("vary", "upscale", "score", "report", "verify")
PASSED = ("tracking", "store", "report", "limit", "reuse")  # keys that the steps of a chain share


def read_steps(value: object) -> list[list[str]]:
    """Return the words of each step; ConfigError for one that is none."""
    if value is None:
        return []
    texts = value if isinstance(value, list | tuple) else [value]
    try:
        steps = [shlex.split(str(text)) for text in texts]
    except ValueError:  # a quotation mark without its partner
        steps = [[]]
    if not all(step and step[0] in VERBS for step in steps):
        raise ConfigError(
            f"then={value!r}: expected commands on the run, of {', '.join(VERBS)}, such as "
            """then='["vary --picked seeds=9", "upscale --picked"]'."""
        )
    return steps


def follow(
    steps: Sequence[Sequence[str]], run_folder: str, runs_dir: str, overrides: Sequence[str]
) -> int:
    """Run each step on the run of the step before; return the first exit code that is not 0."""
    passed = [o for o in overrides if o.partition("=")[0].split(".")[0] in PASSED and "=" in o]
    for verb, *words in steps:
        log.info("Then: promptlab %s %s", verb, shlex.join([run_folder, *words]))
        command = importlib.import_module(f"promptlab.commands.{verb}")
        parser = argparse.ArgumentParser(prog=f"promptlab {verb}")
        command.add_arguments(parser)
        draws = hasattr(command, "draw")
        args = parser.parse_intermixed_args([run_folder, *words, *(passed if draws else [])])
        args.runs_dir = runs_dir
        try:
            if draws:
                code, run_folder = command.draw(args)
            else:
                code = int(command.run(args))
        except NoPicksError as error:
            log.info("Waiting: %s\nThen run the same command again; it resumes here.", error)
            return 0
        if code:
            return code
    return 0
