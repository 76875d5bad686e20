"""The command line: finds the verb, runs it, and turns errors into one clear message.

Takes arguments, returns an exit code. Imports a verb's module only when that verb is called, so
`promptlab --help` costs nothing.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import keyword
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from promptlab.errors import EXIT_INTERRUPTED, PromptlabError, SweepInterruptedError
from promptlab.identity import escape_surrogates
from promptlab.redaction import redact_text
from promptlab.version import __version__

VERBS = {
    "sweep": "draw a grid of images (Hydra's grammar: see promptlab sweep --help)",
    "report": "build the contact sheet of a run",
    "show": "print everything that made an image, and the command that draws it again",
    "vary": "draw images anew from picked ones, partly kept",
    "upscale": "enlarge images",
    "pick": "rate an image, or import picks from a contact sheet",
    "score": "give images scores: how well they show their prompt, how sharp, how new",
    "taste": "learn from your picks what you like, and score images by it",
    "import": "make a run of images that other tools drew",
    "serve": "a page for the phone, live sheets and an images API, on models that stay loaded",
    "queue": "what `promptlab serve` draws next: list, add, cancel, move",
    "verify": "draw a sample of a run again and compare the pixels",
    "sync": "bring MLflow up to date with a run",
    "ui": "open MLflow's UI on this folder's store",
    "models": "list the models, or what one of them accepts",
    "styles": "list the styles and templates with what they say",
    "doctor": "check versions, devices, disk, MLflow and weights",
}
EPILOG = """\
promptlab sweep -m subject='a fox,a robot' style=noto,openmoji seeds=4
promptlab sweep +sweeps=subject_x_style
promptlab ui
"""
LOOKALIKES = {
    **{"→": "->", "…": "...", "×": "x", "·": "-", "–": "-"},
    **{"“": '"', "”": '"', "’": "'"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        _write_any_character(stream)
    try:
        check_encoding(arguments)
        return _run(arguments)
    except PromptlabError as error:
        return _explain(error)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong and nobody listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if is_full_error_wanted() or error.strerror is None:
            raise
        place = f": {error.filename}" if error.filename else ""
        return _print_error(f"{error.strerror}{place}")
    except Exception as error:
        if is_full_error_wanted() or not type(error).__module__.startswith("botocore."):
            raise
        return _print_error(
            f"The object store cannot be used: {error}. Expected one that answers and lets you "
            "write; check its address, bucket and credentials, then run the same command again."
        )


def check_encoding(arguments: Sequence[str]) -> None:
    """Refuse arguments that hold bytes outside UTF-8: no file that we write could hold them."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptlabError(
                f"The argument {argument!r} is not UTF-8 at position {error.start}. Write it in "
                "UTF-8, and check the terminal's locale (LANG)."
            ) from None


def _write_any_character(stream: TextIO | None) -> None:
    """Let a stream that is not UTF-8 show what it has no character for in other ones."""
    if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower() != "utf-8":
        codecs.register_error("promptlab", _spell_out)
        stream.reconfigure(errors="promptlab")


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    spelled = (
        LOOKALIKES.get(c) or c.encode("ascii", "backslashreplace").decode("ascii")
        for c in characters
    )
    return "".join(spelled), error.end


def is_full_error_wanted() -> bool:
    """Tell whether the user asked for tracebacks, by Hydra's own variable."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] == "sweep":
        from promptlab.commands import sweep

        return sweep.run_arguments(arguments[1:])
    if arguments[:2] == ["queue", "add"]:  # what follows is for sweep
        from promptlab.commands import queue

        return queue.add(arguments[2:])
    if "-sc" in arguments or "--shell-completion" in arguments:
        from promptlab.commands import completion

        return completion.run_arguments(arguments, list(VERBS))
    parser = argparse.ArgumentParser(
        prog="promptlab",
        description="Prompt sweeps of text-to-image models.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n" + "".join(f"  {line}\n" for line in EPILOG.splitlines()),
    )
    parser.add_argument("--version", action="version", version=f"promptlab {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = arguments[0] if arguments else None
    for verb, help_text in VERBS.items():
        verb_parser = verbs.add_parser(
            verb, help=help_text, description=help_text[0].upper() + help_text[1:]
        )
        if verb == chosen:
            command = importlib.import_module(f"promptlab.commands.{module_of_verb(verb)}")
            command.add_arguments(verb_parser)
            args = verb_parser.parse_intermixed_args(arguments[1:])
            return int(command.run(args))
    if not arguments:
        parser.print_help()
        return 0
    parser.parse_args(arguments)  # no verb: --help, --version or an error
    return 0


def module_of_verb(verb: str) -> str:
    """Return the module of a verb: its name, unless Python reserves it."""
    return f"{verb}_" if keyword.iskeyword(verb) else verb


def _explain(error: PromptlabError) -> int:
    if is_full_error_wanted():
        raise error
    if isinstance(error, SweepInterruptedError):
        print(f"\n{error}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return _print_error(str(error))


def _print_error(message: str) -> int:
    # A message may quote a file's name that is not UTF-8, which a terminal would refuse.
    print(f"promptlab: {escape_surrogates(redact_text(message))}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
