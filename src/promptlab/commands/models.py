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
from promptlab.configs.vocabulary import Option, find_options, opening_comment, read_option
from promptlab.errors import ConfigError, PromptlabError
from promptlab.models.protocol import CompleteModel
from promptlab.models.registry import open_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="a model, as in model=NAME")


def run(args: argparse.Namespace) -> int:
    """Print all models, or one."""
    options = find_options("model")
    if args.name is None:
        for option in options.values():
            print(f"{option.name}{'  (yours)' if option.is_own else ''}")
            print(textwrap.indent(opening_comment(option), "    "))
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


def describe_model(option: Option) -> Iterator[str]:
    """Yield lines on one model."""
    yield f"{option.name}: {opening_comment(option)}"
    content = read_option(option)
    model = open_model(content.get("model", content))
    yield f"  config       {option.path}"
    yield f"  images       {model.image_size[0]}×{model.image_size[1]} px"
    yield f"  runs in      {model.dtype} on {model.device}"
    promises = {True: "every time", False: "not promised", None: "tried when it draws"}
    yield f"  same bytes   {promises[model.is_deterministic]}"
    yield f"  weights      {_describe_weights(model)}"
    yield "  parameters (any of them can be swept)"
    for name, parameter in model.parameters.items():
        text = f"{parameter.describe()}, default {parameter.default}"
        yield f"    {name:<22} {text}. {parameter.description}".rstrip()
    for name, file in model.words.items():
        yield from _describe_words(name.rpartition("/")[2], file)


def _describe_weights(model: CompleteModel) -> str:
    if not model.is_downloaded:
        return "not here yet: downloaded by its first sweep"
    try:
        return model.fingerprint
    except PromptlabError as error:
        return f"not here: {error}"


def _describe_words(noun: str, file: Path) -> Iterator[str]:
    """Yield the words of a list: texts, one a line, or styles with their phrases in JSON."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        yield f"  {noun} (style=NAME, or the words in a prompt)"
        for style in json.loads(text):
            words = style["plain_phrase"].replace("{prompt} ", "")
            yield f"    {style['name']:<22} {style['description']} (“{words}”)"
        return
    words = text.splitlines()
    yield f"  {len(words):,} {noun}"
    yield textwrap.indent(textwrap.fill(", ".join(words), 96), "    ")
