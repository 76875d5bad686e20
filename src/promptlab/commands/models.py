"""`promptlab models [NAME]`: the models there are, or what one of them accepts and knows.

Reads config files and opens the model that is asked for, without loading its weights.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from promptlab.configs.explain import close_names
from promptlab.configs.locations import PACKAGE
from promptlab.configs.vocabulary import Option, find_options, read_option
from promptlab.errors import ConfigError, PromptlabError
from promptlab.models.protocol import Model
from promptlab.models.registry import open_model

TINY_FOLDER = PACKAGE / "models" / "tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="a model, as in model=NAME")


def run(args: argparse.Namespace) -> int:
    """Print all models, or one."""
    options = find_options("model")
    if args.name is None:
        for option in options.values():
            print(f"{option.name}{'  (yours)' if option.is_own else ''}")
            print(textwrap.indent(describe_file(option), "    "))
        print(
            "\n`promptlab models NAME` says what a model accepts. Your own: conf/model/NAME.yaml."
        )
        return 0
    if args.name not in options:
        close = close_names(args.name, options)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"Unknown model {args.name!r}.{hint} Known: {', '.join(options)}.")
    print("\n".join(describe_model(options[args.name])))
    return 0


def describe_file(option: Option) -> str:
    """Return the comment that opens a config file."""
    lines = option.path.read_text(encoding="utf-8").splitlines()
    comments = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            comments.append(line.removeprefix("#").strip())
    return " ".join(comments) or "no description"


def describe_model(option: Option) -> Iterator[str]:
    """Yield lines on one model."""
    yield f"{option.name}: {describe_file(option)}"
    content = read_option(option)
    model = open_model(content.get("model", content))
    yield f"  config       {option.path}"
    yield f"  images       {model.image_size[0]}×{model.image_size[1]} px"
    yield f"  runs in      {model.dtype} on {model.device}"
    yield f"  same bytes   {'every time' if model.is_deterministic else 'not promised'}"
    yield f"  weights      {_describe_weights(model)}"
    yield "  parameters (any of them can be swept)"
    for name, parameter in model.parameters.items():
        text = f"{parameter.describe()}, default {parameter.default}"
        yield f"    {name:<22} {text}. {parameter.description}".rstrip()
    if option.name == "tiny":
        yield from _describe_tiny()


def _describe_weights(model: Model) -> str:
    if not getattr(model, "is_downloaded", True):
        return "not here yet: downloaded by its first sweep"
    try:
        return model.fingerprint
    except PromptlabError as error:
        return f"not here: {error}"


def _describe_tiny() -> Iterator[str]:
    styles = _read(TINY_FOLDER / "styles.json")
    if styles:
        yield "  styles (style=NAME, or the words in a prompt)"
        for style in json.loads(styles):
            words = style["plain_phrase"].replace("{prompt} ", "")
            yield f"    {style['name']:<22} {style['description']} (“{words}”)"
    subjects = _read(TINY_FOLDER / "subjects.txt").splitlines()
    if subjects:
        yield f"  {len(subjects):,} subjects"
        yield textwrap.indent(textwrap.fill(", ".join(subjects), 96), "    ")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
